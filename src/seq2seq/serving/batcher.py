"""Dynamic batching: sentences of concurrent requests are translated together by one thread.

A round takes what waits at the moment it begins, up to a number of tokens, one sentence of each request in turn: a long
text does not hold up a short one. Requests with other options take turns, round by round. Requests that come during a
round wait for the next. A request that is cancelled, as its client has gone or its time is over, gives up the sentences
that still wait.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

from seq2seq.serving.limits import Refusal

Result = TypeVar("Result")


class RequestOptions(NamedTuple):
    """Options of a request, the same for all sentences of a batch."""

    n_best: int = 1
    attention: bool = False


class Text(NamedTuple):
    """A sentence, and its length in tokens."""

    text: str
    tokens: int


class _Request(Generic[Result]):
    def __init__(self, texts: Sequence[Text], wanted: RequestOptions) -> None:
        self.texts, self.wanted = texts, wanted
        self.taken = 0
        """Number of sentences that rounds have taken; they are taken in order."""
        self.results: list[Result] = []
        self.future: Future[list[Result]] = Future()


class Batcher(Generic[Result]):
    """A thread that translates the sentences of all requests, batch by batch, once it is started.

    Attributes:
        rounds: number of batches so far.
        sentences: number of sentences translated so far.

    Args:
        translate: the results of sentences with the same options, in order.
        max_tokens: maximum tokens of a round, or a single sentence.
        max_waiting: number of waiting sentences from which on requests are refused.
    """

    def __init__(
        self, translate: Callable[[list[str], RequestOptions], list[Result]], *, max_tokens: int, max_waiting: int
    ) -> None:
        self.rounds = self.sentences = 0
        self._translate, self._max_tokens, self._max_waiting = translate, max_tokens, max_waiting
        self._requests: list[_Request[Result]] = []
        self._has_work = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="translate", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of sentences that no round has taken yet."""
        with self._has_work:
            return sum(len(request.texts) - request.taken for request in self._requests if not request.future.done())

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def admit(self) -> None:
        """Raise `Refusal` (503) if too many sentences wait; to be called once for all texts of a request."""
        if (count := self.waiting) >= self._max_waiting:
            raise Refusal(503, f"{count} sentences are waiting: try again in a moment", 1)

    def submit(self, texts: Sequence[Text], wanted: RequestOptions) -> Future[list[Result]]:
        """The results of sentences. Cancel the future to give up those that still wait.

        Raises:
            Refusal: the server stops (503).
        """
        request = _Request[Result](texts, wanted)
        if not texts:
            request.future.set_result([])
            return request.future
        with self._has_work:
            if self._is_closed:
                raise Refusal(503, "the server stops", 5)
            self._requests.append(request)
            self._has_work.notify()
        return request.future

    def abort(self) -> None:
        """Refuse what waits and all that comes; the running round ends."""
        with self._has_work:
            self._is_closed = True
            requests, self._requests = self._requests, []
            self._has_work.notify()
        for request in requests:
            self._finish(request, Refusal(503, "the server stops", 5))

    def close(self, seconds: float = 60.0) -> None:
        """As `abort`; waits for the running round, and ends the thread."""
        self.abort()
        if self.is_alive:
            self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._has_work:
                self._has_work.wait_for(lambda: self._requests or self._is_closed)
                if not self._requests:
                    return
                taken = self._take()
            if taken:
                self._translate_round(taken)

    def _take(self) -> list[tuple[_Request[Result], int]]:
        """The requests and sentence numbers of a round: one of each in turn, with the options of the oldest request."""
        self._requests = [request for request in self._requests if not request.future.done()]
        taken: list[tuple[_Request[Result], int]] = []
        tokens = 0
        turns = deque(request for request in self._requests if request.wanted == self._requests[0].wanted)
        while turns:
            request = turns.popleft()
            tokens += request.texts[request.taken].tokens
            if taken and tokens > self._max_tokens:
                break
            taken.append((request, request.taken))
            request.taken += 1
            if request.taken < len(request.texts):
                turns.append(request)
        left = [request for request in self._requests if request.taken < len(request.texts)]
        # The next round is for those with other options, if there are any.
        self._requests = sorted(left, key=lambda request: request.wanted == taken[0][0].wanted) if taken else left
        return taken

    def _translate_round(self, taken: Sequence[tuple[_Request[Result], int]]) -> None:
        """Translate the sentences of a round, and finish the requests whose last sentence it holds."""
        self.rounds += 1
        wanted = taken[0][0].wanted
        try:
            results = self._translate([request.texts[number].text for request, number in taken], wanted)
        except Exception as error:
            if len(taken) > 1:  # only the request with the fault is to fail
                for one in taken:
                    if not one[0].future.done():  # its client has gone, or another sentence of it has failed
                        self._translate_round([one])
            else:
                self._finish(taken[0][0], error)
            return
        self.sentences += len(taken)
        for (request, _), result in zip(taken, results, strict=True):
            request.results.append(result)
            if len(request.results) == len(request.texts):
                self._finish(request, None)

    def _finish(self, request: _Request[Result], error: Exception | None) -> None:
        """Hand over the results or the error, unless the request is cancelled or has failed before."""
        with self._has_work:  # `abort` is another thread's
            if request.future.done() or not request.future.set_running_or_notify_cancel():
                return
            if error is None:
                request.future.set_result(request.results)
            else:
                request.future.set_exception(error)
