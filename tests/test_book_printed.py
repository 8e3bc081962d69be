"""The book on paper: nothing that a page shows as HTML is lost, and none of it is printed as HTML or as a repr."""

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
import yaml
from docutils import nodes

from mixup_modalities import ImageMixup, audit
from mixup_modalities.lab import figures
from mixup_modalities.lab.datasets import load

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PLOTLY = "application/vnd.plotly.v1+json"
PROOF = "```{prf:proof}\nAdd the rows.\n```\n\n```{dropdown} What to think about\nThe columns.\n```"
SOLVED = "```{exercise} Sum\n:label: sum\nWhat is it?\n```\n\n````{solution-start} sum\n````"
REFERENCES = "Read {cite:p}`one`.\n\n```{bibliography}\n```\n\nAfter the references."


@pytest.fixture(scope="module")
def ours():
    """The extension's modules, for as long as the tests of this module run."""
    forget_the_extension()  # a parent that another test has dropped does not know its modules again
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    try:
        import mixup_book.edition
        import mixup_book.printed
        import mixup_book.printed_tables  # noqa: F401

        yield sys.modules["mixup_book"]
    finally:
        sys.path.remove(str(ROOT / "book" / "_ext"))
        forget_the_extension()


def forget_the_extension() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mixup_book"]:
        del sys.modules[name]


@pytest.fixture
def reader(ours, tmp_path):
    """Reads HTML as a page of the book has it; pictures go to a folder of the test."""
    images = SimpleNamespace(add_file=lambda page, path: Path(path).name)
    config = SimpleNamespace(html_baseurl="https://example.org/book/")
    app = SimpleNamespace(env=SimpleNamespace(images=images), config=config, doctreedir=str(tmp_path))
    return ours.printed.Reader(app, "notebooks/01_page")


def outputs_of(path: Path) -> list[dict]:
    cells = nbformat.read(path, as_version=4).cells
    return [out.data for cell in cells for out in cell.get("outputs", []) if out.output_type != "stream" and out.data]


def rows_of(table: nodes.Node) -> list[list[str]]:
    return [[entry.astext() for entry in row.findall(nodes.entry)] for row in table.findall(nodes.row)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_html_output_of_the_book_has_a_printed_form(path, reader):
    for data in outputs_of(path):
        if "text/html" in data:
            found = nodes.container("", *reader.read(data["text/html"]))
            kinds = {type(node) for node in found.findall()}
            assert kinds & {nodes.table, nodes.admonition}, "it became neither a table nor a box"
            assert not kinds & {nodes.raw} or all(n["format"] == "latex" for n in found.findall(nodes.raw))
            assert not re.search(r"<\w+[ >]|base64|object at 0x|\bPlayers\(", found.astext())
        elif PLOTLY in data:
            assert figures.draw_stills(data[PLOTLY], positions=1).get_axes()


def test_a_table_of_pandas_keeps_its_cells_and_its_two_headings_become_one(reader):
    import pandas as pd

    frame = pd.DataFrame({"ERM": [0.5, 0.25], "mixup": [0.75, 1.0]}, index=pd.Index(["a", "b"], name="data"))
    (table,) = reader.read(frame._repr_html_())[-1:]
    assert rows_of(table) == [["data", "ERM", "mixup"], ["a", "0.50", "0.75"], ["b", "0.25", "1.00"]]
    assert len(list(table.findall(nodes.thead))) == 1


def test_cells_that_span_rows_and_columns_still_do(reader):
    markup = '<table><tr><td rowspan="2">a</td><td colspan="2">b</td></tr><tr><td>c</td><td>d</td></tr></table>'
    (table,) = reader.read(markup)
    first, second, *_ = table.findall(nodes.entry)
    assert (first["morerows"], second["morecols"]) == (1, 1)
    assert table.next_node(nodes.tgroup)["cols"] == 3


def test_columns_are_as_wide_as_their_content(ours):
    tables = ours.printed_tables
    short = [["name", "a", "b"], ["value", "0.5", "[-1.0, 2.0]"]]
    assert tables._specification(short, 1, tables._shares(short, 1)) == "lr"
    long = [["word", "a"], ["text", "many words " * 20], ["interval", "+0.237 [+0.220, +0.254]"]]
    shares = tables._shares(long, 1)
    assert shares[0] >= len("word") and shares[2] >= len("+0.237 [+0.220, +0.254]") and shares[1] == max(shares)
    assert sum(shares) + len(shares) * tables._GAP <= tables._LINE + 1e-6
    assert tables._specification(long, 1, shares).count(r"\X") == 3


def test_what_stands_under_a_cell_of_several_rows_keeps_its_column(ours, reader):
    markup = (
        "<table><tr><td rowspan=2>calibration</td><td>cnn</td><td>15</td></tr><tr><td>lstm</td><td>7</td></tr>"
        "<tr><td colspan=2>in all together</td><td>22</td></tr></table>"
    )
    (table,) = reader.read(markup)
    found = ours.printed_tables._columns(list(table.findall(nodes.row)))
    assert found == [["calibration", "", ""], ["cnn", "lstm", ""], ["15", "7", "22"]]


def test_players_name_their_sounds_and_lead_to_them(reader):
    tone = np.sin(np.arange(800) / 5)
    (box,) = reader.read(figures.Players({"yes": {"λ = 1": tone, "λ = 0": tone}, "no": {"λ = 0": tone}})._repr_html_())
    assert [item.astext() for item in box.findall(nodes.list_item)] == ["yes: λ = 1, λ = 0", "no: λ = 0"]
    assert box.next_node(nodes.reference)["refuri"] == "https://example.org/book/notebooks/01_page.html"


def test_the_data_box_keeps_its_title_and_its_lines(reader):
    announced = load("mnist", sample=True).announce()
    (box,) = reader.read(announced._repr_html_())
    assert box.children[0].astext() == announced.heading
    assert [item.astext() for item in box.findall(nodes.list_item)] == announced.lines


def test_a_report_is_printed_with_every_check_and_with_its_matrices(reader):
    from PIL import Image

    report = audit(ImageMixup(alpha=0.4), alpha=0.4)
    summary, picture, below, table = reader.read(report._repr_html_())
    assert below.astext() == "Wx, the features beside Wy, the labels."
    assert [node.astext() for node in below.findall(nodes.subscript)] == ["x", "y"]
    assert summary.astext() == report.summary()
    assert rows_of(table)[1:] == [[c.verdict, c.name, " ".join(c.evidence.split())] for c in report.checks]
    drawn = np.asarray(Image.open(picture["uri"]).convert("L")).astype(float)
    cell, rows = 12, len(report.w_x)
    for matrix, left in ((report.w_x, 1), (report.w_y, rows * cell + 2 + 4 * cell + 1)):
        seen = drawn[1 + cell // 2 :: cell, left + cell // 2 :: cell][:rows, :rows]
        order = torch.tensor(seen).flatten()[matrix.flatten().argsort()]
        assert (order.diff() <= 1).all(), "a larger weight is drawn darker"


def test_links_between_pages_stay_in_the_document_and_others_leave_it(reader):
    found = reader.read(
        '<p><a href="../book/faq.html#why">x</a> <a href="02_b.html">y</a> <a href="https://a.org/b.html">z</a></p>'
    )
    assert [link["refuri"] for link in found[0].findall(nodes.reference)] == [
        "%book/faq#why",
        "%notebooks/02_b",
        "https://a.org/b.html",
    ]


def test_html_of_an_unknown_kind_is_printed_as_its_text(reader):
    found = reader.read("<section><h2>Title</h2>Some <em>words</em><div>and more</div><script>no()</script></section>")
    assert [node.astext() for node in found] == ["Title", "Some words", "and more"]


# One small book, built as `make pdf` builds the real one.


def notebook() -> nbformat.NotebookNode:
    """A page of everything that differs on paper."""
    import pandas as pd

    stack = np.zeros((3, 2, 2))
    slider = figures.matrix_slider({"W": stack}, "abc")
    frame = pd.DataFrame({"accuracy": ["0.5 [0.4, 0.6]"]}, index=["mixup_alone"])
    picture, metadata = figures.show_images(np.zeros((2, 4, 4)))._repr_mimebundle_()
    players = figures.Players({"yes": {"loud": np.zeros(100)}})
    picture["image/png"] = base64.b64encode(picture["image/png"]).decode()
    bundles = [
        ({PLOTLY: json.loads(slider.to_json())}, {}),
        ({"text/html": frame._repr_html_(), "text/plain": "PLAIN FRAME"}, {}),
        ({"text/html": players._repr_html_(), "text/plain": repr(players)}, {}),
        (picture, metadata),
    ]
    cells = [nbformat.v4.new_markdown_cell(f"# A page\n\n{PROOF}\n\n```{{pdf-edition}}\n```\n")]
    for data, output_metadata in bundles:
        output = nbformat.v4.new_output("display_data", data, metadata=output_metadata)
        cells.append(nbformat.v4.new_code_cell("show()", outputs=[output]))
    cells += [
        nbformat.v4.new_markdown_cell(SOLVED),
        nbformat.v4.new_code_cell("solve_it()"),
        nbformat.v4.new_markdown_cell("```{solution-end}\n```"),
        nbformat.v4.new_markdown_cell(REFERENCES),
    ]
    page = nbformat.v4.new_notebook(cells=cells)
    page.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    return page


def build(folder: Path, *more: str) -> None:
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build", str(folder), "-W", "--keep-going", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    shutil.copytree(ROOT / "book" / "_ext", folder / "book" / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "book" / "_static", folder / "book" / "_static")
    shutil.copy(ROOT / "_config.yml", folder)
    chapters = [{"caption": "A part", "chapters": [{"file": "page"}]}]
    (folder / "_toc.yml").write_text(yaml.safe_dump({"format": "jb-book", "root": "first", "parts": chapters}))
    (folder / "first.md").write_text("# First\n\nRead on.\n")
    entry = "@misc{one, author={A. Author}, title={A Title}, year={2020}}\n"
    (folder / "book" / "references.bib").write_text(entry)
    nbformat.write(notebook(), folder / "page.ipynb")
    return folder


@pytest.fixture(scope="module")
def tex(book) -> str:
    build(book, "--builder", "latex", "--path-output", str(book / "_build" / "print"))
    return (book / "_build/print/_build/latex/mixup-across-modalities.tex").read_text(encoding="utf-8")


@pytest.mark.slow
def test_outputs_reach_the_page(book, tex):
    assert "accuracy" in tex and "0.5 {[}0.4, 0.6{]}" in tex and "PLAIN FRAME" not in tex
    assert "yes: loud" in tex and "Players(" not in tex
    assert "Some positions of a slider" in tex
    drawn = re.findall(r"\\sphinxincludegraphics(?:\[[^\]]*\])?\{+([^}]*)\}+([.\w]*)", tex)
    assert len(drawn) == 2
    for name, suffix in drawn:
        assert (book / "_build/print/_build/latex" / (name + suffix)).is_file()
    assert not re.search(r"<(div|table|figure|audio|span|td)\b", tex)


@pytest.mark.slow
def test_proofs_dropdowns_and_solutions_take_their_printed_form(tex):
    assert r"\sphinxstyleemphasis{Proof.} Add the rows.\hfill\(\square\)" in tex
    assert r"\begin{sphinxadmonition}{note}{What to think about}" in tex
    boxes = re.findall(r"\\begin\{sphinxadmonition\}.*?\\end\{sphinxadmonition\}", tex, re.DOTALL)
    assert any("Solution" in box for box in boxes)
    assert "solve" in tex and not any("sphinxVerbatim" in box for box in boxes)


@pytest.mark.slow
def test_the_references_stand_on_their_page_and_the_pdf_says_nothing_of_itself(tex):
    assert tex.index(r"\end{sphinxthebibliography}") < tex.index("After the references.")
    assert "make pdf" not in tex and "one PDF" not in tex


def test_the_link_to_the_pdf_comes_and_goes_with_the_pdf(tmp_path, ours):
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    site, made = tmp_path / "_build" / "html", tmp_path / "_build" / "pdf" / ours.edition.NAME
    page, beside = site / "folder" / "index.html", site / ours.edition.NAME
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "index.rst").write_text("Title\n=====\n\n.. pdf-edition::\n")

    def build() -> str:
        settings = {"extensions": ["mixup_book.edition"], "root_doc": "folder/index", "html_theme": "basic"}
        with docutils_namespace():
            Sphinx(tmp_path, None, site, tmp_path / "_build" / "trees", "html", settings, status=None).build()
        return page.read_text(encoding="utf-8")

    assert "<code>make pdf</code>" in build() and not beside.exists()
    made.parent.mkdir()
    for content in (b"%PDF-1.5", b"%PDF-1.7"):
        made.write_bytes(content)
        assert f'<a href="../{ours.edition.NAME}">' in build()
        assert beside.read_bytes() == content
    made.unlink()
    assert ours.edition.NAME not in build() and not beside.exists()


def test_without_latex_make_pdf_says_what_to_install_and_does_nothing(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    command = ["make", "-C", str(tmp_path), "pdf", "TEX_TOOLS=sh no-such-xelatex"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "There is no no-such-xelatex here" in done.stderr and "texlive-xetex" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]
