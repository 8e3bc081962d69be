"""What the book's own Sphinx extension promises, on a book of one notebook: built once, then looked at."""

import base64
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml

from mixup_modalities.lab import figures

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
LOADED = re.compile(r"""<(?:script|img|link|source|audio|iframe)\b[^>]*?\s(?:src|href)="(?:https?:)?//[^"]*"[^>]*>""")
TABLE = '<table border="1" class="dataframe"><thead><tr><th></th><th>a</th></tr></thead></table>'


def notebook(alt: str) -> nbformat.NotebookNode:
    """A notebook with a formula, a citation, a signature, two pictures, a table, and two sliders."""
    picture, metadata = figures.show_images(np.zeros((2, 4, 4)))._repr_mimebundle_()
    named = {"mystnb": {"image": {"alt": "The alt text of the cell."}}}
    metadata["image/png"]["alt"] = alt
    stack = np.zeros((3, 2, 2))
    sliders = [figures.matrix_slider({"W": stack}, "abc"), figures.image_slider({"</script> x": stack}, "abc")]
    bundles = [(picture, metadata, {}), (picture, metadata, named), ({"text/html": TABLE}, {}, {})]
    bundles += [({"application/vnd.plotly.v1+json": json.loads(s.to_json())}, {}, {}) for s in sliders]
    signature = "```{eval-rst}\n.. autofunction:: mixup_modalities.lab.figures.plane_slider\n```"
    text = f"# A page\n$W$ and {{cite:p}}`one,two`.\n\n{signature}\n\n```{{bibliography}}\n```"
    cells = [nbformat.v4.new_markdown_cell(text)]
    for data, output_metadata, cell_metadata in bundles:
        data = {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in data.items()}
        output = nbformat.v4.new_output("display_data", data, metadata=output_metadata)
        cells.append(nbformat.v4.new_code_cell("figure", outputs=[output], metadata=cell_metadata))
    page = nbformat.v4.new_notebook(cells=cells)
    page.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    return page


def build(folder: Path, alt: str) -> subprocess.CompletedProcess:
    """Builds a book of that one notebook with the settings of the real one."""
    shutil.copytree(ROOT / "book" / "_ext", folder / "book" / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "book" / "_static", folder / "book" / "_static")
    shutil.copy(ROOT / "_config.yml", folder)
    (folder / "_toc.yml").write_text(yaml.safe_dump({"format": "jb-book", "root": "page"}))
    entry = "@misc{%s, author={A. %s}, title={T}, year={2020}}\n"
    (folder / "book" / "references.bib").write_text(entry % ("one", "One") + entry % ("two", "Two"))
    nbformat.write(notebook(alt), folder / "page.ipynb")
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build", str(folder), "-W", "--keep-going"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    run = build(folder, alt='Two "black" images.')
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return folder / "_build" / "html"


@pytest.fixture(scope="module")
def page(site) -> str:
    return (site / "page.html").read_text(encoding="utf-8")


def test_nothing_is_loaded_from_elsewhere(site):
    for path in site.rglob("*.html"):
        loads = [tag for tag in LOADED.findall(path.read_text(encoding="utf-8")) if 'rel="canonical"' not in tag]
        assert loads == [], path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", path.read_text(encoding="utf-8")), path.name


def test_everything_a_page_loads_lies_beside_it(site, page):
    files = re.findall(r'<(?:script|img|link)\b[^>]*?\s(?:src|href)="([^"#?]+)', page)
    local = [name for name in files if not name.startswith(("http", "data:"))]
    assert len(local) > 10
    assert [name for name in local if not (site / name).exists()] == []
    mathjax = site / "_static" / "mathjax"
    for name in re.findall(r"[\w-]+\.js", (mathjax / "load.js").read_text(encoding="utf-8").replace("load\\.js", "")):
        assert (mathjax / name).is_file()
    assert len(list((mathjax / "output/chtml/fonts/woff-v2").glob("*.woff"))) > 10


def test_pictures_have_the_alt_text_of_their_cell_or_of_their_output(page):
    assert 'alt="Two &quot;black&quot; images."' in page
    assert 'alt="The alt text of the cell."' in page


def test_a_picture_without_alt_text_fails_the_build(tmp_path):
    run = build(tmp_path, alt="")
    assert run.returncode != 0
    assert "a picture has no alt text" in run.stderr


def test_sliders_are_json_with_a_name_and_only_their_traces_are_shipped(site, page):
    blocks = re.findall(r'<figure class="interactive" aria-label="([^"]+)".*?json">(.*?)</script>', page, re.DOTALL)
    assert len(blocks) == 2
    for label, text in blocks:
        figure = json.loads(text)
        assert len(figure["frames"]) == 3 and "slider" in label
    plotly = (site / "_static" / "plotly.min.js").read_text(encoding="utf-8")
    kept = set(re.findall(r'moduleType:"trace",name:"(\w+)"', plotly))
    assert {"heatmap", "image", "scatter"} <= kept
    assert not kept & {"surface", "scattermap", "pie", "sankey"}


def test_icons_are_cut_to_those_in_use(site, page):
    icons = (site / "_static" / "scripts" / "fontawesome.js").read_text(encoding="utf-8")
    assert len(icons) < 150_000
    used = set(re.findall(r'class="fa-(?:solid|regular|brands) fa-([a-z0-9-]+)', page)) - {"lg"}
    assert used
    for name in used:
        assert re.search(rf'"?{name}"?[:"]', icons), name


def test_the_bibliography_is_a_list_of_items(page):
    (listing,) = re.findall(r'<div role="list" class="citation-list">(.*?)</section>', page, re.DOTALL)
    assert listing.count('role="listitem"') == 2
    assert "doc-biblioentry" not in page


def test_the_corner_of_a_table_is_no_heading(page):
    assert "<th></th>" not in page and "<td></td><th>a</th>" in page


def test_defaults_with_greek_letters_are_whole(page):
    (signature,) = re.findall(r'<dt class="sig.*?</dt>', page, re.DOTALL)
    shown = " ".join(html.unescape(re.sub(r"<[^>]+>", "", signature)).split())
    assert "prefix: str = 'α = ', start: int = 0, height: int = 420, " in shown, shown
    assert "xlabel: str = 'x₁', ylabel: str = 'x₂'" in shown, shown


def test_thebe_is_gone(page):
    assert "THEBE_JS_URL" not in page
