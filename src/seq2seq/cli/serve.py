"""`seq2seq serve`"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seq2seq.cli.load_options import LoadOptions
from seq2seq.cli.options import (
    BeamSize,
    Device,
    Ensemble,
    Keep,
    Precision,
    Quiet,
    Rerank,
    RerankWeight,
    Shortlist,
    Threads,
    Workers,
)
from seq2seq.console import say, set_quiet
from seq2seq.errors import DataError, UsageError

if TYPE_CHECKING:
    from seq2seq.runs.loaded_run import LoadedRun
    from seq2seq.serving.limits import Limits
    from seq2seq.serving.served_run import ServedRun


def serve(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Run directories or exports, one for each pair of languages."),
    ],
    # Address and access.
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 5000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Another name that the server is reached by. Repeatable."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", help="Site whose pages may use the API, https://NAME or *. Repeatable."),
    ] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy on this machine names the clients (X-Forwarded-For).")
    ] = False,
    api_keys: Annotated[
        Path | None, typer.Option("--api-keys", help="File of API keys, one a line; requests must have one.")
    ] = None,
    # Limits.
    max_characters: Annotated[
        int, typer.Option("--max-characters", min=1, help="Characters of a request's text; 413 beyond.")
    ] = 5000,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", min=1, help="Waiting sentences from which requests are refused with 503.")
    ] = 500,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds for a request; then 504, and the work is dropped.")
    ] = 30.0,
    rate: Annotated[
        int, typer.Option("--rate", min=0, help="Requests of a client in a minute; 429 beyond. 0 is no limit.")
    ] = 0,
    # Translation.
    beam_size: BeamSize = None,
    glossary: Annotated[
        Path | None, typer.Option("--glossary", help="As of translate; with a single run.", show_default=False)
    ] = None,
    keep: Keep = None,
    ensemble: Ensemble = None,
    rerank: Rerank = None,
    rerank_weight: RerankWeight = None,
    shortlist: Shortlist = False,
    precision: Precision = None,
    workers: Workers = None,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
) -> None:
    """Serve runs as a page and as a JSON API in the request forms of LibreTranslate.

    Prints the address, and answers until Ctrl-C or SIGTERM; open requests are finished first.

    \b
      seq2seq serve runs/demo
      seq2seq serve runs/en-de runs/de-en --port 8080
    """
    set_quiet(quiet)
    of_one_run = (("--glossary", glossary is not None), ("--ensemble", ensemble), ("--rerank", rerank is not None))
    if len(runs) > 1 and (option := next((option for option, given in of_one_run if given), None)):
        raise UsageError(
            f"{option} belongs to one pair of languages, but there are several runs",
            where=option,
            hint="serve each run on a port of its own",
            code="usage.conflict",
        )
    loading = LoadOptions(
        device,
        threads,
        precision=precision,
        workers=workers,
        ensemble=ensemble or (),
        shortlist=shortlist,
        rerank=rerank,
        rerank_weight=rerank_weight,
    )
    loading.check(beam_size)
    keys = () if api_keys is None else _read_keys(api_keys)
    origins = [_origin(text) for text in allow_origin or ()]
    if wrong := next((name for name in allow_host or () if not re.fullmatch(r"[\w.-]+|[0-9a-fA-F:]+", name)), None):
        what = f"{wrong!r} is no name of a host"
        raise UsageError(what, where="--allow-host", hint="--allow-host translate.example.org", code="usage.value")
    from seq2seq.extras import import_library

    import_library("uvicorn")
    import_library("starlette")
    from seq2seq.serving.access import Access
    from seq2seq.serving.limits import Limits
    from seq2seq.serving.server import address_of, listen, started
    from seq2seq.serving.server import serve as answer

    limits = Limits(max_characters, max_waiting, timeout, rate)
    access = Access.on(host, allow_host or (), origins, keys)
    # Try the address first: loading and compiling takes up to a minute. The socket is closed again, because forked
    # workers would inherit it and keep it open after the server has ended.
    listen(host, port).close()
    served = [_served(loading.load(run), limits, beam_size, glossary, keep) for run in runs]
    with started(served, limits, access) as service, listen(host, port) as listener:
        for direction in service.directions.values():
            say(f"{direction.name} by {direction.run.loaded.directory.path} ({direction.run.loaded.checkpoint})")
        typer.echo(address_of(listener))
        answer(service, listener, behind_proxy=behind_proxy)


def _served(
    loaded: LoadedRun, limits: Limits, beam_size: int | None, glossary: Path | None, keep: Sequence[str] | None
) -> ServedRun:
    from seq2seq.decoding.translator import translation_options
    from seq2seq.serving.served_run import ServedRun

    translator = loaded.translator
    options = translation_options(translator.settings, beam_size=beam_size, keep=keep)
    if glossary is not None:
        read = translator.read_glossary(glossary, replaces_unknown=options.replace_unknown)
        options = options._replace(glossary=read)
    return ServedRun(loaded, options, limits)


def _origin(text: str) -> str:
    """An origin as browsers write it. Raises `UsageError` for an address with a path, and for a bare name."""
    origin = text.lower().removesuffix("/")
    if origin != "*" and not re.fullmatch(r"https?://([\w.-]+|\[[0-9a-f:]+\])(:\d+)?", origin):
        what = f"{text!r} is no origin: a scheme, a name, and a port if it is not the usual one"
        raise UsageError(what, where="--allow-origin", hint="--allow-origin https://example.org", code="usage.value")
    return origin


def _read_keys(path: Path) -> tuple[str, ...]:
    """The keys of a file, without its comments. Raises `DataError` if it cannot be read or has none."""
    try:
        lines = map(str.strip, path.read_text(encoding="utf-8-sig").splitlines())
        keys = tuple(line for line in lines if line and not line.startswith("#"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        hint = "a text file with one key a line"
        raise DataError(f"cannot read {path}: {reason}", where="--api-keys", hint=hint, code="data.no-file") from None
    if not keys:
        raise DataError(f"{path} has no API key", where="--api-keys", hint="one key a line", code="data.no-lines")
    return keys
