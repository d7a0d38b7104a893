"""Services over a tiny run, and over a translator whose pace a test decides."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

import seq2seq
from seq2seq.decoding.translator import translation_options
from seq2seq.runs.loaded_run import LoadedRun
from seq2seq.serving.access import Access
from seq2seq.serving.app import Service
from seq2seq.serving.batcher import RequestOptions
from seq2seq.serving.detection import Detector
from seq2seq.serving.limits import Limits
from seq2seq.serving.served_run import Attention, Scored, ServedRun, Translated
from seq2seq.serving.server import started

OLD_RUNS = Path(__file__).parents[1] / "runs" / "old_runs"
LOOPBACK = Access.on("127.0.0.1", (), (), ())


class PacedRun(ServedRun):
    """Translates `text` to `TEXT`, word for word, a round at a time as the test lets it."""

    def __init__(self, loaded: LoadedRun, limits: Limits) -> None:
        super().__init__(loaded, translation_options(loaded.translator.settings), limits)
        self.go, self.begun = threading.Event(), threading.Semaphore(0)
        self.go.set()
        self.batches: list[list[str]] = []

    def warm_up(self) -> None:
        pass

    def _translate(self, texts: list[str], wanted: RequestOptions) -> list[Translated]:
        self.batches.append(texts)
        self.begun.release()
        assert self.go.wait(60)
        if "fail" in texts:
            raise RuntimeError("a fault")
        return [
            Translated(
                [Scored(f"{text.upper()}{'!' * n}", -float(n), -2.0 * n) for n in range(wanted.n_best)],
                diagonal(text.split()) if wanted.attention else None,
            )
            for text in texts
        ]


def diagonal(words: list[str]) -> Attention:
    """Each word is read from its own."""
    weights = [[float(row == column) for column in range(len(words))] for row in range(len(words))]
    return Attention(words, [word.upper() for word in words], weights)


@pytest.fixture(scope="session")
def loaded() -> LoadedRun:
    """A tiny run, English to German, in one thread."""
    return seq2seq.load(OLD_RUNS / "runs" / "transformer", threads=1, workers=1)


@pytest.fixture(scope="session")
def service(loaded: LoadedRun) -> Iterator[Service]:
    """A service that translates with the run itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded.translator.engine, "prepare", lambda characters: None)  # compiling takes long
        limits = Limits()
        run = ServedRun(loaded, translation_options(loaded.translator.settings), limits)
        with started([run], limits, LOOPBACK) as service:
            yield service


class Paced:
    """A service over a `PacedRun` from English to German, and one back."""

    def __init__(self, loaded: LoadedRun, limits: Limits, access: Access) -> None:
        data = loaded.config.data.model_copy(update={"source_language": "de", "target_language": "en"})
        config = loaded.config.model_copy(update={"data": data})
        back = LoadedRun(loaded.directory, config, loaded.checkpoint, loaded.translator)
        self.run, self.back = PacedRun(loaded, limits), PacedRun(back, limits)
        samples = {"en": ["the cat and the dog"], "de": ["die Katze und der Hund"]}
        for run in (self.run, self.back):
            run.start()
        self.service = Service([self.run, self.back], limits, access, Detector(samples))

    def close(self) -> None:
        for run in (self.run, self.back):
            run.go.set()
            run.close()


@pytest.fixture
def paced(loaded: LoadedRun) -> Iterator[Any]:
    """`paced(limits, access)` -> Paced."""
    made: list[Paced] = []

    def make(limits: Limits | None = None, access: Access = LOOPBACK) -> Paced:
        made.append(Paced(loaded, limits or Limits(), access))
        return made[-1]

    yield make
    for each in made:
        each.close()


def ask(service: Service, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
    """The answers to requests (method, path, arguments of httpx) that are sent at the same time."""

    async def send() -> Sequence[httpx.Response]:
        transport = httpx.ASGITransport(app=service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:5000") as client:
            return await asyncio.gather(*(client.request(method, path, **rest) for method, path, rest in requests))

    return list(asyncio.run(send()))


def post(service: Service, path: str = "/translate", **arguments: Any) -> httpx.Response:
    """The answer to one POST."""
    return ask(service, ("POST", path, arguments))[0]


def english(q: Any, **fields: Any) -> dict[str, Any]:
    """The body of a request from English to German."""
    return {"q": q, "source": "en", "target": "de", **fields}
