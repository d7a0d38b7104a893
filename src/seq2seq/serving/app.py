"""The web application: the JSON API in the request forms of LibreTranslate."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from seq2seq.console import warn
from seq2seq.languages import language_name, language_of
from seq2seq.serving.access import Access
from seq2seq.serving.batcher import RequestOptions
from seq2seq.serving.detection import Detector
from seq2seq.serving.limits import Limits, RateLimiter, Refusal
from seq2seq.serving.metrics import Metrics
from seq2seq.serving.requested_text import RequestedText
from seq2seq.serving.requests import TranslateFields, read_fields, texts_of
from seq2seq.serving.served_run import Direction, ServedRun, Translated

Answer = Callable[[Request], Awaitable[Response]]

_CLIENT_GONE = 499
"""As nginx writes it into its log; nobody receives it."""


class Service:
    """The endpoints over the served runs.

    Attributes:
        metrics: the server's counters.
        app: the ASGI application.
    """

    def __init__(self, runs: Sequence[ServedRun], limits: Limits, access: Access, detector: Detector) -> None:
        self.runs, self.limits, self.access = runs, limits, access
        self.directions = {(each.source, each.target): each for run in runs for each in run.directions()}
        self.metrics = Metrics()
        self._limiter = RateLimiter(limits.rate)
        self._detector = detector
        self._html, self._policy = _read_page()
        paths: dict[str, Answer] = {
            "/": self._page,
            "/translate": self._translate,
            "/detect": self._detect,
            "/languages": self._languages,
            "/frontend/settings": self._settings,
            "/health": self._health,
            "/metrics": self._metrics,
        }
        posts = ("/translate", "/detect")
        routes = [
            Route(path, self._guarded(path, answer), methods=["POST" if path in posts else "GET", "OPTIONS"])
            for path, answer in paths.items()
        ]
        self.app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})
        self.app.router.redirect_slashes = False  # the address of a redirect would be the unchecked `Host` header

    def _guarded(self, path: str, answer: Answer) -> Answer:
        """The endpoint behind its checks; every refusal and error becomes a JSON answer."""

        async def guarded(request: Request) -> Response:
            began = time.monotonic()
            response: Response
            try:
                self.access.check_sender(request)
                response = Response() if request.method == "OPTIONS" else await answer(request)
            except Refusal as refusal:
                response = _error(refusal.status, refusal.message)
                if refusal.retry_after:
                    response.headers["retry-after"] = str(refusal.retry_after)
            except ClientDisconnect:
                response = Response(status_code=_CLIENT_GONE)
            except Exception as error:
                warn(f"{path}: {type(error).__name__}: {error}")
                response = _error(500, "the translation failed; the server's log says why")
            self.access.add_headers(request, response)
            self.metrics.finish(path, response.status_code, time.monotonic() - began)
            return response

        return guarded

    def _check_client(self, request: Request) -> None:
        self._limiter.check(request.client.host if request.client else "")

    async def _translate(self, request: Request) -> Response:
        began = time.monotonic()
        self._check_client(request)
        body = await read_fields(request, self.limits)
        self.access.check_key(request, body)
        fields = TranslateFields.checked(body, self.limits)
        guesses = [self._detector.detect(text)[0] for text in fields.texts] if fields.source == "auto" else []
        sources = [guess.language for guess in guesses] or [fields.source] * len(fields.texts)
        chosen = [self._direction(source, fields.target) for source in sources]
        wanted = RequestOptions(1 + fields.alternatives, fields.attention)
        for run in {direction.run for direction in chosen if direction is not None}:
            run.admit()
        documents: list[RequestedText] = []
        futures: list[Future[list[Translated]]] = []
        try:
            for text, direction in zip(fields.texts, chosen, strict=True):
                tag = "" if direction is None else direction.tag
                run = self.runs[0] if direction is None else direction.run
                documents.append(document := run.read(text, tag, is_html=fields.is_html))
                if direction is not None:
                    attention = fields.attention or document.has_inline_tags
                    futures.append(run.submit(document.sentences, tag, wanted._replace(attention=attention)))
                else:
                    futures.append(_unchanged(document.sentences))
            found = await self._wait(request, futures, self.limits.seconds - (time.monotonic() - began))
        finally:
            for future in futures:
                future.cancel()
        self.metrics.characters += sum(map(len, fields.texts))
        answers = [_answer(*each, fields) for each in zip(documents, found, strict=True)]
        for answer, guess in zip(answers, guesses, strict=False):
            answer["detectedLanguage"] = guess._asdict()
        if not fields.is_list:
            return JSONResponse(answers[0])
        return JSONResponse({name: [answer[name] for answer in answers] for name in answers[0]})

    def _direction(self, source: str, target: str) -> Direction | None:
        """The run for a pair of languages; None for a pair of equal ones, whose text stays. Raises `Refusal` (400)."""
        if (source, target) in self.directions:
            return self.directions[source, target]
        pair = language_of(source), language_of(target)
        found = [one for names, one in self.directions.items() if tuple(map(language_of, names)) == pair]
        if found and all(pair) and pair[0] != pair[1]:
            return found[0]
        sources = {each.source for each in self.directions.values()}
        if source == target and source in sources:
            return None
        raise Refusal(400, f"{source!r:.20} to {target!r:.20} is not served; GET /languages lists the languages")

    async def _wait(
        self, request: Request, futures: Sequence[Future[list[Translated]]], seconds: float
    ) -> list[list[Translated]]:
        """The results. Raises `Refusal` when the time is over (504), and `ClientDisconnect` when the client goes."""
        waiting = asyncio.gather(*map(asyncio.wrap_future, futures))
        gone = asyncio.ensure_future(_disconnected(request))
        tasks: list[asyncio.Future[Any]] = [waiting, gone]
        try:
            await asyncio.wait(tasks, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return list(waiting.result())
            if gone.done():
                raise ClientDisconnect
            raise Refusal(504, f"not translated within {self.limits.seconds:g} s: send less text, or try again", 1)
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _detect(self, request: Request) -> Response:
        self._check_client(request)
        body = await read_fields(request, self.limits)
        self.access.check_key(request, body)
        texts = texts_of(body, self.limits)
        found = [[guess._asdict() for guess in self._detector.detect(text)] for text in texts]
        return JSONResponse(found if isinstance(body["q"], list) else found[0])

    async def _page(self, request: Request) -> Response:
        headers = {"content-security-policy": self._policy, "referrer-policy": "no-referrer"}
        return Response(self._html, media_type="text/html", headers=headers)

    async def _languages(self, request: Request) -> Response:
        targets: dict[str, list[str]] = {}
        for each in self.directions.values():
            targets.setdefault(each.source, []).append(each.target)
        for target in {each.target for each in self.directions.values()}:
            targets.setdefault(target, [])
        rows = [{"code": code, "name": language_name(code), "targets": targets[code]} for code in sorted(targets)]
        return JSONResponse(rows)

    async def _settings(self, request: Request) -> Response:
        """What LibreTranslate tells its page."""
        first = next(iter(self.directions.values()))
        languages = {
            side: {"code": code, "name": language_name(code)}
            for side, code in (("source", first.source), ("target", first.target))
        }
        needs_key = bool(self.access.keys)
        settings: dict[str, Any] = {"apiKeys": needs_key, "keyRequired": needs_key, "charLimit": self.limits.characters}
        settings |= {
            "frontendTimeout": 500,
            "suggestions": False,
            "supportedFilesFormat": [],
            "filesTranslation": False,
        }
        return JSONResponse(settings | {"language": languages})

    async def _health(self, request: Request) -> Response:
        if all(run.batcher.is_alive for run in self.runs):
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "the translation has stopped"}, 503)

    async def _metrics(self, request: Request) -> Response:
        names = Counter(run.name for run in self.runs)
        figures = {
            run.name if names[run.name] == 1 else str(run.loaded.directory.path): (
                run.batcher.waiting,
                run.batcher.rounds,
                run.batcher.sentences,
            )
            for run in self.runs
        }
        return Response(self.metrics.text(figures), media_type="text/plain; version=0.0.4")


def _read_page() -> tuple[str, str]:
    """The page and its content security policy: it runs its own script alone, and talks to this server alone."""
    html = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    sources = []
    for element in ("script", "style"):
        [text] = re.findall(rf"<{element}>(.*?)</{element}>", html, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        sources.append(f"{element}-src 'sha256-{digest}'")
    others = "default-src 'none'", "connect-src 'self'", "img-src data:", "base-uri 'none'", "form-action 'none'"
    return html, "; ".join([*others, *sources, "frame-ancestors 'none'"])


def _answer(document: RequestedText, found: Sequence[Translated], fields: TranslateFields) -> dict[str, Any]:
    """The answer for one text."""
    links = [each.attention.links() if each.attention else () for each in found]
    ranks = [
        document.joined(
            [each.translations[min(rank, len(each.translations) - 1)].text for each in found], () if rank else links
        )
        for rank in range(max((len(each.translations) for each in found), default=1))
    ]
    distinct = list(dict.fromkeys(ranks))
    answer: dict[str, Any] = {"translatedText": distinct[0]}
    if fields.alternatives:
        answer["alternatives"] = distinct[1 : 1 + fields.alternatives]
    if fields.scores or fields.attention:
        answer["sentences"] = [
            {
                "source": source,
                "translations": [item._asdict() for item in each.translations],
                **({"attention": each.attention and each.attention._asdict()} if fields.attention else {}),
            }
            for source, each in zip(document.sentences, found, strict=True)
        ]
        answer["parts"] = [part if isinstance(part, str) else [part.start, part.stop] for part in document.parts]
    return answer


def _unchanged(sentences: Sequence[str]) -> Future[list[Translated]]:
    future: Future[list[Translated]] = Future()
    future.set_result([Translated.copied(sentence) for sentence in sentences])
    return future


async def _disconnected(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = {404: "there is no such page", 405: "this page is not asked for in that way"}
    response = _error(error.status_code, hint.get(error.status_code, error.detail))
    response.headers.update(error.headers or {})  # `Allow`
    return response


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
