"""The page in a real browser: typing, attention, alternatives, swapped languages, errors, small and dark screens."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from seq2seq.serving.limits import Limits
from tests.serving.conftest import ask
from tests.serving.test_server import running

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_the_page_is_itself_alone(paced: Any) -> None:
    """Nothing comes from elsewhere, no handler stands in an attribute, and the policy allows its own script alone."""
    [page] = ask(paced().service, ("GET", "/", {}))
    assert not re.search(r"(src|href)=\"?(https?:)?//", page.text)
    assert not re.search(r"<[^>]*\son\w+=", page.text)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; connect-src 'self'; ")
    assert "unsafe" not in policy


def test_the_page(paced: Any, browser: Any) -> None:
    paced = paced(Limits(characters=60))
    expect = playwright.expect
    expect.set_options(timeout=60_000)
    faults: list[str] = []
    asked: list[str] = []
    with running(paced) as address, browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        source, output, notes = page.locator("#input"), page.locator("#output"), page.locator("#notes")
        expect(page.locator("#target")).to_have_value("de")
        source.press_sequentially("One dog.  Two <b>cats.")
        expect(output).to_have_text("ONE DOG. TWO <B>CATS.")

        output.get_by_text("DOG.", exact=True).hover()
        expect(page.locator("mark")).to_have_text(["dog."])
        expect(notes).to_have_text("DOG. ← dog. 100 %")
        output.focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        expect(page.locator("mark")).to_have_text(["Two"])
        source.focus()
        expect(page.locator("mark")).to_have_count(0)

        output.get_by_text("<B>CATS.", exact=True).click()
        expect(page.locator("#about")).to_have_text("Sentence 2 of 2: score 0.00; other translations:")
        others = page.locator("#others button")
        expect(others).to_have_text(["TWO <B>CATS.!-1.00", "TWO <B>CATS.!!-2.00", "TWO <B>CATS.!!!-3.00"])
        others.first.click()
        expect(output).to_have_text("ONE DOG. TWO <B>CATS.!")

        page.locator("#swap").click()
        expect(source).to_have_value("ONE DOG. TWO <B>CATS.!")
        expect(page.locator("#source")).to_have_value("de")
        expect(output).to_have_text("ONE DOG. TWO <B>CATS.!")
        assert paced.back.batches

        source.fill("x" * 61)
        expect(page.locator("#status")).to_have_text("Too long by 1 characters.")
        page.locator("#source").select_option("auto")
        source.fill("the dog and the cat")
        expect(page.locator("#status")).to_have_text("Detected: English")
        expect(page.locator("#target")).to_have_value("de")  # it was English
        expect(output).to_have_text("THE DOG AND THE CAT")
        assert all(url.startswith((address, "data:")) for url in asked)
        assert faults == []

        source.fill("fail")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#status")).to_contain_text("the translation failed")

        page.set_viewport_size({"width": 400, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.emulate_media(color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
