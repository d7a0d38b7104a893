"""Requests as they come: bodies in JSON and in the two forms of HTML, and their values, checked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from starlette.requests import Request

from seq2seq.serving.limits import Limits, Refusal

_TRUE, _FALSE = ("true", "1", "on", "yes"), ("", "false", "0", "off", "no")


async def read_fields(request: Request, limits: Limits) -> dict[str, Any]:
    """The fields of a body: of a JSON object, or of a form.

    Raises:
        Refusal: the body is too long (413), too slow (408) or malformed (400).
        ClientDisconnect: the client has gone.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 15 or int(declared) > limits.body):
        raise _too_long(limits)
    try:
        body = await asyncio.wait_for(_body(request, limits), limits.seconds)
    except asyncio.TimeoutError:
        raise Refusal(408, "the request did not arrive in time") from None
    try:
        return _parse(body, request.headers.get("content-type", ""))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        pass
    raise Refusal(400, "the body is neither a JSON object nor a form")


async def _body(request: Request, limits: Limits) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.body:
            raise _too_long(limits)
    return bytes(body)


def _parse(body: bytes, kind: str) -> dict[str, Any]:
    media_type = kind.partition(";")[0].strip().lower()
    if media_type == "application/x-www-form-urlencoded":
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="replace", max_num_fields=10_000)
    elif media_type == "multipart/form-data":
        head = f"content-type: {kind}\r\n\r\n".encode("latin-1")
        parts = BytesParser(policy=HTTP).parsebytes(head + body).iter_parts()
        pairs = [(str(part.get_param("name", header="content-disposition")), _payload(part)) for part in parts]
    else:
        found = json.loads(body)
        if not isinstance(found, dict):
            raise ValueError
        return found
    fields: dict[str, Any] = {}
    for name, value in pairs:  # `q` may be repeated
        fields[name] = value if name not in fields else [*_listed(fields[name]), value]
    return fields


def _payload(part: Any) -> str:
    payload = part.get_payload(decode=True)
    return bytes(payload or b"").decode("utf-8", "replace")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class TranslateFields(NamedTuple):
    """The fields of a request for a translation."""

    texts: list[str]
    is_list: bool
    """Whether `q` is a list, which is answered by lists."""
    source: str
    target: str
    is_html: bool
    alternatives: int
    scores: bool
    attention: bool

    @classmethod
    def checked(cls, fields: Mapping[str, Any], limits: Limits) -> TranslateFields:
        """The fields of a body. Raises `Refusal` for missing and impossible values (400), and too long texts (413)."""
        format_ = fields.get("format") or "text"
        if format_ not in ("text", "html"):
            raise Refusal(400, "format must be text or html")
        return cls(
            texts_of(fields, limits),
            isinstance(fields.get("q"), list),
            _string(fields, "source"),
            _string(fields, "target"),
            format_ == "html",
            _number(fields, "alternatives", limits.alternatives),
            _flag(fields, "scores"),
            _flag(fields, "attention"),
        )


def texts_of(fields: Mapping[str, Any], limits: Limits) -> list[str]:
    """The texts of `q`. Raises as `TranslateFields.checked`."""
    texts = _listed(fields.get("q"))
    if not texts or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, "q must be a text or a list of texts")
    if (characters := sum(map(len, texts))) > limits.characters:
        raise Refusal(413, f"{characters} characters, but a request may have {limits.characters}")
    return texts


def _too_long(limits: Limits) -> Refusal:
    return Refusal(413, f"the request is too long: at most {limits.characters} characters of text")


def _string(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise Refusal(400, f"{name} must be a language code; GET /languages lists them")
    return value


def _number(fields: Mapping[str, Any], name: str, most: int) -> int:
    value = fields.get(name)
    if value is None or value == "":
        return 0
    if isinstance(value, str) and value.isdecimal() and len(value) < 9:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise Refusal(400, f"{name} must be a number from 0 to {most}")
    return value


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    text = "" if value is None else str(value).lower() if isinstance(value, (str, bool, int)) else None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise Refusal(400, f"{name} must be true or false")
