"""Order of the rounds of a batcher, and its counts."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from seq2seq.serving.batcher import Batcher, RequestOptions, Text


def batcher_of(done: list[str], *, fault: str = "") -> Batcher[str]:
    """A batcher that notes what it translates; two tokens are a round."""

    def translate(texts: list[str], wanted: RequestOptions) -> list[str]:
        if fault in texts:
            raise ValueError(fault)
        done.extend(texts)
        return texts

    return Batcher(translate, max_tokens=2, max_waiting=1000)


def test_requests_with_other_options_take_turns() -> None:
    """A request with other options than those of a long text waited until this was translated to its end."""
    done: list[str] = []
    batcher = batcher_of(done)
    long = [Text(f"long {number}", 1) for number in range(20)]
    jobs: list[Future[list[str]]] = [
        batcher.submit(long, RequestOptions()),
        batcher.submit([Text("other", 1)], RequestOptions(n_best=3)),
    ]
    batcher.start()
    assert [job.result(60) for job in jobs] == [[text.text for text in long], ["other"]]
    assert done.index("other") == 2
    batcher.close()


def test_a_sentence_is_counted_once() -> None:
    """Those of a round with a fault are translated again one by one."""
    done: list[str] = []
    batcher = batcher_of(done, fault="bad")
    jobs = [batcher.submit([Text(text, 1)], RequestOptions()) for text in ("good", "bad")]
    batcher.start()
    assert jobs[0].result(60) == ["good"]
    with pytest.raises(ValueError, match="bad"):
        jobs[1].result(60)
    batcher.close()
    assert (batcher.sentences, done) == (1, ["good"])


def test_a_request_that_has_failed_is_translated_no_further() -> None:
    done: list[str] = []
    batcher = batcher_of(done, fault="bad")
    job = batcher.submit([Text("bad", 1), Text("rest", 1)], RequestOptions())
    batcher.start()
    with pytest.raises(ValueError, match="bad"):
        job.result(60)
    batcher.close()
    assert done == []
