"""The report of a run, its charts, and its place in a training."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.cli.conftest import Runner

from seq2seq.evaluation.significance import confidence_intervals
from seq2seq.evaluation.slices import slice_scores
from seq2seq.reports.charts import Curve, line_chart, ticks
from seq2seq.reports.report import refresh_report, report

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
        assert not {name for name, _ in attrs} & {"src", "href"}
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
    for title in ("Findings", "Training curves", "95 % interval", "Worst translations", "Data", "Environment"):
        assert title in page.text
    assert "svg" in page.seen
    assert not {"script", "iframe", "link"} & page.seen


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


def test_a_failure_is_a_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert not refresh_report(tmp_path)
    assert "cannot write" in capfd.readouterr().err


@pytest.mark.parametrize("points", [[(1, 2)], [(0, 0), (1, 0)], [(1, float("nan")), (2, 1e-9)], [(1, 1e12), (2, -3)]])
def test_charts_are_well_formed(points: list[tuple[float, float]]) -> None:
    chart = ElementTree.fromstring(line_chart("a < b", [Curve("<&>", points)]))
    titles = [element.text for element in chart.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == len([point for point in points if point[1] == point[1]])
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
    found = {part.name: part for part in slice_scores(references, references, hypotheses, tags=tags)}
    assert found["target tag de"].bleu == pytest.approx(100)
    assert found["target tag fr"].bleu < 80
    assert found["target tag fr"].sentences == 20
