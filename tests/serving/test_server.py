"""A server on a socket: many clients at once, its start, its end, and the death of a worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from seq2seq.errors import UsageError
from seq2seq.runs.loaded_run import LoadedRun
from seq2seq.serving.server import Server, address_of, listen
from tests.children import Child, is_gone
from tests.cli.conftest import run_command
from tests.serving.conftest import OLD_RUNS, english

RUNS = OLD_RUNS / "runs"
LINES = (OLD_RUNS / "corpus.en").read_text(encoding="utf-8").splitlines()


@contextmanager
def running(paced: Any) -> Iterator[str]:
    """The address of a server in a thread."""
    over = threading.Event()
    with listen("127.0.0.1", 0) as listener:
        address = address_of(listener)
        server = Server(paced.service, over.is_set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield address
        finally:
            over.set()
            thread.join(60)
    assert not thread.is_alive()


def test_32_clients_are_translated_together(paced: Any) -> None:
    paced = paced()
    paced.run.go.clear()

    async def clients(address: str) -> list[str]:
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:

            async def one(number: int) -> str:
                answer = await client.post("/translate", json=english(f"text {number}"))
                return str(answer.json()["translatedText"])

            async def release() -> None:
                await asyncio.to_thread(paced.run.begun.acquire)
                while sum(map(len, paced.run.batches)) + paced.run.batcher.waiting < 32:
                    await asyncio.sleep(0.001)
                paced.run.go.set()

            *answers, _ = await asyncio.gather(*map(one, range(32)), release())
            return answers

    with running(paced) as address:
        assert asyncio.run(clients(address)) == [f"TEXT {number}" for number in range(32)]
    assert len(paced.run.batches) == 2
    assert sum(map(len, paced.run.batches)) == 32


@contextmanager
def served(folder: Path, *options: object) -> Iterator[tuple[Child, str]]:
    """`seq2seq serve` and its address; loops are not compiled, which would take half a minute."""
    arguments = ("serve", RUNS / "transformer", "--port", "0", "--threads", "1", *options)
    with Child(*arguments, folder=folder, environment={"NUMBA_DISABLE_JIT": "1"}) as child:
        child.wait_for(lambda: child.out.endswith("\n"))
        yield child, child.out.strip()


def test_a_stop_finishes_what_was_begun(tmp_path: Path, loaded: LoadedRun) -> None:
    """A request whose body comes after SIGTERM is answered; new ones find nobody; nothing is left."""
    with served(tmp_path, "--workers", "2") as (child, address):
        assert httpx.post(f"{address}/translate", data=english(LINES[0])).json() == {
            "translatedText": loaded.translate(LINES[0])
        }
        workers = child.children()
        assert len(workers) == 2
        body = json.dumps(english(LINES[1])).encode()
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as open_request:
            open_request.sendall(
                b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            httpx.get(f"{address}/health")  # the head of the request has been read when this is answered
            child.send(signal.SIGTERM)
            child.wait_for(lambda: not accepts(host, int(port)))
            open_request.sendall(body)
            answer = open_request.makefile("rb").read()
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"translatedText": loaded.translate(LINES[1])}
        outcome = child.end()
    assert outcome.code == 128 + signal.SIGTERM
    assert outcome.err == f"en-de by {RUNS / 'transformer'} (step-00000250)\nstopped by SIGTERM\n"
    assert all(map(is_gone, workers))


def accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port)).close()
    except OSError:
        return False
    return True


def test_a_worker_that_dies_is_replaced(tmp_path: Path, loaded: LoadedRun) -> None:
    with served(tmp_path, "--workers", "2") as (child, address):
        for worker in child.children():
            os.kill(worker, signal.SIGKILL)
            child.wait_for(lambda worker=worker: is_gone(worker))
        answer = httpx.post(f"{address}/translate", json=english(LINES[0]), timeout=60)
        assert answer.json() == {"translatedText": loaded.translate(LINES[0])}
        child.send(signal.SIGINT)
        assert child.end().code == 128 + signal.SIGINT


@pytest.mark.parametrize(
    ("arguments", "what", "hint", "code"),
    [
        (["--port", "1", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1 port 1: ", "--host 127.0.0.1", 2),
        ([RUNS / "transformer"], "both translate en-de", "one run for each pair of languages", 2),
        ([RUNS / "gru", "--glossary", "terms.tsv"], "--glossary belongs to one pair", "on a port of its own", 2),
        ([RUNS / "gru", "--ensemble", "other"], "--ensemble belongs to one pair", "on a port of its own", 2),
        ([RUNS / "gru", "--rerank", "back"], "--rerank belongs to one pair", "on a port of its own", 2),
        (["--rerank", "back", "-b", "1"], "a beam of 1 has one", "--beam-size 5", 2),
        (["--api-keys", "/absent"], "cannot read /absent", "one key a line", 3),
        # An origin with a slash or a path allowed nothing, without a word.
        (["--allow-origin", "https://a.org/page"], "'https://a.org/page' is no origin", "https://example.org", 2),
        (["--allow-host", "https://a.org"], "'https://a.org' is no name of a host", "translate.example.org", 2),
        (["--api-keys", os.devnull], "has no API key", "one key a line", 3),
    ],
)
def test_what_cannot_be_served_is_said(arguments: list[Any], what: str, hint: str, code: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seq2seq.serving.served_run.ServedRun.warm_up", lambda run: None)
        outcome = run_command("serve", RUNS / "transformer", "--workers", "1", *arguments)
    assert outcome.code == code
    assert what in outcome.err
    assert hint in outcome.err


def test_a_port_in_use_is_said() -> None:
    with listen("127.0.0.1", 0) as listener, pytest.raises(UsageError, match="in use") as error:
        listen("127.0.0.1", listener.getsockname()[1])
    assert error.value.hint == "--port 0 takes a free port"


def test_a_port_in_use_is_said_before_anything_is_loaded() -> None:
    """It was told after the run was loaded and its loops compiled, up to a minute later."""
    with listen("127.0.0.1", 0) as listener:
        outcome = run_command("serve", "no-such-run", "--port", listener.getsockname()[1])
    assert outcome.code == 2
    assert "Address already in use" in outcome.err


def test_an_address_of_ipv6_has_brackets() -> None:
    with listen("::1", 0) as listener:
        assert address_of(listener).startswith("http://[::1]:")
