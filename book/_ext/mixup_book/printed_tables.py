"""Tables on paper: those of HTML become tables of LaTeX; columns as wide as their content, numbers to the right."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

import bs4
from docutils import nodes
from sphinx.addnodes import tabular_col_spec
from sphinx.transforms.post_transforms import SphinxPostTransform

Inline = Callable[[Iterable[bs4.PageElement]], list[nodes.Node]]
_NUMBER = re.compile(r"[-+−±.,\d\s\[\]%×]*\d[-+−±.,\d\s\[\]%×]*|nan|")
_WORD = re.compile(r"\[[^\]]*\]|\S+")  # an interval is not broken
_LINE = 92  # characters that fit on a line of the page
_GAP = 2.6  # characters that fit between two columns
_LONG = 28  # lines of a table that may break across pages


class PrintedTables(SphinxPostTransform):
    """Tells LaTeX how wide the columns of every table are; left alone it makes them all alike."""

    default_priority = 8  # after the tables of HTML have become tables
    formats = ("latex",)

    def run(self, **kwargs: object) -> None:
        """Called by Sphinx for each document that is written."""
        for grid in list(self.document.findall(nodes.table)):
            rows, depth = list(grid.findall(nodes.row)), sum(len(head) for head in grid.findall(nodes.thead))
            columns = _columns(rows)
            if isinstance(grid.previous_sibling(), tabular_col_spec):
                continue
            shares = _shares(columns, depth)
            grid.parent.insert(grid.parent.index(grid), tabular_col_spec(spec=_specification(columns, depth, shares)))
            lines = zip(*([len(text) / share for text in column] for column, share in zip(columns, shares)))
            if sum(math.ceil(max(line)) or 1 for line in lines) > _LONG:
                grid["classes"].append("longtable")


def table(element: bs4.Tag, inline: Inline) -> nodes.table:
    """The node of a table.

    Args:
        element: `<table>`; cells may span rows and columns.
        inline: makes the nodes of what stands in a cell.
    """
    head = _joined(element.thead.find_all("tr") if element.thead else [])
    body = (element.tbody or element).find_all("tr")
    lines = [row.find_all(["td", "th"]) for row in [*head, *body]]
    rows = [nodes.row("", *(_entry(cell, inline) for cell in line)) for line in lines]
    count = max(sum(int(cell.get("colspan", 1)) for cell in line) for line in lines)
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in range(count)), cols=count)
    if head:
        group += nodes.thead("", *rows[: len(head)])
    group += nodes.tbody("", *rows[len(head) :])
    return nodes.table("", group)


def _joined(head: list[bs4.Tag]) -> list[bs4.Tag]:
    """pandas writes the name of its index into a second row of headings, which is empty but for that: one row."""
    if len(head) != 2:
        return head
    upper, lower = (row.find_all(["th", "td"]) for row in head)
    pairs = list(zip(upper, lower))
    if len(upper) != len(lower) or any(a.get_text(strip=True) and b.get_text(strip=True) for a, b in pairs):
        return head
    for above, below in pairs:
        if below.get_text(strip=True):
            above.string = below.get_text(strip=True)
    return head[:1]


def _entry(cell: bs4.Tag, inline: Inline) -> nodes.entry:
    entry = nodes.entry("", nodes.paragraph("", "", *inline(cell.children)))
    for name, span in (("morecols", "colspan"), ("morerows", "rowspan")):
        if int(cell.get(span, 1)) > 1:
            entry[name] = int(cell[span]) - 1
    return entry


def _columns(rows: list[nodes.row]) -> list[list[str]]:
    """What stands in each column, row by row; a cell over several columns says nothing of the width of one."""
    count = max(sum(1 + entry.get("morecols", 0) for entry in row) for row in rows)
    columns: list[list[str]] = [[] for _ in range(count)]
    below = [0] * count  # rows that a cell above still covers
    for row in rows:
        entries = iter(row)
        place = 0
        while place < count:
            entry = None if below[place] else next(entries, None)
            wide = 1 + (entry.get("morecols", 0) if entry else 0)
            for k in range(place, min(place + wide, count)):
                columns[k].append(_text(entry) if entry and wide == 1 else "")
                below[k] = entry.get("morerows", 0) if entry else max(below[k] - 1, 0)
            place += wide
    return columns


def _text(entry: nodes.entry) -> str:
    """About as long as the entry is when set: a command of LaTeX is one letter."""
    formulas = {node.astext() for node in entry.findall(nodes.math)}
    text = entry.astext()
    for formula in formulas:
        text = text.replace(formula, re.sub(r"\\[a-zA-Z]+|[{}$^_\s]+", "", formula.replace(r"\\", "")))
    return text


def _shares(columns: list[list[str]], depth: int) -> list[float]:
    """How many characters wide each column is to be, on a line of `_LINE`."""
    words = [max((len(word) for text in column for word in _WORD.findall(text)), default=1) for column in columns]
    widths = [max([*map(len, column[depth:]), word]) for column, word in zip(columns, words)]  # a heading may break
    whole = [max([width, *map(len, column[:depth])]) for column, width in zip(columns, widths)]
    room = _LINE - _GAP * len(columns)
    if sum(whole) <= room:
        return [float(width) for width in whole]
    # Every column gets room for its longest word. What is left of the line goes round: a column that needs less than
    # an equal part takes what it needs, and those that need more share the rest.
    shares = [float(min(word, 40)) for word in words]
    rest = max(room - sum(shares), 0)
    needs = sorted((max(width - share, 0), k) for k, (width, share) in enumerate(zip(widths, shares)))
    for place, (need, k) in enumerate(needs):
        given = min(need, rest / (len(needs) - place))
        shares[k], rest = shares[k] + given, rest - given
    return shares


def _specification(columns: list[list[str]], depth: int, shares: list[float]) -> str:
    """Columns as LaTeX wants them: natural widths where nothing has to break, numbers to the right; else shares."""
    if all(len(text) <= share for column, share in zip(columns, shares) for text in column):
        right = [all(_NUMBER.fullmatch(text) for text in column[depth:]) for column in columns]
        return "".join("r" if numbers else "l" for numbers in right)
    parts = [round(10 * (share + _GAP)) for share in shares]
    return "".join(rf">{{\raggedright\arraybackslash}}\X{{{part}}}{{{sum(parts)}}}" for part in parts)
