"""The report of a run, its charts, and its place in a training."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.cli.conftest import Runner

from seq2seq.errors import CheckpointError
from seq2seq.evaluation.significance import confidence_intervals
from seq2seq.evaluation.slices import slice_scores
from seq2seq.reports.attention import hover_rules, hover_words, matrix
from seq2seq.reports.charts import Curve, line_chart, ticks
from seq2seq.reports.report import refresh_report, report
from seq2seq.sealed_records import SentenceAttention

_VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """Elements of a page; every element must be closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert "src" not in dict(attrs)
        assert (dict(attrs).get("href") or "#")[0] == "#"  # to a place of the page alone
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def run(gru: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(gru, tmp_path / "a run", symlinks=True))


def test_a_training_ends_with_its_report(gru: Path) -> None:
    page = Page((gru / "report.html").read_text(encoding="utf-8"))
    for title in ("Findings", "Training curves", "95 % interval", "Worst translations", "Data", "Environment", "end"):
        assert title in page.text
    assert "svg" in page.seen
    assert not {"script", "iframe", "link"} & page.seen


def test_samples_and_attention_are_in_tensorboard(gru: Path) -> None:
    events = EventAccumulator(str(gru / "tensorboard"), size_guidance={"images": 0, "tensors": 0}).Reload()
    assert {event.step for event in events.Images("attention/1")} <= {30, 60}
    [*_, last] = events.Tensors("validation/samples/text_summary")
    assert "\n    = " in last.tensor_proto.string_val[0].decode("utf-8")


def test_text_of_the_corpus_is_escaped(run: Path) -> None:
    hostile = "<script>alert(1)</script> </title> \x1b[31m \u202e | `x` &amp;"
    for name in ("test.source", "test.hyp"):
        lines = (run / name).read_text(encoding="utf-8").split("\n")
        (run / name).write_text("\n".join([hostile] * (len(lines) - 1)) + "\n", encoding="utf-8")
    data = run / "data.json"
    data.unlink()  # it has the hashes of the old text
    text = report(run)
    assert "script" not in Page(text).seen
    assert "&lt;script&gt;" in text
    assert not {"\x1b", "\u202e"} & set(text)
    markdown = report(run, markdown=True)
    assert "<script>" not in markdown
    assert "\x1b" not in markdown


def test_the_command(run: Path, seq2seq: Runner) -> None:
    (run / "report.html").unlink()
    outcome = seq2seq("report", run)
    assert outcome.code == 0, outcome.err
    Page((run / "report.html").read_text(encoding="utf-8"))
    assert "| BLEU |" in seq2seq("report", run, "--markdown").out
    assert seq2seq("report", run.parent / "none").code != 0
    assert seq2seq("report", run, "-o", run / "config.yaml").code == 2


def test_a_limit_that_shortened_the_warmup_is_no_finding(run: Path, seq2seq: Runner) -> None:
    """A run of `max_minutes` was said to have ended within the warm-up of its settings, which had been shortened."""
    config = run / "config.yaml"
    text = re.sub(r"warmup_steps: \d+", "warmup_steps: 100000", config.read_text(encoding="utf-8"))
    config.write_text(re.sub("kind: (wsd|cosine)", "kind: inverse_sqrt", text), encoding="utf-8")
    assert "ended within the warm-up" in seq2seq("report", run, "--markdown").out
    config.write_text(re.sub("max_minutes: null", "max_minutes: 1.0", config.read_text(encoding="utf-8")))
    assert "ended within the warm-up" not in seq2seq("report", run, "--markdown").out


def test_attention_of_other_texts_is_not_shown(run: Path) -> None:
    attention = run / "attention.json"
    found = json.loads(attention.read_text(encoding="utf-8"))["sentences"]
    assert len(found) == 10
    assert all(abs(sum(row) - 100) <= len(row) for sentence in found for row in sentence["weights"])
    assert ":has(" in report(run)
    (run / "data.json").unlink()
    lines = (run / "test.source").read_text(encoding="utf-8").split("\n")
    (run / "test.source").write_text("\n".join(f"{line} !" if line else "" for line in lines), encoding="utf-8")
    text = report(run)
    assert ":has(" not in text
    assert "Point at a word" not in text
    attention.write_text("{}", encoding="utf-8")
    assert "svg" in Page(report(run)).seen
    attention.write_text('{"sentences": [{"source": 1}]}', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"attention\.json"):
        report(run)


def test_words_that_can_be_pointed_at() -> None:
    found = SentenceAttention(
        source="<2de> a <b>",
        translation="x y",
        source_words=["a", "<b>", "</s>"],
        target_words=["x", "y", "</s>"],
        weights=[[90, 10, 0], [2, 98, 0], [0, 0, 100]],
    )
    shown = hover_words(found.source, found.source_words, "s")
    assert shown is not None
    assert shown.startswith("&lt;2de&gt; <span class=")
    assert "&lt;b&gt;" in shown
    assert hover_words("a b c d", found.source_words, "s") is None
    rules = hover_rules("a0", found)
    assert "#a0:has(.t0:is(:hover,:focus)) .s1{--w:10}" in rules
    assert ".s0{--w:2}" not in rules
    cells = list(ElementTree.fromstring(matrix(found)).iter("{http://www.w3.org/2000/svg}rect"))
    assert len(cells) == 1 + 4
    with pytest.raises(ValueError, match="3 rows of 3 weights"):
        SentenceAttention(source="", translation="", source_words=["a"] * 3, target_words=["b"] * 3, weights=[[1]])


def test_a_failure_is_a_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert not refresh_report(tmp_path)
    assert "cannot write" in capfd.readouterr().err


@pytest.mark.parametrize("points", [[(1, 2)], [(0, 0), (1, 0)], [(1, float("nan")), (2, 1e-9)], [(1, 1e12), (2, -3)]])
def test_charts_are_well_formed(points: list[tuple[float, float]]) -> None:
    chart = ElementTree.fromstring(line_chart("a < b", [Curve("<&>", points, best=points[-1])]))
    texts = list(chart.iter("{http://www.w3.org/2000/svg}text"))
    values = [element.text or "" for element in texts if element.get("class") == "value"]
    assert all(value.startswith("<&> ") for value in values)
    assert [element.text for element in texts if element.get("class") == "name"] == [f"best {points[-1][1]:.4g}"]
    assert len(values) == len([point for point in points if point[1] == point[1]])
    assert line_chart("none", [Curve("none", [(1, float("inf"))])]) == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (3, 3), (0, 0), (-7, 20_000), (1e-9, 2e-9), (99.1, 99.2)])
def test_ticks_include_the_range(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low + 1e-12
    assert found[-1] >= high - 1e-12
    assert 2 <= len(found) <= 8
    assert found == sorted(set(found))


def test_intervals_and_slices() -> None:
    references = [f"Satz {n} ist gut ." for n in range(40)]
    hypotheses = [line if n % 2 else line.replace("gut", "schlecht") for n, line in enumerate(references)]
    for interval in confidence_intervals(hypotheses, references):
        assert 0 <= interval.low < interval.high <= 100
    assert confidence_intervals(["a"], ["a"]) == []
    tags = ["de" if n % 2 else "fr" for n in range(40)]
    slices = slice_scores(references, references, hypotheses, tags=tags, target_language="")
    found = {part.name: part for part in slices}
    assert found["target tag de"].bleu == pytest.approx(100)
    assert found["target tag fr"].bleu < 80
    assert found["target tag fr"].sentences == 20


def test_a_target_tag_is_not_part_of_the_text_of_a_slice() -> None:
    """The 2 of `<2de>` was a number, and the first word came after the first."""
    plain = ["Drei Hunde laufen" if n % 2 else "drei Hunde 12" for n in range(20)]
    tagged = [f"<2de> {line}" for line in plain]
    options = {"tags": ["<2de>"] * 20, "target_language": "de"}
    found, expected = (slice_scores(sources, plain, plain, **options) for sources in (tagged, plain))  # type: ignore[arg-type]
    assert found == expected
    assert "numbers" in {part.name for part in found}
