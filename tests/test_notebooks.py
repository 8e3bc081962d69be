"""The notebooks as they are saved, and a check that running them under nbval (`make test`) can fail."""

import copy
import datetime
import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat import v4
from nbval.plugin import get_sanitize_patterns

from mixup_modalities.lab.announce import Announcement

ROOT = Path(__file__).parents[1]
SANITIZE = ROOT / "tests" / "nbval_sanitize.cfg"
NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

spec = importlib.util.spec_from_file_location("notebook_tool", ROOT / "book" / "_tools" / "notebooks.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def exact_cells(nb) -> list[int]:
    """Indices of the cells whose output nbval compares."""
    return [n for n, cell in enumerate(nb.cells) if cell.cell_type == "code" and tool.EXACT in tool.tags_of(cell)]


# The notebooks as saved


@each_notebook
def test_notebook_keeps_every_rule(path):
    assert tool.faults(path) == []


@each_notebook
def test_every_digit_of_an_exact_output_is_compared(path):
    """The sanitiser forgives what differs between machines, and no number."""
    patterns = get_sanitize_patterns(SANITIZE.read_text(encoding="utf-8"))

    def sanitize(text):
        for pattern, replacement in patterns:
            text = re.sub(pattern, replacement, text)
        return text

    nb = nbformat.read(path, as_version=4)
    for n in exact_cells(nb):
        for output in nb.cells[n].outputs:
            for kind, text in tool.texts_of(output).items():
                if kind in ("stdout", "text/plain", "text/markdown"):
                    assert re.findall(r"\d", sanitize(text)) == re.findall(r"\d", text), f"cell {n} of {path.name}"


def toc_files(node) -> list[str]:
    """Every file that a table of contents names, wherever it stands."""
    if isinstance(node, list):
        return [file for item in node for file in toc_files(item)]
    if not isinstance(node, dict):
        return []
    own = [node[key] for key in ("file", "root") if key in node]
    return own + [file for value in node.values() for file in toc_files(value)]


def test_table_of_contents_and_notebooks_agree():
    files = toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    assert NOTEBOOKS, "there is no notebook at all"
    assert len(files) == len(set(files)), "a page stands in _toc.yml twice"
    lost = [
        f for f in files if not any((ROOT / f"{f.removesuffix(s)}{s}").is_file() for s in (".md", ".ipynb", ".rst"))
    ]
    assert lost == [], "in _toc.yml, not on disk"
    named = {file.removesuffix(".ipynb") for file in files}
    unlisted = [path.relative_to(ROOT).as_posix() for path in NOTEBOOKS]
    assert [p for p in unlisted if p.removesuffix(".ipynb") not in named] == [], "on disk, not in _toc.yml"


# The rules can fail


def good_notebook() -> nbformat.NotebookNode:
    """A small notebook in order, as if it had been executed."""

    def code(source, count, text=None, **metadata):
        outputs = [v4.new_output("stream", name="stdout", text=text)] if text else []
        return v4.new_code_cell(source, execution_count=count, outputs=outputs, metadata=metadata)

    figure = v4.new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure size 1x1 with 0 Axes>"})
    nb = v4.new_notebook(metadata={"kernelspec": tool.KERNELSPEC, "language_info": tool.LANGUAGE})
    nb.cells = [
        v4.new_markdown_cell("(check)=\n# Check the check"),
        code("alpha = 0.4", 1, tags=["settings"]),
        code("print(0.25 * 4)\nprint('five', 5)", 2, "1.0\nfive 5\n", tags=[tool.EXACT]),
        code("pass", 3, mystnb={"image": {"alt": "Nothing, on white."}}),
        code("assert alpha < 1\nprint('fine', 7)", 4, "fine 7\n", tags=[tool.EXACT]),
    ]
    nb.cells[3].outputs = [figure]
    return nb


def stream(text, name="stdout"):
    return [v4.new_output("stream", name=name, text=text)]


def sample_box():
    return Announcement("Digits", is_sample=True, counts={"train": 5}, licence="", lossy=False, notes=(), name="mnist")


SPOILERS = {
    "used 2 times": lambda nb: nb.cells[2].update(id=nb.cells[1].id),
    "without an id": lambda nb: nb.cells[2].pop("id"),
    "expected 4.5": lambda nb: nb.update(nbformat_minor=4),
    "not a valid notebook": lambda nb: nb.cells[2].update(execution_count="two"),
    "kernelspec 'julia'": lambda nb: nb.metadata.kernelspec.update(name="julia"),
    "language_info": lambda nb: nb.metadata.language_info.update(name="R"),
    "not a label and a title": lambda nb: nb.cells[0].update(source="# Check the check"),
    "0 cells tagged 'settings'": lambda nb: nb.cells[1].metadata.pop("tags"),
    "9 lines of settings": lambda nb: nb.cells[1].update(source="a = 1\n" * 9),
    "the settings cell is number 9": lambda nb: nb.cells.__setitem__(
        slice(1, 1), [v4.new_markdown_cell("text") for _ in range(7)]
    ),
    "nbval would compare nothing": lambda nb: [nb.cells[n].metadata.pop("tags") for n in (2, 4)],
    "prints nothing that can be compared": lambda nb: nb.cells[2].update(outputs=[]),
    "kB, at most 700": lambda nb: nb.cells[2].update(outputs=stream("x" * 700_001)),
    "execution count None": lambda nb: nb.cells[2].update(execution_count=None),
    "execution count 9": lambda nb: nb.cells[2].update(execution_count=9),
    "26 lines, at most 25": lambda nb: nb.cells[2].update(source="a = 1\n" * 26),
    "empty": lambda nb: nb.cells[3].update(source=" \n"),
    "wrote to stderr": lambda nb: nb.cells[2].update(outputs=stream("careful\n", "stderr")),
    "raised ValueError": lambda nb: nb.cells[3].update(
        outputs=[v4.new_output("error", ename="ValueError", evalue="x")]
    ),
    "ran on an offline sample": lambda nb: nb.cells[2].update(outputs=stream(repr(sample_box()))),
    "shows a widget": lambda nb: nb.cells[3].update(outputs=[v4.new_output("display_data", {tool.WIDGET: {}})]),
    "without alt text": lambda nb: nb.cells[3].metadata.pop("mystnb"),
    "metadata holds 'execution'": lambda nb: nb.cells[2].metadata.update(execution={"iopub.status.busy": "12:00"}),
    "metadata of the notebook holds 'widgets'": lambda nb: nb.metadata.update(widgets={}),
    "output holds a path": lambda nb: nb.cells[2].update(outputs=stream("saved in /home/ada/x.csv\n")),
    "source holds a path": lambda nb: nb.cells[2].update(source="open('/home/ada/x.csv')"),
    "a memory address": lambda nb: nb.cells[2].update(outputs=stream("<object at 0x7f3a2b1c0d10>\n")),
    "a process number": lambda nb: nb.cells[2].update(outputs=stream("ipykernel_" + "1234\n")),
    "holds a time": lambda nb: nb.cells[2].update(outputs=stream("trained in 3.2 s\n")),
    "hides a failure": lambda nb: nb.cells[2].metadata.update(tags=[tool.EXACT, "raises-exception"]),
    "an NBVAL comment": lambda nb: nb.cells[2].update(source="# NBVAL_SKIP\nprint(1)"),
    "skipped without metadata": lambda nb: nb.cells[3].metadata.update(tags=["nbval-skip"]),
    "skip lapsed on 2026-01-31": lambda nb: nb.cells[3].metadata.update(
        tags=["nbval-skip"], skip={"reason": "no GPU", "until": "2026-01-31"}
    ),
}


def test_a_good_notebook_has_no_fault(tmp_path):
    nbformat.write(good_notebook(), tmp_path / "good.ipynb")
    assert tool.faults(tmp_path / "good.ipynb") == []


@pytest.mark.parametrize("fault", SPOILERS)
def test_a_rule_that_is_broken_is_named(tmp_path, fault):
    nb = good_notebook()
    SPOILERS[fault](nb)
    path = tmp_path / "bad.ipynb"
    path.write_text(nbformat.v4.nbjson.JSONWriter().writes(nb), encoding="utf-8")
    found = tool.faults(path, today=datetime.date(2026, 2, 1))
    assert len(found) == 1 and fault in found[0]


def test_a_skip_with_a_reason_holds_until_its_day(tmp_path):
    nb = good_notebook()
    nb.cells[3].metadata.update(tags=["nbval-skip"], skip={"reason": "no GPU", "until": "2026-01-31"})
    nbformat.write(nb, tmp_path / "skip.ipynb")
    assert tool.faults(tmp_path / "skip.ipynb", today=datetime.date(2026, 1, 31)) == []


# Saving what a run showed


def test_run_saves_outputs_and_nothing_of_the_run(tmp_path):
    nb = good_notebook()
    ids = [cell.id for cell in nb.cells]
    for cell in nb.cells[1:]:
        cell.update(outputs=[], execution_count=None)
    nb.cells[2].metadata.update(execution={"iopub.status.busy": "12:00"}, scrolled=True)
    nb.metadata.language_info.update(version="3.8.1")
    path = tmp_path / "run.ipynb"
    nbformat.write(nb, path)
    assert tool.run(path) == []
    saved = nbformat.read(path, as_version=4)
    assert [cell.id for cell in saved.cells] == ids
    assert saved.cells[2].outputs == stream("1.0\nfive 5\n")
    assert saved.cells[3].metadata == {"mystnb": {"image": {"alt": "Nothing, on white."}}}
    assert saved.metadata == {"kernelspec": tool.KERNELSPEC, "language_info": tool.LANGUAGE}
    before = path.read_bytes()
    assert tool.run(path) == []
    assert path.read_bytes() == before, "a second run changes nothing"


@pytest.mark.parametrize("source", ["raise ValueError('oops')", "import sys; print('oops', file=sys.stderr)"])
def test_run_leaves_the_file_alone_when_a_cell_fails(tmp_path, source):
    nb = good_notebook()
    nb.cells[3].source = source
    path = tmp_path / "run.ipynb"
    nbformat.write(nb, path)
    before = path.read_bytes()
    assert "oops" in "\n".join(tool.run(path))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Running them under nbval can fail


def first_exact(path: Path) -> int:
    """Index of the first cell whose output is compared and holds a digit."""
    nb = nbformat.read(path, as_version=4)
    return next((n for n in exact_cells(nb) if re.search(r"\d", "".join(tool.compared_texts(nb.cells[n])))), 10**6)


def spoil_digit(nb, cell: int) -> nbformat.NotebookNode:
    """A copy of a notebook with the last digit changed that the output of a cell holds."""
    nb = copy.deepcopy(nb)
    for output in reversed(nb.cells[cell].outputs):
        holder, key = (output, "text") if output.output_type == "stream" else (output.data, "text/plain")
        digits = list(re.finditer(r"\d", holder.get(key, "")))
        if digits:
            at = digits[-1].start()
            holder[key] = f"{holder[key][:at]}{(int(holder[key][at]) + 1) % 10}{holder[key][at + 1 :]}"
            return nb
    raise AssertionError(f"cell {cell} holds no digit to change")


def verdicts_of_nbval(folder: Path) -> tuple[int, dict[str, dict[str, bool]]]:
    """Run nbval with the flags of `make test` on every notebook of a folder.

    Returns:
        The exit code, and for each notebook whether each cell passed ("Cell 0" is its first code cell).
    """
    report = folder / "report.xml"
    flags = re.search(r"^NBVAL\s*:=\s*(.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M).group(1).split()
    command = [sys.executable, "-m", "pytest", *flags, "-n0", "-p", "no:cacheprovider", "-c", "pyproject.toml"]
    command += [f"--rootdir={ROOT}", f"--junitxml={report}", str(folder)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_") and name != "MPLBACKEND"}
    env["MIXUP_OFFLINE"] = "1"
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert report.exists(), result.stdout + result.stderr
    verdicts = {path.stem: {} for path in folder.glob("*.ipynb")}
    for case in ElementTree.parse(report).iter("testcase"):
        stem = re.search(r"(\w+)\.ipynb", case.get("classname")).group(1)
        verdicts[stem][case.get("name")] = all(case.find(fault) is None for fault in ("failure", "error", "skipped"))
    return result.returncode, verdicts


@pytest.fixture(scope="module")
def nbval_run(tmp_path_factory):
    """One run over a small notebook, the same spoilt in two ways, and a chapter up to its first comparison, spoilt."""
    folder = tmp_path_factory.mktemp("nbval")
    good = good_notebook()
    raises = good_notebook()
    raises.cells[3].source = "raise RuntimeError('planted')"
    notebooks = {"good": good, "altered": spoil_digit(good, 4), "raises": raises}
    if NOTEBOOKS:
        path = min(NOTEBOOKS, key=first_exact)
        chapter = nbformat.read(path, as_version=4)
        chapter.cells = chapter.cells[: first_exact(path) + 1]
        notebooks["chapter"] = spoil_digit(chapter, first_exact(path))
    for name, nb in notebooks.items():
        nbformat.write(nb, folder / f"{name}.ipynb")
    return verdicts_of_nbval(folder)


def test_nbval_passes_a_notebook_in_order(nbval_run):
    assert nbval_run[1]["good"] == {f"Cell {n}": True for n in range(4)}


def test_nbval_catches_an_altered_output(nbval_run):
    code, verdicts = nbval_run
    assert code == 1
    assert verdicts["altered"] == {"Cell 0": True, "Cell 1": True, "Cell 2": True, "Cell 3": False}


def test_nbval_catches_a_cell_that_raises(nbval_run):
    assert nbval_run[1]["raises"] == {"Cell 0": True, "Cell 1": True, "Cell 2": False, "Cell 3": True}


@pytest.mark.skipif(not NOTEBOOKS, reason="test_table_of_contents_and_notebooks_agree fails until there is one")
def test_nbval_catches_an_altered_output_of_a_chapter(nbval_run):
    *others, altered = nbval_run[1]["chapter"].values()
    assert others and all(others) and not altered
