"""Pictures of attention: SVG, PNG, text and the page."""

from __future__ import annotations

import base64
import io
import json
import re
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from seq2seq.alignment.matrix import AttentionMatrix, draw_attention
from seq2seq.alignment.pictures import Panel, attention_grid, html_page, png_picture, svg_picture, text_picture
from seq2seq.alignment.word_alignment import AlignmentOptions, PairAttention
from seq2seq.alignment.words import Segments
from seq2seq.errors import UsageError

SVG = "{http://www.w3.org/2000/svg}"


def segments(*words: str) -> Segments:
    return Segments(list(range(4, 4 + len(words))), list(words), list(words), torch.eye(len(words)))


def pair(source: Segments, target: Segments, *, layers: int = 2, heads: int = 3) -> PairAttention:
    draws = torch.Generator().manual_seed(1)
    shape = (layers, heads, len(target.pieces) + 1, len(source.pieces) + 1)
    return PairAttention(source, target, torch.rand(shape, generator=draws).softmax(dim=-1))


PAIR = pair(segments("le", "chat", "<b>&"), segments("the", "cat"))
ALL = attention_grid(PAIR, AlignmentOptions(), all_layers=True, all_heads=True, words=True)


def test_a_panel_for_every_layer_and_head() -> None:
    assert [[panel.title for panel in row] for row in ALL] == [
        [f"layer {layer}, head {head}" for head in (1, 2, 3)] for layer in (1, 2)
    ]
    torch.testing.assert_close(ALL[1][2].matrix.weights, PAIR.weights[1, 2])
    ((one,),) = attention_grid(PAIR, AlignmentOptions(), all_layers=False, all_heads=False, words=True)
    assert one.title == ""
    torch.testing.assert_close(one.matrix.weights, PAIR.weights.mean(dim=(0, 1)))
    row = attention_grid(PAIR, AlignmentOptions(2), all_layers=False, all_heads=True, words=True)
    assert [panel.title for panel in row[0]] == ["layer 2, head 1", "layer 2, head 2", "layer 2, head 3"]


def test_svg_holds_every_word_and_weight() -> None:
    root = ElementTree.fromstring(svg_picture(ALL))
    cells = [cell for cell in root.iter(f"{SVG}rect") if cell.find(f"{SVG}title") is not None]
    assert len(cells) == 6 * 3 * 4
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts.count("<b>&") == texts.count("cat") == 6
    tips = [str(cell.findtext(f"{SVG}title")) for cell in cells[:12]]
    expected = [f"{weight:.2f}" for weight in PAIR.weights[0, 0].flatten().tolist()]
    assert [tip.rsplit(": ", 1)[1] for tip in tips] == expected
    assert tips[2].startswith("the ← <b>&: ")
    # Nothing lies outside.
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(0 <= float(e.attrib["x"]) <= width - 20 and 0 <= float(e.attrib["y"]) <= height - 20 for e in cells)


def test_shades_are_darker_where_there_is_more() -> None:
    matrix = AttentionMatrix(["a", "b", "c"], ["x"], torch.tensor([[0.0, 0.4, 1.0]]))
    root = ElementTree.fromstring(svg_picture([[Panel("", matrix)]]))
    cells = [cell for cell in root.iter(f"{SVG}rect") if cell.find(f"{SVG}title") is not None]
    assert [float(cell.attrib["fill-opacity"]) for cell in cells] == [0.0, 0.4, 1.0]
    image = Image.open(io.BytesIO(png_picture([[Panel("", matrix)]])))
    counts = {grey: count for count, grey in image.getcolors() or []}
    assert counts[0x99] >= 36 * 36
    assert counts[0] >= 36 * 36


def test_png_is_as_large_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    root = ElementTree.fromstring(svg_picture(ALL))
    image = Image.open(io.BytesIO(png_picture(ALL)))
    assert image.format == "PNG"
    # Letters are a little narrower or wider than an SVG expects.
    assert image.width == pytest.approx(2 * float(root.attrib["width"]), rel=0.1)
    monkeypatch.setattr("seq2seq.alignment.pictures._MOST_PIXELS", image.width * image.height - 1)
    with pytest.raises(UsageError, match="too large"):
        png_picture(ALL)


def test_no_character_breaks_the_svg() -> None:
    """XML allows no control characters at all: one escape character in a text made the file unreadable."""
    odd = pair(segments("\x1b[31m", "▁中文", "e\u0301", "\u202eabc"), segments("\0", "😀", "\"'<>&"))
    grid = attention_grid(odd, AlignmentOptions(), all_layers=False, all_heads=False, words=False)
    root = ElementTree.fromstring(svg_picture(grid))
    assert "中文" in [text.text for text in root.iter(f"{SVG}text")]
    assert png_picture(grid).startswith(b"\x89PNG")


def test_text_has_the_panels_one_below_the_other() -> None:
    text = text_picture(ALL, encoding="utf-8")
    assert text.count("layer 2") == 3
    assert text.split("\n\n")[4].split("\n", 1)[1] == draw_attention(ALL[1][1].matrix, encoding="utf-8")


def page_data(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert isinstance(data, dict)
    return data


def test_page_holds_every_weight() -> None:
    data = page_data(html_page([PAIR, PAIR], AlignmentOptions(2, 1, True)))
    assert (data["layer"], data["head"], data["shift"]) == (2, 1, True)
    assert isinstance(data["pairs"], list)
    shown = data["pairs"][1]
    assert (shown["layers"], shown["heads"]) == (2, 3)
    assert shown["source"] == {
        "pieces": ["le", "chat", "<b>&", "</s>"],
        "words": ["le", "chat", "<b>&", "</s>"],
        "word": [0, 1, 2, 3],
    }
    levels = torch.tensor(list(base64.b64decode(shown["weights"]))) / 255
    torch.testing.assert_close(levels.view_as(PAIR.weights), PAIR.weights, atol=0.5 / 255, rtol=0)


def test_page_is_alone_and_safe() -> None:
    """A text with `</script>` ended the data and ran what followed it."""
    bad = pair(segments("</script><script>alert(1)</script>"), segments("<!--", "@DATA@"))
    page = html_page([bad], AlignmentOptions())
    assert page.count("<script") == page.count("</script") == 2
    assert "http" not in page
    assert page_data(page)["layer"] == 0
    with pytest.raises(UsageError, match="no sentence"):
        html_page([], AlignmentOptions())
    with pytest.raises(UsageError, match="no layer 9"):
        html_page([PAIR], AlignmentOptions(9))


def test_words_of_several_pieces_on_the_page() -> None:
    shares = torch.tensor([[1.0, 0.0], [0.7, 0.3], [0.0, 1.0], [0.0, 0.0]])
    source = Segments([4, 5, 6, 7], ["▁a", "b▁c", "d", "<2de>"], ["ab", "cd"], shares)
    data = page_data(html_page([pair(source, segments("x"))], AlignmentOptions()))
    assert isinstance(data["pairs"], list)
    assert data["pairs"][0]["source"]["word"] == [0, 0, 1, -1, 2]
