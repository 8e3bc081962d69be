"""One line for each submission, from what `otter run` wrote: `python assignments/points.py grades > points.csv`.

`grades` holds a folder for each submission, with otter's `results.json` in it. A folder without one gets an empty line
and a message: that submission could not be run, and somebody has to look at it.
"""

import argparse
import csv
import json
import re
import sys
from pathlib import Path


def points_of(folder: Path) -> dict[str, float]:
    """The points of each question, by its name.

    Args:
        folder: where `otter run -o` wrote to.

    Returns:
        Question -> points, in the order of the questions.

    Raises:
        FileNotFoundError: there is no `results.json`: the submission was not graded to the end.
    """
    tests = json.loads((folder / "results.json").read_text(encoding="utf-8"))["tests"]
    return {test["name"]: test["score"] for test in tests if re.fullmatch(r"q\d+", test["name"])}


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Print the points of a folder of graded submissions as CSV.")
    parser.add_argument("grades", type=Path, help="a folder with one folder for each submission")
    args = parser.parse_args(argv)
    folders = sorted(path for path in args.grades.glob("*") if path.is_dir())
    if not folders:
        parser.error(f"{args.grades}: expected a folder for each submission, found none")
    graded = {folder: points_of(folder) for folder in folders if (folder / "results.json").is_file()}
    questions = sorted({question for points in graded.values() for question in points}, key=lambda q: int(q[1:]))
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["submission", *questions, "total"])
    for folder in folders:
        points = graded.get(folder)
        cells = ["" for _ in questions] if points is None else [f"{points.get(q, 0):g}" for q in questions]
        table.writerow([folder.name, *cells, "" if points is None else f"{sum(points.values()):g}"])
        if points is None:
            print(f"{folder.name}: not graded, there is no results.json", file=sys.stderr)
    return 0 if len(graded) == len(folders) else 1


if __name__ == "__main__":
    sys.exit(main())
