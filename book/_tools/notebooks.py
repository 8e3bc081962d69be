"""Execute the notebooks and save their outputs, and say what is wrong with a notebook as it is saved.

    python book/_tools/notebooks.py run notebooks/*.ipynb     execute, save if every rule holds (make notebooks)
    python book/_tools/notebooks.py check notebooks/*.ipynb   only look

What `run` saves passes the static rules of `tests/test_notebooks.py`: both call `faults`. What a chapter took, and with
which versions, goes into `results/notebooks.json`, which the status page shows.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import resource
import sys
import time
import warnings
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).parent.parent.parent
RECORD = ROOT / "results" / "notebooks.json"
MAX_LINES = 25
MAX_SETTINGS_LINES = 8
SETTINGS_WITHIN = 8
MAX_BYTES = 700_000
EXACT = "nbval-check-output"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
# What editors and kernels leave behind; it differs between two runs of the same notebook.
NOISE = {"ExecuteTime", "collapsed", "execution", "scrolled", "trusted", "vscode", "widgets"}
SAMPLE_BOX = "Offline sample, not the real data"  # mixup_modalities.lab.announce
WIDGET = "application/vnd.jupyter.widget-view+json"

# Long runs of base64 (sound, packed arrays) hold any short string by chance: they are cut out before looking.
BASE64 = re.compile(r"[A-Za-z0-9+/=]{80,}")
TRACES = {
    "a path of a machine": re.compile(
        r"(?<![\w.:/])/(?:home|root|tmp|work|Users|usr|var|private|mnt|opt)/\w|\b[A-Z]:\\\w"
    ),
    "a memory address": re.compile(r"\b0x[0-9a-f]{6,}"),
    "a process number": re.compile(r"\bipykernel_\d+"),
    "a time": re.compile(
        r"\bWall time|\bCPU times|\b\d+(?:\.\d+)? ?(?:it/s|s/it)\b"
        r"|\b(?:in|took) \d+(?:\.\d+)? ?(?:ms|s|sec|seconds)\b"
    ),
}


def lines_of(cell) -> int:
    """Number of lines of a cell that are not blank."""
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def tags_of(cell) -> list[str]:
    """Tags of a cell."""
    return cell.metadata.get("tags", [])


def texts_of(output) -> dict[str, str]:
    """Everything of an output that is text, by its kind ("stdout", "text/plain", ...)."""
    if output.output_type == "stream":
        return {output.name: output.text}
    return {kind: str(value) for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}


def compared_texts(cell) -> list[str]:
    """The texts of a cell that nbval compares and that say something: figures are never compared, nor their repr."""
    found = [text for output in cell.outputs for text in texts_of(output).values()]
    return [text for text in found if text.strip() and not text.startswith("<Figure size")]


def trace_faults(text: str, kinds=tuple(TRACES)) -> list[str]:
    """Which traces of one machine or one moment a text holds."""
    text = BASE64.sub("", text)
    return [f"{kind} ({match.group()!r})" for kind in kinds if (match := TRACES[kind].search(text))]


def format_faults(nb) -> list[str]:
    """What nbformat finds, its warnings included: it repairs a missing or repeated id in silence otherwise."""
    found = []
    if (nb.nbformat, nb.nbformat_minor) < (4, 5):
        found.append(f"nbformat {nb.nbformat}.{nb.nbformat_minor}, expected 4.5")
    ids = [cell.get("id") for cell in nb.cells]
    found += [f"{ids.count(None)} cells without an id"] if None in ids else []
    found += [
        f"cell id {id_!r} is used {ids.count(id_)} times" for id_ in sorted({i for i in ids if i and ids.count(i) > 1})
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            nbformat.validate(nb)
    except (nbformat.ValidationError, Warning) as error:
        found.append(f"not a valid notebook: {str(error).splitlines()[0]}") if not found else None
    return found


def page_faults(nb) -> list[str]:
    """What is wrong with the notebook as a page: its kernel, its title, its settings cell, nothing to compare."""
    found = []
    if nb.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append(f"kernelspec {nb.metadata.get('kernelspec', {}).get('name')!r}, expected 'python3'")
    if nb.metadata.get("language_info", {}).get("name") != "python":
        found.append("language_info does not name python")
    found += [f"metadata of the notebook holds {key!r}" for key in sorted(NOISE & nb.metadata.keys())]
    if not nb.cells or nb.cells[0].cell_type != "markdown" or not re.match(r"\([\w-]+\)=\s*\n# \S", nb.cells[0].source):
        found.append("the first cell is not a label and a title: '(label)=' and, on the next line, '# Title'")
    settings = [n for n, cell in enumerate(nb.cells) if "settings" in tags_of(cell)]
    if len(settings) != 1:
        found.append(f"{len(settings)} cells tagged 'settings', expected one")
    elif settings[0] >= SETTINGS_WITHIN:
        found.append(f"the settings cell is number {settings[0] + 1}, expected among the first {SETTINGS_WITHIN}")
    elif lines_of(nb.cells[settings[0]]) > MAX_SETTINGS_LINES:
        found.append(f"{lines_of(nb.cells[settings[0]])} lines of settings, at most {MAX_SETTINGS_LINES}")
    if not any(EXACT in tags_of(cell) for cell in nb.cells if cell.cell_type == "code"):
        found.append(f"no cell is tagged '{EXACT}': nbval would compare nothing")
    shown = [text for cell in nb.cells for output in cell.get("outputs", []) for text in texts_of(output).values()]
    if any(SAMPLE_BOX in text for text in shown) and not any("sample=True" in cell.source for cell in nb.cells):
        found.append('ran on an offline sample; prepare the real data first: make data SETS="..."')
    return found


def skip_faults(cell, today: datetime.date) -> list[str]:
    """A cell may stand out of the test only with a reason and a day on which that lapses."""
    found = [
        f"tagged {tag!r}, which hides a failure"
        for tag in ("nbval-ignore-output", "raises-exception")
        if tag in tags_of(cell)
    ]
    found += ["an NBVAL comment; use a tag"] if re.search(r"^\s*#\s*NBVAL_", cell.source, re.M) else []
    if "nbval-skip" in tags_of(cell):
        skip = cell.metadata.get("skip", {})
        try:
            lapsed = datetime.date.fromisoformat(skip["until"]) < today
        except (KeyError, ValueError):
            return [*found, "skipped without metadata skip: {reason: ..., until: YYYY-MM-DD}"]
        found += ["skipped without a reason"] if not skip.get("reason") else []
        found += [f"its skip lapsed on {skip['until']}"] if lapsed else []
    return found


def cell_faults(cell, expected_count: int) -> list[str]:
    """What is wrong with one code cell and its outputs."""
    found = []
    if not cell.source.strip():
        found.append("empty")
    if cell.execution_count != expected_count:
        found.append(
            f"execution count {cell.execution_count}, expected {expected_count}: run the notebook from the top"
        )
    if lines_of(cell) > MAX_LINES:
        found.append(f"{lines_of(cell)} lines, at most {MAX_LINES}")
    found += [f"metadata holds {key!r}" for key in sorted(NOISE & cell.metadata.keys())]
    alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
    for output in cell.outputs:
        if output.output_type == "error":
            found.append(f"raised {output.ename}: {output.evalue}")
        elif output.get("name") == "stderr":
            found.append(f"wrote to stderr: {output.text.strip()[:80]!r}")
        if WIDGET in output.get("data", {}):
            found.append("shows a widget, which needs a kernel")
        if any(kind.startswith("image/") for kind in output.get("data", {})) and not str(alt or "").strip():
            found.append("a figure without alt text (metadata mystnb: {image: {alt: ...}})")
        for kind, text in texts_of(output).items():
            found += [f"its {kind} output holds {trace}" for trace in trace_faults(text)]
    if EXACT in tags_of(cell) and not compared_texts(cell):
        found.append(f"tagged '{EXACT}' and prints nothing that can be compared")
    return found


def faults(path: Path, today: datetime.date | None = None) -> list[str]:
    """Everything that is wrong with a saved notebook, as sentences; an empty list if it keeps every rule.

    Args:
        path: the notebook.
        today: the day on which a skip is judged; the current one by default.
    """
    path = Path(path)
    try:
        nb = nbformat.from_dict(nbformat.reader.reads(path.read_text(encoding="utf-8")))
    except (nbformat.reader.NotJSONError, UnicodeDecodeError) as error:
        return [f"not readable as a notebook: {error}"[:200]]
    found = format_faults(nb)
    if found:  # the rest would only stumble over it
        return found
    found = page_faults(nb)
    if path.stat().st_size > MAX_BYTES:
        found.append(f"{path.stat().st_size / 1000:.0f} kB, at most {MAX_BYTES // 1000}")
    code = 0
    for cell in nb.cells:
        where = f"cell {cell.id}"
        mine = trace_faults(cell.source, ("a path of a machine", "a process number"))
        mine = [f"its source holds {trace}" for trace in mine]
        if cell.cell_type == "code":
            code += 1
            where = f"code cell {code} ({cell.id})"
            mine += skip_faults(cell, today or datetime.date.today())
            mine += cell_faults(cell, code)
        found += [f"{where}: {fault}" for fault in mine]
    return found


def tidy(nb) -> None:
    """Keep what the author wrote and what the code showed; drop what only one run or one editor knows."""
    nb.metadata = nbformat.from_dict({k: v for k, v in nb.metadata.items() if k not in NOISE})
    nb.metadata.kernelspec = nbformat.from_dict(KERNELSPEC)
    nb.metadata.language_info = nbformat.from_dict(LANGUAGE)
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k not in NOISE})


def run(path: Path, timeout: int = 300) -> list[str]:
    """Execute a notebook in its folder and save it with its outputs, or leave the file untouched and say why.

    Args:
        path: the notebook.
        timeout: seconds a cell may take.

    Returns:
        What is wrong, as `faults`; empty if the notebook was saved.
    """
    nb = nbformat.read(path, as_version=4)
    client = NotebookClient(
        nb,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # of the kernel: it would warn about its own transport, on our terminal
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return [str(error)]
    tidy(nb)
    draft = path.with_name(f".{path.name}.tmp")
    try:
        nbformat.write(nb, draft)
        found = faults(draft)
        if not found:
            os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return found


def record(path: Path, seconds: float) -> None:
    """Note what a run of a chapter of the book took; notebooks elsewhere are not noted."""
    if path.resolve().parent != ROOT / "notebooks":
        return
    sources = "".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "mixup-modalities")]
    noted = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    noted[path.stem] = {
        "cpu_seconds": round(seconds),
        "day": datetime.date.today().isoformat(),
        "data": sorted(set(re.findall(r"""\bload\(["'](\w+)["']""", sources))),
        "ledger": sorted(set(re.findall(r"""\bresults\(["'](\w+)["']""", sources))),
        "versions": "; ".join([f"python {platform.python_version()}", *versions]),
    }
    RECORD.write_text(json.dumps(dict(sorted(noted.items())), indent=1) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Command line: 0 if every notebook is in order, 1 if one is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "check"])
    parser.add_argument("notebooks", nargs="+", type=Path)
    options = parser.parse_args(argv)
    bad = 0
    for path in options.notebooks:
        if not path.is_file():
            parser.error(f"there is no notebook {path}")
        if options.command == "run":
            print(f"{path} ...", end=" ", flush=True)
        start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        found = run(path) if options.command == "run" else faults(path)
        took = f"{time.perf_counter() - start:.0f} s, " if options.command == "run" else f"{path}: "
        verdict = "in order" if not found else "not saved" if options.command == "run" else "not in order"
        print(f"{took}{path.stat().st_size / 1000:.0f} kB, {verdict}", *found, sep="\n  ")
        bad += bool(found)
        if options.command == "run" and not found:
            now = resource.getrusage(resource.RUSAGE_CHILDREN)
            record(path, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
