"""Inline tags in a translation: none is lost, they are nested, and they stand around the words that they belong to."""

from __future__ import annotations

import random
import re

import pytest

from seq2seq.documents.inline_tags import Tag, with_tags

SOURCE = "The man rides a bike."
TRANSLATION = "Heute fährt der Mann Fahrrad."
LINKS = [(0, 2), (1, 3), (2, 1), (4, 4)]


def tagged(text: str) -> tuple[str, list[Tag]]:
    """A text without its tags, and these."""
    plain, tags = "", []
    for part in re.split(r"(<(?:bpt|ept).*?</(?:bpt|ept)>|<[^>]*>)", text):
        if part.startswith("<"):
            tags.append(Tag(part, len(plain)))
        else:
            plain += part
    return plain, tags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The <b>man</b> rides a bike.", "Heute fährt der <b>Mann</b> Fahrrad."),
        ("<b>The man</b> rides a bike.", "Heute fährt <b>der Mann</b> Fahrrad."),
        ("The <b>man </b>rides a bike.", "Heute fährt der <b>Mann</b> Fahrrad."),
        ("The<b> man</b> rides a bike.", "Heute fährt der <b>Mann</b> Fahrrad."),
        ("<b>The man rides a bike.</b>", "<b>Heute fährt der Mann Fahrrad.</b>"),
        ("The man rides <i>a bike</i>.", "Heute fährt der Mann <i>Fahrrad</i>."),
        ("The man rides <i>a bike.</i>", "Heute fährt der Mann <i>Fahrrad.</i>"),
        ("The <g/>man <g>rides</g> a bike.", "Heute <g>fährt</g> der <g/>Mann Fahrrad."),
        (
            'The <bpt id="1">(</bpt>man<ept id="1">)</ept> <bx rid="2"/>rides<ex rid="2"/> a bike.',
            'Heute <bx rid="2"/>fährt<ex rid="2"/> der <bpt id="1">(</bpt>Mann<ept id="1">)</ept> Fahrrad.',
        ),
        (
            'The <x id="START_TAG_B_1"/>man<x id="CLOSE_TAG_B"/> rides a bike.',
            'Heute fährt der <x id="START_TAG_B_1"/>Mann<x id="CLOSE_TAG_B"/> Fahrrad.',
        ),
        ("The man <x/>rides a bike.", "Heute <x/>fährt der Mann Fahrrad."),
        ("The man rides a bike.<x/>", "Heute fährt der Mann Fahrrad.<x/>"),
        ("The <a><b>man</b> rides</a> a bike.", "Heute <a>fährt der <b>Mann</b></a> Fahrrad."),
        ("The man rides <b>a</b> bike.", "Heute fährt<b></b> der Mann Fahrrad."),  # no word is linked to it
    ],
)
def test_tags_stand_around_their_words(text: str, expected: str) -> None:
    plain, tags = tagged(text)
    assert plain == SOURCE
    assert with_tags(SOURCE, TRANSLATION, tags, LINKS) == expected


def test_thousands_of_tags_take_little_time_and_no_depth() -> None:
    depth = 5000
    source = "<b>" * depth + "The man" + "</b>" * depth + "</i>" * depth + " rides a bike."
    plain, tags = tagged(source)
    found = with_tags(plain, TRANSLATION, tags, LINKS)
    assert found.count("<b>") == found.count("</b>") == found.count("</i>") == depth
    assert re.sub("<[^>]*>", "", found) == TRANSLATION


def test_tags_that_cross_are_kept() -> None:
    plain, tags = tagged("The <i>man <b>rides</i> a</b> bike.")
    found = with_tags(plain, TRANSLATION, tags, LINKS)
    assert re.sub("<[^>]*>", "", found) == TRANSLATION
    assert sorted(re.findall("<[^>]*>", found)) == ["</b>", "</i>", "<b>", "<i>"]


def test_a_full_stop_that_moves_stays_outside() -> None:
    plain, tags = tagged("She reads <i>this book</i> today.")
    links = [(0, 0), (1, 1), (2, 3), (3, 4), (4, 2)]
    assert with_tags(plain, "Sie liest heute dieses Buch.", tags, links) == "Sie liest heute <i>dieses Buch</i>."


def test_quotation_marks_stay_outside() -> None:
    links = [(0, 0), (1, 1)]
    plain, tags = tagged('He says "<b>yes</b>".')
    assert with_tags(plain, "Er sagt „ja“.", tags, [*links, (2, 2)]) == "Er sagt „<b>ja</b>“."


@pytest.mark.parametrize("seed", range(40))
def test_no_tag_is_lost_whatever_the_alignment(seed: int) -> None:
    draw = random.Random(seed)
    source = " ".join("w" * draw.randint(1, 5) for _ in range(draw.randint(1, 8)))
    translation = " ".join("v&" * draw.randint(1, 3) for _ in range(draw.randint(0, 8)))
    links = [(draw.randrange(9), draw.randrange(9)) for _ in range(draw.randint(0, 12))]
    markup, opened = [], []
    for number in range(draw.randint(1, 8)):
        kind = draw.random()
        if kind < 0.3 and opened:
            markup.append(f"</{opened.pop()}>")
        elif kind < 0.8:
            opened.append(f"t{number}")
            markup.append(f"<t{number}>")
        else:
            markup.append(f"<x{number}/>")
    markup += [f"</{name}>" for name in reversed(opened)]
    places = sorted(draw.randint(0, len(source)) for _ in markup)
    tags = [Tag(*each) for each in zip(markup, places, strict=True)]
    found = with_tags(source, translation, tags, links, lambda text: text.replace("&", "&amp;"))
    assert re.sub("<[^>]*>", "", found) == translation.replace("&", "&amp;")
    written = re.findall("<[^>]*>", found)
    assert sorted(written) == sorted(markup)
    path: list[str] = []
    for tag in written:
        if tag.startswith("</"):
            assert path.pop() == tag[2:-1]
        elif not tag.endswith("/>"):
            path.append(tag[1:-1])
    assert path == []
