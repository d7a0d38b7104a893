"""Access control of the server: host names, origins of pages, API keys.

A page of another site must not use a server on the user's own machine: on a loopback address the `Host` header has to
name it (a DNS name that was rebound to 127.0.0.1 does not), and a request with an `Origin` has to come from the
server's own page or an allowed one.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from seq2seq.serving.limits import Refusal

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Access(NamedTuple):
    """Access control: the host names, origins and keys that are allowed."""

    hosts: tuple[str, ...] = ()
    """Names that the `Host` header may have; empty for any."""
    origins: tuple[str, ...] = ()
    """Origins of pages, `https://example.org`, that may use the API; `*` is every one."""
    keys: tuple[str, ...] = ()
    """API keys, one of which a request for a translation must have; empty for none."""

    @classmethod
    def on(cls, address: str, hosts: Sequence[str], origins: Sequence[str], keys: Sequence[str]) -> Access:
        """The access to a server that listens on an address: on the loopback only under its names."""
        is_loopback = address in _LOOPBACK or address.startswith("127.")
        names = (*_LOOPBACK, address, *hosts) if is_loopback or hosts else ()
        return cls(tuple(name.lower() for name in names), tuple(origins), tuple(keys))

    def check_sender(self, request: Request) -> None:
        """Raise `Refusal` (403) for a request under another name, or from another site's page."""
        host = request.headers.get("host", "")
        # A browser always sends the header; a health check in HTTP/1.0 need not.
        if self.hosts and "host" in request.headers and _name(host) not in self.hosts:
            raise Refusal(403, "this server does not answer under that Host name (--allow-host)")
        origin = request.headers.get("origin")
        if origin and not self._allows(origin) and _host_of(origin) != host.lower():
            raise Refusal(403, "pages of that origin may not use this server (--allow-origin)")

    def _allows(self, origin: str) -> bool:
        return "*" in self.origins or origin in self.origins

    def check_key(self, request: Request, fields: Mapping[str, Any]) -> None:
        """Raise `Refusal` (403) without a valid API key, where one is needed."""
        if not self.keys:
            return
        given = fields.get("api_key") or _bearer_token(request.headers.get("authorization", ""))
        if isinstance(given, str):
            given = given.encode("utf-8", "replace")
        if not isinstance(given, bytes) or not any(hmac.compare_digest(given, key.encode()) for key in self.keys):
            raise Refusal(403, "a valid api_key is needed")

    def add_headers(self, request: Request, response: Response) -> None:
        """Add the headers that tell a browser which pages may read the answer."""
        response.headers["x-content-type-options"] = "nosniff"
        response.headers.setdefault("cache-control", "no-store")
        origin = request.headers.get("origin")
        if origin and self._allows(origin):
            response.headers["access-control-allow-origin"] = "*" if "*" in self.origins else origin
            response.headers["vary"] = "Origin"
            response.headers["access-control-allow-methods"] = "GET, POST, OPTIONS"
            response.headers["access-control-allow-headers"] = "Content-Type, Authorization"
            response.headers["access-control-max-age"] = "600"


def _bearer_token(header: str) -> bytes:
    """The token of an `Authorization` header of RFC 6750, in the bytes that the client sent."""
    scheme, _, token = header.partition(" ")
    return token.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b""


def _name(host: str) -> str:
    """The name of a `Host` header, without its port."""
    name = host.lower().strip()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if ":" in name else name


def _host_of(origin: str) -> str:
    """Host and port of an origin; empty for `null` and for what is no origin."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
