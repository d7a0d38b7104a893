"""The pages in a real browser: nothing is fetched or run, nothing is cut on a phone, attention shows on hover."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Runner

from seq2seq.reports.report import report
from seq2seq.sealed_records import SentenceAttention, write_attention

_HOSTILE = "<script>document.title='run'</script> <img src=http://127.0.0.1:9/x onerror=alert(1)> </style> &lt; line"
_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_LEAST_CONTRAST = 4.5
"""WCAG 2, level AA, of normal text."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    if _CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        # Without a sandbox, which containers do not allow; the pages are our own.
        options = ["--no-sandbox", "--disable-gpu", "--disable-extensions", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def run(gru: Path, tmp_path: Path) -> Path:
    """A run whose test set is hostile text, with attention."""
    run = Path(shutil.copytree(gru, tmp_path / "runs" / "first", symlinks=True))
    (run / "data.json").unlink()  # it has the hashes of the old text
    count = len((run / "test.hyp").read_text(encoding="utf-8").split("\n")) - 1
    for name in ("source", "target", "hyp"):
        text = "".join(f"{_HOSTILE} {number}\n" for number in range(count))
        (run / f"test.{name}").write_text(text, encoding="utf-8")
    sentences = []
    for number in range(count):
        text = f"{_HOSTILE} {number}"
        words = [*text.split(), "</s>"]
        weights = [[100 * (row == column) for column in range(len(words))] for row in range(len(words))]
        sentences.append(
            SentenceAttention(source=text, translation=text, source_words=words, target_words=words, weights=weights)
        )
    write_attention(run / "attention.json", sentences)
    return run


class Opened:
    """A page in the browser, with what it fetched and said."""

    def __init__(self, browser: Any, path: Path, width: int, scheme: str) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.requests: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(path.as_uri())
        assert self.requests == [path.as_uri()]
        assert self.said == []
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width
        assert self.page.locator("script, img, iframe, link").count() == 0
        # Neither may any text stand outside of its box.
        assert (
            self.page.evaluate(
                """[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1
            && !e.closest(".wide, .matrix, details:not([open])")).map(e => e.outerHTML.slice(0, 80))"""
            )
            == []
        )

    def close(self) -> None:
        assert self.said == []
        self.page.close()


def luminance(colour: str) -> float:
    channels = [int(found) / 255 for found in re.findall(r"\d+", colour)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(opened: Opened, selector: str, background: str) -> float:
    style = "(e, name) => getComputedStyle(e)[name]"
    text = opened.page.locator(selector).first.evaluate(style, "color")
    behind = opened.page.locator(background).first.evaluate(style, "backgroundColor")
    light, dark = sorted((luminance(text), luminance(behind)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_report(browser: Any, run: Path) -> None:
    path = run / "report.html"
    path.write_text(report(run), encoding="utf-8")
    opened = Opened(browser, path, 1280, "light")
    page = opened.page
    assert page.title() == "Run first"
    assert page.locator(".sample dd.words", has_text="<script>document.title='run'</script>").count() > 0
    shade = "e => getComputedStyle(e).backgroundColor"
    sample = page.locator(".sample").first
    source, target = sample.locator(".s2"), sample.locator(".t2")
    before = source.evaluate(shade)
    target.hover()
    assert source.evaluate(shade) != before
    page.locator("h1").hover()
    assert source.evaluate(shade) == before
    target.click()  # as a tap does, it keeps the focus
    assert source.evaluate(shade) != before
    value = page.locator(".curve .value").first
    assert not value.is_visible()
    page.locator(".curve .dot").first.hover()
    assert value.is_visible()
    opened.close()
    Opened(browser, path, 400, "light").close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser: Any, run: Path, scheme: str) -> None:
    path = run / "report.html"
    path.write_text(report(run), encoding="utf-8")
    opened = Opened(browser, path, 400, scheme)
    (light,) = [luminance(opened.page.locator("section").first.evaluate("e => getComputedStyle(e).backgroundColor"))]
    assert (light < 0.1) == (scheme == "dark")
    for selector in ("section h2", "th", ".note p", "summary", ".sample dt", ".c0", ".c1", ".end"):
        assert contrast(opened, selector, "section") >= _LEAST_CONTRAST, selector
    assert contrast(opened, ".note pre", ".note pre") >= _LEAST_CONTRAST
    assert contrast(opened, ".facts dt", ".facts div") >= _LEAST_CONTRAST
    assert contrast(opened, ".state", "body") >= _LEAST_CONTRAST
    opened.close()


def test_a_comparison_and_a_check_of_a_corpus(browser: Any, run: Path, seq2seq: Runner, tmp_path: Path) -> None:
    second = shutil.copytree(run, run.with_name("second"), symlinks=True)
    config = second / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("rate: 0.005", "rate: 0.001"), encoding="utf-8")
    page = tmp_path / "comparison.html"
    outcome = seq2seq("compare", run, second, "--html", page)
    assert outcome.code == 0, outcome.err
    for width in (1280, 400):
        opened = Opened(browser, page, width, "dark")
        assert "training.optimizer.learning_rate" in opened.page.inner_text("body")
        assert opened.page.locator(".curve").count() >= 4
        opened.close()
    for name in ("corpus.en", "corpus.de"):
        lines = [f"{_HOSTILE} {number % 40}\n" for number in range(60)]
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")
    page, files = tmp_path / "check.html", ("--source", tmp_path / "corpus.en", "--target", tmp_path / "corpus.de")
    outcome = seq2seq("data", "check", *files, "--html", page, "--json")
    kinds = {finding["kind"] for finding in json.loads(outcome.out)[0]["findings"]}
    for width in (1280, 400):
        opened = Opened(browser, page, width, "light")
        assert len(kinds) == opened.page.locator(".note").count()
        assert "document.title" in opened.page.content()
        opened.close()
