"""Pages of other sites cannot use a server on the user's machine, unless they are allowed to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seq2seq.cli.serve import _read_keys
from seq2seq.serving.access import Access
from tests.serving.conftest import ask, english, post


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:5000", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:5000", 200),
        ("evil.example:5000", 403),  # a name that was rebound to 127.0.0.1
        ("127.0.0.1.evil.example", 403),
        ("", 403),
        ("[", 403),
    ],
)
def test_a_loopback_server_answers_under_its_names(paced: Any, host: str, status: int) -> None:
    [answer] = ask(paced().service, ("GET", "/health", {"headers": {"host": host}}))
    assert answer.status_code == status


def test_no_redirect_leads_to_a_foreign_host(paced: Any) -> None:
    """`/languages/` was redirected to the name in the `Host` header, which was not checked."""
    [answer] = ask(paced().service, ("GET", "/languages/", {"headers": {"host": "evil.example"}}))
    assert (answer.status_code, "location" in answer.headers) == (404, False)


def test_every_page_answers_a_preflight(paced: Any) -> None:
    """A page that sends `Content-Type` with `GET /languages`, as clients of LibreTranslate do, asks first."""
    service = paced(access=Access.on("127.0.0.1", (), ("https://good.example",), ())).service
    for path in ("/languages", "/health", "/frontend/settings", "/detect"):
        [answer] = ask(service, ("OPTIONS", path, {"headers": {"origin": "https://good.example"}}))
        assert (answer.status_code, answer.headers["access-control-allow-headers"]) == (
            200,
            "Content-Type, Authorization",
        )
        assert not answer.content


def test_other_names_can_be_allowed() -> None:
    assert Access.on("0.0.0.0", (), (), ()).hosts == ()
    assert "translate.example" in Access.on("127.0.0.1", ("Translate.example",), (), ()).hosts


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        ("http://127.0.0.1:5000", (), 200),  # the server's own page
        ("https://127.0.0.1:5000", (), 200),  # behind a proxy that speaks TLS
        ("http://127.0.0.1:8000", (), 403),
        ("https://evil.example", (), 403),
        ("null", (), 403),
        ("https://[", (), 403),
        ("https://good.example", ("https://good.example",), 200),
        ("https://any.example", ("*",), 200),
    ],
)
def test_origins(paced: Any, origin: str, allowed: tuple[str, ...], status: int) -> None:
    service = paced(access=Access.on("127.0.0.1", (), allowed, ())).service
    headers = {"origin": origin}
    answer = post(service, data=english("a"), headers=headers)
    assert answer.status_code == status
    [preflight] = ask(service, ("OPTIONS", "/translate", {"headers": headers}))
    assert preflight.status_code == status
    shown = {"*": "*"}.get(allowed[0], origin) if allowed else None
    assert answer.headers.get("access-control-allow-origin") == shown
    assert preflight.headers.get("access-control-allow-origin") == shown


def test_a_file_of_keys_may_have_comments_and_a_mark(tmp_path: Path) -> None:
    """The byte-order mark made the first key invalid, and a comment was a key."""
    file = tmp_path / "keys"
    file.write_bytes(b"\xef\xbb\xbffirst\r\n\n  # of the shop\n second#2 \n")
    assert _read_keys(file) == ("first", "second#2")
