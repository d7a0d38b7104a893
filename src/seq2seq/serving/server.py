"""The HTTP server: opens the socket, serves the loaded runs, and finishes open requests before it stops."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager

import uvicorn

from seq2seq.errors import UsageError
from seq2seq.serving.access import Access
from seq2seq.serving.app import Service
from seq2seq.serving.detection import Detector
from seq2seq.serving.limits import Limits
from seq2seq.serving.served_run import ServedRun
from seq2seq.signals import StopRequest

_GRACE_SECONDS = 20.0
"""Time for open requests when the server stops; then they are refused with 503."""
_LEFT_SECONDS = 5
"""Further time for clients that do not take their answer, or do not end their request."""
_MAX_CONNECTIONS = 1000
"""Open connections, beyond which uvicorn answers 503."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises `UsageError` if the address is not free or not known."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (")[0]  # Python adds the address
        hint = "an address of this machine, such as --host 127.0.0.1"
        if getattr(error, "errno", 0) in (errno.EADDRINUSE, errno.EACCES):
            hint = "--port 0 takes a free port"
        raise UsageError(
            f"cannot listen on {host} port {port}: {reason}", where="--host, --port", hint=hint, code="usage.address"
        ) from None


def address_of(listener: socket.socket) -> str:
    """URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_directions(runs: Sequence[ServedRun]) -> None:
    """Raise `UsageError` if two runs translate the same pair of languages."""
    found: dict[str, ServedRun] = {}
    for run in runs:
        for direction in run.directions():
            other = found.setdefault(direction.name, run)
            if other is not run:
                raise UsageError(
                    f"{other.loaded.directory.path} and {run.loaded.directory.path} both translate {direction.name}",
                    hint="give one run for each pair of languages; data.source_language and data.target_language in "
                    "config.yaml name them",
                    code="serve.same-pair",
                )


@contextmanager
def started(runs: Sequence[ServedRun], limits: Limits, access: Access) -> Generator[Service, None, None]:
    """The service over runs whose batchers work until the end of the block.

    Raises:
        UsageError: two runs translate the same pair of languages.
    """
    check_directions(runs)
    samples: dict[str, list[str]] = {}
    for run in runs:
        samples.setdefault(run.loaded.config.data.source_language, []).extend(
            source for source, _ in run.loaded.held_out_pairs()
        )
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(closing(run))
            run.warm_up()
        for run in runs:
            run.start()
        yield Service(runs, limits, access, Detector(samples))


class Server(uvicorn.Server):
    """uvicorn's server, which stops when `is_over` says so, and refuses what is left after a time of grace.

    Args:
        service: the application.
        is_over: whether to stop; asked ten times a second.
        behind_proxy: whether a reverse proxy on this machine names the clients by `X-Forwarded-For`.
    """

    def __init__(self, service: Service, is_over: Callable[[], bool], *, behind_proxy: bool = False) -> None:
        # Errors are the service's to report; uvicorn would log a traceback for a client that is cut off at the end.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().__init__(
            uvicorn.Config(
                service.app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=behind_proxy,
                forwarded_allow_ips="127.0.0.1,::1",
                server_header=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_graceful_shutdown=int(_GRACE_SECONDS) + _LEFT_SECONDS,
            )
        )
        self._service, self._is_over = service, is_over

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to the command."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Whether the server stops."""
        return await super().on_tick(counter) or self._is_over()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, and finish or refuse what is open."""

        def refuse() -> None:
            for run in self._service.runs:
                run.batcher.abort()

        timer = asyncio.get_running_loop().call_later(_GRACE_SECONDS, refuse)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()


def serve(service: Service, listener: socket.socket, *, behind_proxy: bool = False) -> None:
    """Answer until a stopping signal comes, which is delivered again when everything is finished."""
    with StopRequest() as request:
        server = Server(service, lambda: request.number is not None, behind_proxy=behind_proxy)
        server.run(sockets=[listener])
