"""Page of a report: sections of tables, charts, samples and commands, as one offline HTML file, Markdown or text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Literal, NamedTuple

from seq2seq.console import format_table
from seq2seq.reports.attention import hover_rules, hover_words, matrix
from seq2seq.sanitize import presentable
from seq2seq.sealed_records import SentenceAttention

Level = Literal["good", "warn", "bad", ""]
"""Judgement, as a colour."""


class Table(NamedTuple):
    """Rows of texts; numbers are aligned to the right."""

    columns: Sequence[str]
    """Empty for a table of names and values without a head."""
    rows: Sequence[Sequence[str]]


class Facts(NamedTuple):
    """Names and short values, as tiles."""

    rows: Sequence[tuple[str, str]]


class Paragraph(NamedTuple):
    """A sentence."""

    text: str


class Command(NamedTuple):
    """A command to type."""

    text: str


class Note(NamedTuple):
    """A judgement with its evidence, and the command that helps."""

    level: Level
    text: str
    evidence: str = ""
    command: str = ""


class Chart(NamedTuple):
    """A drawing with its title; Markdown and text leave it out."""

    title: str
    svg: str


class Sample(NamedTuple):
    """Texts that belong together, such as a translation with its source and reference."""

    texts: Sequence[str]
    attention: SentenceAttention | None = None
    """Attention of the last text to the second."""


class Samples(NamedTuple):
    """Some samples; each has a text for every label."""

    labels: Sequence[str]
    rows: Sequence[Sample]


class Details(NamedTuple):
    """A table that is folded behind its title."""

    title: str
    table: Table


TextBlock = Table | Facts | Paragraph | Command | Note | Samples | Details
Block = TextBlock | Chart


class Section(NamedTuple):
    """Blocks below a heading."""

    title: str
    blocks: Sequence[Block]


class Page(NamedTuple):
    """A page: its head, and its sections."""

    title: str
    sections: Sequence[Section]
    subtitle: str = ""
    state: str = ""
    """One or two words beside the title."""
    level: Level = ""
    refresh_seconds: int = 0
    """Interval after which the page loads itself again, unless it is 0."""


# Nothing may be loaded or run by the page, whatever the corpus says.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_WIDEST_CELL, _COLUMNS = 24, 80
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?: ?[%kM]| (?:±|to) [\d.]+)?\*?")


def to_html(page: Page) -> str:
    """The page as HTML."""
    body = _Body()
    sections = [body.section(number, section) for number, section in enumerate(page.sections)]
    refresh = f'<meta http-equiv="refresh" content="{page.refresh_seconds}">\n' if page.refresh_seconds else ""
    style = files("seq2seq.reports").joinpath("page.css").read_text(encoding="utf-8") + "".join(body.rules)
    state = f' <span class="state {page.level}">{_html(page.state)}</span>' if page.state else ""
    subtitle = f'<p class="sub">{_html(page.subtitle)}</p>\n' if page.subtitle else ""
    links = "".join(f'<a href="#s{n}">{_html(section.title)}</a>\n' for n, section in enumerate(page.sections))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n{refresh}'
        f"<title>{_html(page.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<header>\n"
        f"<h1>{_html(page.title)}{state}</h1>\n{subtitle}<nav>\n{links}</nav>\n</header>\n"
        + "".join(sections)
        + "</body>\n</html>\n"
    )


class _Body:
    """Writer of sections as HTML; the rules that its samples need belong into the head."""

    def __init__(self) -> None:
        self.rules: list[str] = []

    def section(self, number: int, section: Section) -> str:
        charts = [block for block in section.blocks if isinstance(block, Chart)]
        parts = [f'<section id="s{number}">\n<h2>{_html(section.title)}</h2>\n']
        if charts:
            drawn = "\n".join(f"<figure><h3>{_html(chart.title)}</h3>{chart.svg}</figure>" for chart in charts)
            parts.append(f'<div class="charts">\n{drawn}\n</div>\n')
        parts += [self._block(block) for block in section.blocks if not isinstance(block, Chart)]
        return "".join([*parts, "</section>\n"])

    def _block(self, block: TextBlock) -> str:
        match block:
            case Paragraph(text):
                return f"<p>{_html(text)}</p>\n"
            case Command(text):
                return f"<pre>{_html(text)}</pre>\n"
            case Facts(rows):
                tiles = "".join(f"<div><dt>{_html(name)}</dt><dd>{_html(value)}</dd></div>" for name, value in rows)
                return f'<dl class="facts">{tiles}</dl>\n'
            case Note(level, text, evidence, command):
                told = f"<p>{_html(evidence)}</p>" if evidence else ""
                typed = f"<pre>{_html(command)}</pre>" if command else ""
                return f'<div class="note {level}"><p><b>{_html(text)}</b></p>{told}{typed}</div>\n'
            case Table():
                return _html_table(block)
            case Details(title, table):
                return f"<details><summary>{_html(title)}</summary>\n{_html_table(table)}</details>\n"
            case Samples(labels, rows):
                return "".join(self._sample(labels, sample) for sample in rows)

    def _sample(self, labels: Sequence[str], sample: Sample) -> str:
        texts = [_html(text) for text in sample.texts]
        name, below, words = "", "", [False] * len(texts)
        found = sample.attention
        # A text with secrets or control characters is shown without them, and as a whole.
        if found is not None and all(presentable(text) == text for text in (sample.texts[1], sample.texts[-1])):
            source = hover_words(sample.texts[1], found.source_words, "s")
            target = hover_words(sample.texts[-1], found.target_words, "t")
            if source is not None and target is not None:
                name, texts[1], texts[-1], words[1], words[-1] = f"a{len(self.rules)}", source, target, True, True
                self.rules.append(hover_rules(name, found))
                below = f'<details><summary>attention</summary><div class="matrix">{matrix(found)}</div></details>'
        lines = "".join(
            f'<dt>{label}</dt><dd{" class=words" * marked} dir="auto">{text}</dd>'
            for label, text, marked in zip(labels, texts, words, strict=True)
        )
        return f'<div class="sample"{f" id={name}" * bool(name)}><dl>{lines}</dl>{below}</div>\n'


def _html_table(table: Table) -> str:
    columns = [list(column) for column in zip(*table.rows, strict=True)] or [[]] * len(table.columns)
    kinds = [" class=n" * _are_numbers(column) for column in columns]
    head = "".join(f"<th{kind}>{_html(name)}</th>" for kind, name in zip(kinds, table.columns, strict=False))
    top = f"<thead><tr>{head}</tr></thead>\n" if head else ""
    body = "\n".join(
        f"<tr>{''.join(f'<td{kind}>{_html(cell)}</td>' for kind, cell in zip(kinds, row, strict=True))}</tr>"
        for row in table.rows
    )
    return f'<div class="wide"><table>\n{top}<tbody>\n{body}\n</tbody></table></div>\n'


def _are_numbers(column: Sequence[str]) -> bool:
    return any(column) and all(_NUMBER.fullmatch(cell) or not cell for cell in column)


def _html(text: str) -> str:
    """Text for HTML: secrets redacted, control characters and bytes that are no UTF-8 escaped."""
    return escape(presentable(text).encode("utf-8", "backslashreplace").decode())


def to_markdown(page: Page) -> str:
    """The page as Markdown, without charts and attention."""
    parts = [f"# {_markdown(page.title)}", *filter(None, [_markdown(page.subtitle), _markdown(page.state)])]
    for section in page.sections:
        blocks = [_markdown_block(block) for block in section.blocks if not isinstance(block, Chart)]
        if blocks:
            parts += [f"## {_markdown(section.title)}", *blocks]
    return "\n\n".join(parts) + "\n"


def _markdown_block(block: TextBlock) -> str:
    match block:
        case Paragraph(text):
            return _markdown(text)
        case Command(text):
            return "    " + presentable(text).replace("\n", " ")
        case Note(_, text, evidence, command):
            told = _markdown(f"{text}: {evidence}" if evidence else text)
            return f"{told}\n\n{_markdown_block(Command(command))}" if command else told
        case Samples(labels, rows):
            return _markdown_table(labels, [row.texts for row in rows])
        case Facts(rows):
            return _markdown_table(("", ""), rows)
        case Table(columns, rows):
            return _markdown_table(columns or ("", ""), rows)
        case Details(title, table):
            return f"{_markdown(title)}:\n\n{_markdown_block(table)}"


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_markdown, line)) + " |" for line in lines)


def _markdown(text: str) -> str:
    """Text for Markdown on one line, with HTML and the marks of Markdown escaped."""
    shown = presentable(text).encode("utf-8", "backslashreplace").decode()
    shown = escape(" ".join(shown.split()), quote=False)
    return shown if set(shown) == {"-"} else "".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in shown)


def to_text(page: Page) -> str:
    """The sections as text for a terminal, without charts and attention."""
    parts = []
    for section in page.sections:
        blocks = [_text_block(block) for block in section.blocks if not isinstance(block, Chart)]
        if blocks:
            parts.append(f"{section.title}\n" + "\n\n".join(blocks))
    return presentable("\n\n".join(parts))


def _text_block(block: TextBlock) -> str:
    match block:
        case Paragraph(text):
            return _filled(text)
        case Command(text):
            return text
        case Note(_, text, evidence, command):
            return "\n  ".join(filter(None, (_filled(text), _filled(evidence), command)))
        case Samples(labels, samples):
            width = max(map(len, labels))
            rows = (zip(labels, sample.texts, strict=True) for sample in samples)
            return "\n\n".join("\n".join(f"  {label:{width}}  {text}" for label, text in row) for row in rows)
        case Facts(facts) | Table((), facts):
            return "\n".join(f"{name}: {value}" for name, value in facts)
        case Table(columns, rows):
            head, *body = ([name, *map(_shortened, cells)] for name, *cells in (columns, *rows))
            return format_table(head, body)
        case Details(title, table):
            return f"{title}\n{_text_block(table)}"


def _filled(text: str) -> str:
    """A text over several lines, but for long words such as paths."""
    return textwrap.fill(text, _COLUMNS - 2, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _shortened(cell: str) -> str:
    """The end of a cell, which tells paths apart."""
    return cell if len(cell) <= _WIDEST_CELL else "..." + cell[3 - _WIDEST_CELL :]
