"""A report as headings, texts, tables, commands and pictures; as Markdown and as one HTML file."""

import base64
import dataclasses
import html
from collections.abc import Callable, Sequence
from urllib.parse import quote

from experiments.report import tables

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid #ddd; text-align: left; }
table.numbers th:not(:first-child), table.numbers td:not(:first-child) {
  text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f5f5f5; padding: 0.8rem; overflow-x: auto; font-size: 0.8rem; }
img { max-width: 100%; }
""".strip()


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; `numbers`: all columns but the first are set to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: bool = True


@dataclasses.dataclass(frozen=True)
class Code:
    """Commands."""

    text: str


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG; `file` is its name beside the report."""

    file: str
    caption: str
    png: bytes


Block = Text | Table | Code | Picture
Section = tuple[str, Sequence[Block]]


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The document as Markdown; pictures are links to their files.

    Args:
        title: the first heading.
        sections: heading ("" for none) and blocks.
    """
    parts = [f"# {title}"]
    for heading, blocks in sections:
        parts += [f"## {heading}"] if heading else []
        parts += [_MARKDOWN[type(block)](block) for block in blocks]
    return "\n\n".join(parts) + "\n"


def page(title: str, sections: Sequence[Section]) -> str:
    """The document as one HTML file that needs no other: pictures are data URIs.

    Args:
        title: the first heading.
        sections: heading ("" for none) and blocks.
    """
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for heading, blocks in sections:
        parts += [f"<h2>{html.escape(heading)}</h2>"] if heading else []
        parts += [_HTML[type(block)](block) for block in blocks]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _markdown_table(table: Table) -> str:
    text = tables.table(table.header, table.rows)
    return text if table.numbers else text.replace("---:", "---")


def _html_table(table: Table) -> str:
    rows = [_html_row("th", table.header), *(_html_row("td", row) for row in table.rows)]
    kind = ' class="numbers"' if table.numbers else ""
    return f"<table{kind}>\n" + "\n".join(rows) + "\n</table>"


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _html_picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    caption = html.escape(picture.caption)
    return f'<p><img alt="{caption}" src="data:image/png;base64,{data}"></p>'


_MARKDOWN: dict[type, Callable] = {
    Text: lambda block: block.text,
    Table: _markdown_table,
    Code: lambda block: f"```sh\n{block.text}\n```",
    Picture: lambda block: f"![{block.caption}]({quote(block.file)})",
}
_HTML: dict[type, Callable] = {
    Text: lambda block: f"<p>{html.escape(block.text)}</p>",
    Table: _html_table,
    Code: lambda block: f"<pre>{html.escape(block.text)}</pre>",
    Picture: _html_picture,
}
