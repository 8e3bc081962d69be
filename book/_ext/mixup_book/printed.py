"""What a page has as HTML, for paper: tables, reports and boxes as LaTeX sets them, sliders as pictures.

Outputs of pandas, of the audit and of the players, and what `{made}` shows, are HTML. A builder of anything else would
leave it out, or print the plain text that stands behind it.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

import bs4
from docutils import nodes
from PIL import Image, ImageColor
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

from mixup_book.printed_tables import PrintedTables, table

_INLINE = {"strong": nodes.strong, "b": nodes.strong, "em": nodes.emphasis, "i": nodes.emphasis, "sub": nodes.subscript}
_NOT_READ = ("style", "script", "noscript", "audio", "input")
_CELL = 12  # pixels a side of a matrix entry in the printed picture of a report


class PrintedHtml(SphinxPostTransform):
    """Replaces HTML by nodes that every builder knows; pages of HTML keep it."""

    default_priority = 6  # after MyST-NB has chosen what to show of an output, before pictures are collected

    def run(self, **kwargs: object) -> None:
        """Called by Sphinx for each document that is written."""
        if self.app.builder.format == "html":
            return
        for raw in list(self.document.findall(nodes.raw)):
            if "online-only" in raw["classes"]:
                raw.parent.remove(raw)
            elif "html" in raw["format"].split():
                reader = Reader(self.app, self.app.project.path2doc(_document(raw)["source"]))
                raw.parent.replace(raw, reader.read(raw.astext(), inline=isinstance(raw.parent, nodes.TextElement)))


class Reader:
    """Reads the HTML of one page.

    Args:
        app: Sphinx.
        page: the name of the document, for links and for the address of the page.
    """

    def __init__(self, app: Sphinx, page: str):
        self.app, self.page = app, page

    def read(self, markup: str, inline: bool = False) -> list[nodes.Node]:
        """The nodes that stand for a piece of HTML, inside a paragraph or between two."""
        element = bs4.BeautifulSoup(markup, "html.parser")
        return self._inline(element.children) if inline else self._blocks(element)

    def _blocks(self, element: bs4.Tag) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        line: list[nodes.Node] = []
        for child in [*element.children, None]:
            inline = type(child) is bs4.NavigableString or getattr(child, "name", None) in (
                *_INLINE,
                "code",
                "a",
                "span",
            )
            if inline:
                line += self._inline([child])
                continue
            if any(node.astext().strip() for node in line):
                found.append(nodes.paragraph("", "", *line))
            line = []
            if isinstance(child, bs4.Tag) and child.name not in _NOT_READ:
                found += self._block(child)
        return found

    def _block(self, element: bs4.Tag) -> list[nodes.Node]:
        classes = element.get("class", [])
        if "interactive" in classes:
            return self._still(json.loads(element.script.string))
        if "mixup-players" in classes:
            return self._sounds(element)
        if "mixup-data-box" in classes:
            title = nodes.title("", element.strong.get_text())
            return [nodes.admonition("", title, *self._block(element.ul), classes=["data-box"])]
        if "mixup-report" in classes:
            pictures = element.find_all("svg")
            summary = nodes.paragraph("", "", *self._inline(element.p.children))
            drawn = self._matrices(pictures) if pictures else []
            return [summary, *drawn, table(element.table, self._inline)]
        if element.name == "table":
            return [table(element, self._inline)]
        if element.name == "ul":
            items = [nodes.list_item("", *_wrapped(self._blocks(item))) for item in element.find_all("li")]
            return [nodes.bullet_list("", *items, bullet="-")]
        if element.name == "summary":
            together = nodes.raw("", r"\needspace{10\baselineskip}", format="latex")
            return [together, nodes.paragraph("", "", nodes.strong("", "", *self._inline(element.children)))]
        return self._blocks(element)

    def _inline(self, children: Iterable[bs4.PageElement]) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        for child in children:
            name = getattr(child, "name", None)
            if type(child) is bs4.NavigableString:
                found.append(nodes.Text(re.sub(r"\s+", " ", child)))
            elif name in _INLINE:
                found.append(_INLINE[name]("", "", *self._inline(child.children)))
            elif name == "code":
                found += _breakable(child.get_text())
            elif name == "a":
                found.append(self._link(child["href"], self._inline(child.children)))
            elif name == "br":
                found.append(nodes.Text(" "))
            elif name and name not in _NOT_READ:
                found += self._inline(child.children)
        return found

    def _link(self, address: str, content: list[nodes.Node]) -> nodes.reference:
        """A link; one to a page of the book leads to its place in the same document."""
        path, _, anchor = address.partition("#")
        if re.match(r"\w+:", address) or not path.endswith(".html"):
            return nodes.reference("", "", *content, refuri=address)
        page = posixpath.normpath(posixpath.join(posixpath.dirname(self.page), path.removesuffix(".html")))
        target = f"%{page}" + (f"#{anchor}" if anchor else "")
        return nodes.reference("", "", *content, refuri=target, internal=True)

    def _online(self, text: str) -> nodes.reference:
        return nodes.reference("", text, refuri=f"{self.app.config.html_baseurl}{self.page}.html")

    def _still(self, figure: dict) -> list[nodes.Node]:
        """A slider at four of its positions."""
        from mixup_modalities.lab.figures import draw_stills  # draws; a book of HTML needs it not

        picture = draw_stills(figure)
        note = ["Some positions of a slider; it moves in the ", self._online("online book"), "."]
        path = self._file(json.dumps(figure, sort_keys=True), ".pdf")
        picture.savefig(path, metadata={"CreationDate": None})
        image = self._picture(path, picture.alt)
        image["width"] = "740px"
        return [image, _small(note)]

    def _sounds(self, element: bs4.Tag) -> list[nodes.Node]:
        """The names of the sounds, and where they can be heard."""
        columns = [cell.get_text(" ", strip=True) for cell in element.thead.find_all(["td", "th"])]
        items = []
        for row in element.tbody.find_all("tr"):
            head, *cells = row.find_all(["th", "td"])
            heard = ", ".join(name for name, cell in zip(columns[1:], cells) if cell.audio)
            items.append(nodes.list_item("", nodes.paragraph("", f"{head.get_text(' ', strip=True)}: {heard}")))
        title = nodes.title("", "", nodes.Text("Sounds, to be heard in the "), self._online("online book"))
        return [nodes.admonition("", title, nodes.bullet_list("", *items, bullet="-"), classes=["sounds"])]

    def _matrices(self, drawings: list[bs4.Tag]) -> list[nodes.Node]:
        """The matrices of a report, drawn as squares, side by side in one picture."""
        sizes = [(int(float(d["width"])) // 10, int(float(d["height"])) // 10) for d in drawings]
        gap, frame = 4 * _CELL, 1
        widths = [columns * _CELL + 2 * frame for columns, _ in sizes]
        height = max(rows for _, rows in sizes) * _CELL + 2 * frame
        sheet = Image.new("RGB", (sum(widths) + gap * (len(sizes) - 1), height), "white")
        left = 0
        for drawing, (_, rows), width in zip(drawings, sizes, widths):
            sheet.paste("#888888", (left, 0, left + width, rows * _CELL + 2 * frame))
            sheet.paste("#ffffff", (left + frame, frame, left + width - frame, rows * _CELL + frame))
            for square in drawing.find_all("rect"):
                x, y = (int(float(square[axis])) // 10 * _CELL + frame for axis in "xy")
                opacity = float(square["fill-opacity"])
                shade = [round(255 + opacity * (c - 255)) for c in ImageColor.getrgb(square["fill"])]
                sheet.paste(tuple(shade), (left + x, y, left + x + _CELL, y + _CELL))
            left += width + gap
        path = self._file(str(drawings), ".png")
        sheet.save(path)
        names = [self._inline(d.find_parent("figure").figcaption.children) for d in drawings]
        line = names[0] + [node for name in names[1:] for node in (nodes.Text(" beside "), *name)]
        picture = self._picture(path, "; ".join(d["aria-label"] for d in drawings))
        picture["width"] = f"{sheet.width}px"
        return [picture, _small([nodes.emphasis("", "", *line, nodes.Text("."))])]

    def _file(self, content: str, suffix: str) -> str:
        folder = Path(self.app.doctreedir, "printed")
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder / (hashlib.sha256(content.encode()).hexdigest()[:32] + suffix))

    def _picture(self, path: str, alt: str) -> nodes.image:
        self.app.env.images.add_file(self.page, path)
        return nodes.image(uri=path, candidates={"*": path}, alt=alt, align="center")


def _document(node: nodes.Node) -> nodes.Node:
    """The page that the node was read from, also where Sphinx has put the pages together into one document."""
    while node.parent:
        node = node.parent
    return node


def _breakable(code: str) -> list[nodes.Node]:
    """Code that may go on in the next line of its cell after a dot, an underscore or a bracket."""
    pieces = re.split(r"(?<=[._\[(=,])(?=\w)", code)
    found: list[nodes.Node] = []
    for piece in pieces:
        found += [nodes.literal("", piece), nodes.raw("", r"\allowbreak{}", format="latex")]
    return found[:-1]


def _wrapped(children: list[nodes.Node]) -> list[nodes.Node]:
    return children or [nodes.paragraph()]


def _small(parts: list[str | nodes.Node]) -> nodes.paragraph:
    """A line below a picture."""
    return nodes.paragraph("", "", *(nodes.emphasis("", p) if isinstance(p, str) else p for p in parts))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    for transform in (PrintedHtml, PrintedTables):
        app.add_post_transform(transform)
