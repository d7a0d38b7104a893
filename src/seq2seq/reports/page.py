"""Page of a report: sections of tables, charts, samples and commands, as one offline HTML file or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from seq2seq.redaction import presentable


class Table(NamedTuple):
    """Rows of texts; numbers are aligned to the right."""

    columns: Sequence[str]
    """Empty for a table of names and values without a head."""
    rows: Sequence[Sequence[str]]


class Paragraph(NamedTuple):
    """A sentence."""

    text: str


class Command(NamedTuple):
    """A command to type."""

    text: str


class Chart(NamedTuple):
    """A drawing with its title; Markdown leaves it out."""

    title: str
    svg: str


class Samples(NamedTuple):
    """Score, source, reference and translation of some sentences."""

    rows: Sequence[tuple[str, str, str, str]]


class Section(NamedTuple):
    """Blocks below a heading."""

    title: str
    blocks: Sequence[Table | Paragraph | Command | Chart | Samples]


_STYLE = """
:root { color-scheme: light dark; --text: #1c2025; --soft: #5a6370; --line: #d5dae0; --back: #ffffff; --box: #f4f6f8;
  --c0: #1f6fb4; --c1: #c2560c; --c2: #2b7d3c; --c3: #8a4fb0; --c4: #a83244; --c5: #6b6b00; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ec; --soft: #9aa5b1; --line: #3a424c; --back: #15181c;
  --box: #1f2429; --c0: #6cb3f0; --c1: #f0985a; --c2: #78c98a; --c3: #c79be6; --c4: #ef8a98; --c5: #cfcf6a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; font: 16px/1.5 system-ui, sans-serif; color: var(--text);
  background: var(--back); overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; } td + td { font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; } td { max-width: 34rem; overflow-wrap: anywhere; min-width: 3.5rem; }
pre { background: var(--box); padding: .6rem; margin: .3rem 0; white-space: pre-wrap; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1rem; }
figure { margin: 0; } svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 13px; } .grid { stroke: var(--line); }
polyline { fill: none; stroke-width: 2; }
svg .curve circle { fill: currentColor; } svg .curve polyline { stroke: currentColor; } .legend { margin: 0; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); }
.c4 { color: var(--c4); } .c5 { color: var(--c5); }
dl { background: var(--box); padding: .6rem; margin: .5rem 0;
  display: grid; grid-template-columns: 7rem 1fr; gap: .2rem; }
dt { color: var(--soft); } dd { margin: 0; white-space: pre-wrap; }
@media (max-width: 40rem) { body { padding: .6rem; font-size: 15px; } dl { grid-template-columns: 1fr; } }
"""
# Nothing may be loaded or run by the page, whatever the corpus says.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_LABELS = ("chrF", "source", "reference", "translation")


def to_html(title: str, sections: Sequence[Section], *, refresh_seconds: int = 0) -> str:
    """The page as HTML; it loads itself again at intervals if `refresh_seconds` is not 0."""
    refresh = f'<meta http-equiv="refresh" content="{refresh_seconds}">\n' if refresh_seconds else ""
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n{refresh}'
        f"<title>{_html(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{_html(title)}</h1>\n"
    ]
    for section in sections:
        parts.append(f"<section>\n<h2>{_html(section.title)}</h2>\n")
        charts = [block for block in section.blocks if isinstance(block, Chart)]
        if charts:
            drawn = "\n".join(f"<figure><h3>{_html(chart.title)}</h3>{chart.svg}</figure>" for chart in charts)
            parts.append(f'<div class="charts">\n{drawn}\n</div>\n')
        parts += [_html_block(block) for block in section.blocks if not isinstance(block, Chart)]
        parts.append("</section>\n")
    return "".join([*parts, "</body>\n</html>\n"])


def _html_block(block: Table | Paragraph | Command | Samples) -> str:
    match block:
        case Paragraph(text):
            return f"<p>{_html(text)}</p>\n"
        case Command(text):
            return f"<pre>{_html(text)}</pre>\n"
        case Samples(rows):
            return "".join(
                "<dl>"
                + "".join(
                    f'<dt>{label}</dt><dd dir="auto">{_html(text)}</dd>'
                    for label, text in zip(_LABELS, row, strict=True)
                )
                + "</dl>\n"
                for row in rows
            )
        case Table(columns, rows):
            head = "".join(f"<th>{_html(name)}</th>" for name in columns)
            body = "\n".join("<tr>" + "".join(f"<td>{_html(cell)}</td>" for cell in row) + "</tr>" for row in rows)
            top = f"<thead><tr>{head}</tr></thead>\n" if head else ""
            return f'<div class="wide"><table>\n{top}<tbody>\n{body}\n</tbody></table></div>\n'


def _html(text: str) -> str:
    """Text for HTML: secrets redacted, control characters and bytes that are no UTF-8 escaped."""
    return escape(presentable(text).encode("utf-8", "backslashreplace").decode())


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """The report as Markdown, without charts."""
    parts = [f"# {_markdown(title)}"]
    for section in sections:
        blocks = [_markdown_block(block) for block in section.blocks if not isinstance(block, Chart)]
        if blocks:
            parts += [f"## {_markdown(section.title)}", *blocks]
    return "\n\n".join(parts) + "\n"


def _markdown_block(block: Table | Paragraph | Command | Samples) -> str:
    match block:
        case Paragraph(text):
            return _markdown(text)
        case Command(text):
            return "    " + presentable(text).replace("\n", " ")
        case Samples(rows):
            return _markdown_table(_LABELS, rows)
        case Table(columns, rows):
            return _markdown_table(columns or ("", ""), rows)


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_markdown, line)) + " |" for line in lines)


def _markdown(text: str) -> str:
    """Text for Markdown on one line, with HTML and the marks of Markdown escaped."""
    shown = presentable(text).encode("utf-8", "backslashreplace").decode()
    shown = escape(" ".join(shown.split()), quote=False)
    return shown if set(shown) == {"-"} else "".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in shown)
