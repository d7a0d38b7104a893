"""Every limit refuses what is beyond it, with its status, and drops the work."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from seq2seq.serving.app import Service
from seq2seq.serving.limits import Limits, RateLimiter, Refusal
from tests.serving.conftest import ask, english, post


def test_too_much_text_is_refused(paced: Any) -> None:
    service = paced(Limits(characters=10)).service
    assert post(service, json=english("0123456789")).status_code == 200
    answer = post(service, json=english(["012345", "67890"]))
    assert (answer.status_code, answer.json()) == (413, {"error": "11 characters, but a request may have 10"})


def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/translate",
        "raw_path": b"/translate",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"localhost"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 5000),
    }


class Connection:
    """A client whose messages a test writes one by one."""

    def __init__(self, service: Service, *headers: tuple[bytes, bytes]) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.read = 0
        self.task = asyncio.ensure_future(service.app(scope(*headers), self._receive, self._send))  # type: ignore[arg-type]

    async def _receive(self) -> dict[str, Any]:
        message = await self.messages.get()
        self.read += len(message.get("body", b""))
        return message

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def write(self, body: bytes, *, more: bool = False) -> None:
        self.messages.put_nowait({"type": "http.request", "body": body, "more_body": more})

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])


async def queued(paced: Any, *bodies: dict[str, Any], waiting: int = 0) -> list[Connection]:
    """A client for each body: the translation of the first is halted, and `waiting` sentences wait behind it."""
    paced.run.go.clear()
    clients = []
    for body in bodies:
        clients.append(Connection(paced.service))
        clients[-1].write(json.dumps(body).encode())
        if len(clients) == 1:
            await asyncio.to_thread(paced.run.begun.acquire)
    while paced.run.batcher.waiting < waiting:
        await asyncio.sleep(0)
    return clients


async def answered(paced: Any, clients: list[Connection]) -> list[int]:
    """The translation goes on; the status of every answer."""
    paced.run.go.set()
    await asyncio.gather(*(client.task for client in clients))
    return [client.status for client in clients]


def test_a_body_is_not_read_beyond_its_limit(paced: Any) -> None:
    """Neither one that declares its size nor one that does not."""
    limits = Limits(characters=10)
    service = paced(limits).service

    async def send() -> None:
        declared = Connection(service, (b"content-length", b"9" * 400))
        await declared.task
        assert (declared.status, declared.read) == (413, 0)
        endless = Connection(service)
        for _ in range(100):
            endless.write(b"x" * 1000, more=True)
        await endless.task
        assert endless.status == 413
        assert limits.body < endless.read <= limits.body + 1000

    asyncio.run(send())


def test_a_slow_body_is_given_up(paced: Any) -> None:
    service = paced(Limits(seconds=0.05)).service

    async def send() -> None:
        slow = Connection(service)
        slow.write(b"{", more=True)
        await slow.task
        assert slow.status == 408

    asyncio.run(send())


def test_a_slow_translation_is_given_up_and_its_rest_dropped(paced: Any) -> None:
    paced = paced(Limits(seconds=0.2))
    paced.run.go.clear()
    paced.run.batcher._max_tokens = 1  # a sentence a round
    answer = post(paced.service, json=english("one.\ntwo.\nthree."))
    assert answer.status_code == 504
    assert paced.run.batcher.waiting == 0
    paced.run.go.set()
    paced.service.limits = Limits()
    assert post(paced.service, json=english("four.")).json() == {"translatedText": "FOUR."}
    assert paced.run.batches == [["one."], ["four."]]


def test_a_client_that_goes_cancels_its_work(paced: Any) -> None:
    paced = paced()
    paced.run.batcher._max_tokens = 1

    async def send() -> None:
        [client] = await queued(paced, english("one.\ntwo."))
        client.messages.put_nowait({"type": "http.disconnect"})
        await client.task
        assert client.status == 499

    asyncio.run(send())
    assert paced.run.batcher.waiting == 0
    paced.run.go.set()
    assert post(paced.service, json=english("three.")).json() == {"translatedText": "THREE."}
    assert paced.run.batches == [["one."], ["three."]]


def test_a_full_queue_refuses(paced: Any) -> None:
    paced = paced(Limits(waiting=2))

    async def send() -> None:
        clients = await queued(paced, *map(english, ("one.", "two.", "three.", "four.")))
        await clients[3].task
        assert (b"retry-after", b"1") in clients[3].sent[0]["headers"]
        assert await answered(paced, clients) == [200, 200, 200, 503]

    asyncio.run(send())
    assert paced.run.batches == [["one."], ["two.", "three."]]


def test_the_texts_of_a_request_do_not_wait_for_each_other(paced: Any) -> None:
    """Those behind the limit were refused on an idle server, as often as the request was sent."""
    paced = paced(Limits(waiting=2))

    async def send() -> None:
        clients = await queued(paced, english("wait."), english(["one.", "two.", "three.", "four."]))
        assert await answered(paced, clients) == [200, 200]

    asyncio.run(send())
    assert sum(map(len, paced.run.batches)) == 5


def test_a_client_that_asks_too_often_waits(paced: Any) -> None:
    service = paced(Limits(rate=2)).service
    statuses = [post(service, json=english("a")) for _ in range(3)]
    assert [answer.status_code for answer in statuses] == [200, 200, 429]
    assert 1 <= int(statuses[2].headers["retry-after"]) <= 30
    assert ask(service, ("GET", "/languages", {}))[0].status_code == 200


def test_the_bucket_of_a_client_fills_again() -> None:
    now = [0.0]
    limiter = RateLimiter(60, lambda: now[0])
    for _ in range(60):
        limiter.check("a")
    limiter.check("b")
    with pytest.raises(Refusal):
        limiter.check("a")
    now[0] = 1.0
    limiter.check("a")
    with pytest.raises(Refusal):
        limiter.check("a")


def test_a_fault_is_one_request_s_alone(paced: Any, capsys: pytest.CaptureFixture[str]) -> None:
    paced = paced()

    async def send() -> list[int]:
        return await answered(paced, await queued(paced, *map(english, ("first", "fail", "good")), waiting=2))

    assert asyncio.run(send()) == [200, 500, 200]
    assert paced.run.batches == [["first"], ["fail", "good"], ["fail"], ["good"]]
    err = capsys.readouterr().err
    assert "warning: /translate: RuntimeError: a fault" in err
    assert "Traceback" not in err


def test_requests_that_wait_are_translated_together_in_turn(paced: Any) -> None:
    """One sentence of each request in turn, up to the tokens of a round; another wish is another round."""
    paced = paced()

    async def send() -> list[Any]:
        bodies = [*map(english, ("wait", "a.\nb.\nc.", "d.")), english("e.", alternatives=1)]
        clients = await queued(paced, *bodies, waiting=5)
        await answered(paced, clients)
        return [json.loads(client.sent[1]["body"]) for client in clients]

    answers = asyncio.run(send())
    assert paced.run.batches == [["wait"], ["a.", "d.", "b.", "c."], ["e."]]
    assert answers[1] == {"translatedText": "A.\nB.\nC."}
    assert answers[3] == {"translatedText": "E.", "alternatives": ["E.!"]}


def test_the_end_refuses_what_waits(paced: Any) -> None:
    paced = paced()

    async def send() -> None:
        clients = await queued(paced, english("one."), english("two."), waiting=1)
        paced.run.batcher.abort()
        await clients[1].task
        assert await answered(paced, clients) == [200, 503]

    asyncio.run(send())
    assert post(paced.service, json=english("three.")).status_code == 503
    paced.run.close()
    assert not paced.run.batcher.is_alive
    assert ask(paced.service, ("GET", "/health", {}))[0].status_code == 503
