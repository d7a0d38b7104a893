"""Open the report of a run in Chromium, point at a word, and save what is seen: the picture in the README.

scripts/demo        # trains runs/demo-transformer
pip install playwright pillow && apt-get install chromium
python scripts/report_picture.py docs/report.png
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from seq2seq.reports.report import report

WIDTH = 1100
_PARTS = ("Summary", "Training curves", "Worst translations of the test set")
_COLOURS = 200
"""A palette keeps the file small."""


def picture(page_file: Path, chromium: str) -> bytes:
    """PNG of the head of a report, its curves, and a translation with its attention."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 800})
        page.goto(page_file.resolve().as_uri())
        # A picture has no room for the whole page.
        page.evaluate(
            """titles => {
                for (const section of document.querySelectorAll("section"))
                    if (!titles.includes(section.querySelector("h2").textContent)) section.remove();
                for (const figure of [...document.querySelectorAll("figure")].slice(2)) figure.remove();
                for (const sample of [...document.querySelectorAll(".sample")].slice(1)) sample.remove();
                for (const more of document.querySelectorAll(".charts ~ details")) more.remove();
                document.querySelector(".sample details").open = true;
            }""",
            list(_PARTS),
        )
        page.locator(".sample .t1").hover()
        seen = page.screenshot(full_page=True)
        browser.close()
    content = io.BytesIO()
    Image.open(io.BytesIO(seen)).convert("RGB").quantize(_COLOURS).save(content, "PNG", optimize=True)
    return content.getvalue()


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--run", type=Path, default=Path("runs/demo-transformer"))
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    options = parser.parse_args()
    page = options.run / "report.html"
    page.write_text(report(options.run), encoding="utf-8")
    options.picture.write_bytes(picture(page, options.chromium))


if __name__ == "__main__":
    main()
