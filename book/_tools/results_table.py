"""Write the README's table of results from the ledger, so that no number in it is typed.

    python book/_tools/results_table.py

What stands between the two markers in README.md is replaced: for each file in `results/`, accuracy by recipe and
variant, with its 95 % interval, and where the numbers come from. `tests/test_book_pages.py` fails if it is out of date.
"""

from pathlib import Path

from mixup_modalities.lab import ledger

ROOT = Path(__file__).parent.parent.parent
BEGIN, END = "<!-- results: written by book/_tools/results_table.py -->", "<!-- end of results -->"
METRIC = "accuracy"


def section(folder: Path) -> str:
    """The tables of all files of a ledger, as Markdown."""
    parts = []
    for path in sorted(folder.glob("*.csv")):
        if path.stem == "published":
            continue
        frame = ledger.read(path)
        real = frame[frame["data"] == "real"]
        frame = frame if real.empty else real
        table = ledger.table(frame, METRIC)
        rows = [["recipe", *map(str, table.columns)], ["---"] * (len(table.columns) + 1)]
        rows += [[str(name), *cells] for name, cells in zip(table.index, table.to_numpy().tolist())]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
        parts.append(f"Test {METRIC}, mean over seeds and 95 % interval: {ledger.caption(frame)}.")
    return "\n\n".join(parts) or "No run has been recorded yet."


def updated(readme: str, folder: Path) -> str:
    """The README with the section of results as the ledger has it now."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n\n{section(folder)}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text(encoding="utf-8"), ROOT / "results"), encoding="utf-8")
    print("README.md has the results of the ledger")
