"""Tables of the status page and of the index of claims, made from the notebooks whenever the book is built."""

import html
import json
import re
from collections import defaultdict
from pathlib import Path

import nbformat
from docutils.nodes import make_id

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = ROOT / "notebooks"
RECORD = ROOT / "results" / "notebooks.json"
CHECKED = "nbval-check-output"
ASSERTED = re.compile(r"^\s*(?:assert |(?:torch\.testing\.|np\.testing\.)?assert_\w+\()(.*)", re.MULTILINE)
HEADING = re.compile(r"(?:^\(([\w-]+)\)=\s*\n+)?^(#{1,4}) (.+)$", re.MULTILINE)
INTERVALS = ("interval(", "mean_interval", "paired_")


class Html:
    """A piece of HTML that shows itself."""

    def __init__(self, text: str):
        self.text = text

    def _repr_html_(self) -> str:
        return self.text


def table(head: list[str], rows: list[list[str]]) -> str:
    """An HTML table; cells are HTML."""
    line = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    scroll = '<div class="scrolled-table" style="overflow-x: auto" tabindex="0">'
    return f'{scroll}<table class="table"><thead><tr>{line}</tr></thead><tbody>{body}</tbody></table></div>'


def plain(markdown: str) -> str:
    """A heading without its markup."""
    return re.sub(r"\{\w+\}`([^`<]+)[^`]*`|[`*$]", r"\1", markdown).replace("\\", "").strip()


def link(path: Path, anchor: str, text: str) -> str:
    """A link from a page of the book to a place in a chapter."""
    return f'<a href="../notebooks/{path.stem}.html#{anchor}">{html.escape(text)}</a>'


def evidence(source: str, before: str) -> str:
    """What kind of evidence an assertion rests on."""
    if "assert_close(" in source or re.search(r"< ?1e-\d", source):
        return "identity"
    if any(word in source for word in INTERVALS):
        return "runs in the ledger, with an interval" if "ledger" in source + before else "live runs, with an interval"
    return "the ledger" if "ledger" in source else "live"


def claims_of(path: Path) -> list[list[str]]:
    """The rows of one chapter: section, assertion, evidence."""
    rows, anchor, section, code = [], "", "", ""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            for label, _, title in HEADING.findall(re.sub(r"^```.*?^```", "", cell.source, flags=re.M | re.S)):
                section, anchor, code = plain(title), label or make_id(plain(title)), ""
            continue
        for found in ASSERTED.finditer(cell.source):
            text = found.group(0).strip()
            text = re.sub(r"\s+#.*$|, f?\"[^\"]*\"$", "", text)
            cut = text if len(text) <= 110 else text[:107] + "..."
            kind = evidence(cell.source, code)
            rows.append([link(path, anchor, section), f"<code>{html.escape(cut)}</code>", kind])
        code += cell.source
    return rows


def title_of(path: Path) -> str:
    """The title of a chapter."""
    return plain(HEADING.search(nbformat.read(path, as_version=4).cells[0].source).group(3))


def claims() -> Html:
    """All assertions of the book, by chapter."""
    parts = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        rows = claims_of(path)
        if rows:
            name = f"{path.stem[:2]} {title_of(path)}"
            inner = table(["section", "what its cell asserts", "evidence"], rows)
            count = f"{len(rows)} assertion{'s' * (len(rows) > 1)}"
            parts.append(f"<details><summary>{html.escape(name)}: {count}</summary>{inner}</details>")
    return Html("".join(parts))


def status() -> Html:
    """What each chapter takes, and when and with what it was last executed."""
    noted = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    rows, chapters = [], defaultdict(list)  # chapters executed on the same day with the same versions
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        entry = noted.get(path.stem, {})
        with_what = f"on {entry['day']} with {entry['versions']}" if entry else "with versions that were not noted"
        chapters[with_what].append(path.stem[:2])
        cells = nbformat.read(path, as_version=4).cells
        compared = sum(CHECKED in cell.metadata.get("tags", []) for cell in cells)
        asserts = len(claims_of(path))
        rows.append(
            [
                f'<a href="../notebooks/{path.stem}.html">{path.stem[:2]} {html.escape(title_of(path))}</a>',
                f"{entry['cpu_seconds']} s" if entry else "not noted",
                *(", ".join(entry.get(key, [])).replace("_", "_<wbr>") or "–" for key in ("data", "ledger")),
                str(asserts),
                str(compared),
            ]
        )
    executed = "".join(
        f"<p>Executed {html.escape(with_what)}: {'every chapter' if len(chapters) == 1 else ', '.join(numbers)}.</p>"
        for with_what, numbers in chapters.items()
    )
    return Html(executed + table(["chapter", "CPU time", "data", "ledger", "asserts", "outputs compared"], rows))
