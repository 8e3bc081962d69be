"""Make the student and the autograder version of every assignment: `make assignments`.

    python assignments/build.py [--into _build/assignments] [--check] [name ...]

`<into>/<name>/student/` holds the one notebook that students get; `<into>/<name>/autograder/` the solutions and the zip
file for Gradescope or `otter run`. The same sources give the same bytes on every machine: otter stamps the zip file
with the time and leaves its order to the file system, so it is written anew.
"""

import argparse
import contextlib
import io
import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold


def names() -> list[str]:
    """The assignments: folders that hold a notebook of their own name."""
    return sorted(path.parent.name for path in HERE.glob("*/*.ipynb") if path.stem == path.parent.name)


def build(name: str, into: Path, check: bool = False) -> Path:
    """Generate both versions of one assignment.

    Args:
        name: of the assignment.
        into: the folder that receives a folder of that name; what stood there before is replaced.
        check: also run otter's own tests on the solutions, in a fresh kernel.

    Returns:
        The folder, with `student/<name>.ipynb`, `autograder/<name>.ipynb` and `autograder/<name>.zip` in it.
    """
    from otter.assign import main as assign

    goal = Path(into) / name
    with tempfile.TemporaryDirectory() as folder:
        # otter works beside the source: on a copy, so that nothing half-written is ever left among the sources.
        source, made = Path(folder) / "source", Path(folder) / "made"
        source.mkdir()
        shutil.copy(HERE / name / f"{name}.ipynb", source)
        with contextlib.redirect_stdout(io.StringIO()):
            assign(str(source / f"{name}.ipynb"), str(made), no_pdfs=True, no_run_tests=not check)
        for version in ("student", "autograder"):
            _settle_notebook(made / version / f"{name}.ipynb")
        (archive,) = (made / "autograder").glob("*.zip")
        _settle_zip(archive, made / "autograder" / f"{name}.zip")
        archive.unlink()
        shutil.rmtree(goal, ignore_errors=True)
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made, goal)
    return goal


def _settle_notebook(path: Path) -> None:
    """Number the cells that otter gave random ids, sort the keys, and drop cells that lost all they held."""
    nb = json.loads(path.read_text(encoding="utf-8"))
    nb["nbformat"], nb["nbformat_minor"] = 4, 5
    nb["cells"] = [cell for cell in nb["cells"] if "".join(cell["source"]).strip()]
    for number, cell in enumerate(nb["cells"]):
        cell["id"] = f"{path.stem}-{number:03d}"
    path.write_text(json.dumps(nb, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _settle_zip(source: Path, goal: Path) -> None:
    """Copy a zip file with its members in order and without their dates."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(goal, "w", zipfile.ZIP_DEFLATED) as new:
        for member in sorted(old.namelist()):
            new.writestr(zipfile.ZipInfo(member, DATE), old.read(member), zipfile.ZIP_DEFLATED)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make the student and the autograder version of the assignments.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"some of {', '.join(names())}; default all")
    parser.add_argument("--into", type=Path, default=HERE.parent / "_build" / "assignments", help="where to put them")
    parser.add_argument("--check", action="store_true", help="run all tests on the solutions, each in a fresh kernel")
    args = parser.parse_args()
    if unknown := set(args.names) - set(names()):
        parser.error(f"no assignment named {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    for name in args.names or names():
        build(name, args.into, args.check)
        print(f"{name}: made" + (", its solutions pass every test" if args.check else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
