"""Write the results of the README and of the landing page from the ledger, so that no number in them is typed.

    python book/_tools/results_table.py

What stands between the two markers is replaced by one row for each pair of recipes below that the ledger has: without
mixup, with mixup, and the difference paired by seed. `tests/test_book_pages.py` fails if a page is out of date.
"""

from pathlib import Path

import pandas as pd

from mixup_modalities.lab import ledger
from mixup_modalities.lab.metrics import mean_interval

ROOT = Path(__file__).parent.parent.parent
BEGIN, END = "<!-- results: written by book/_tools/results_table.py -->", "<!-- end of results -->"
PAGES = (ROOT / "README.md", ROOT / "book" / "index.md")
# Chosen by method, not by result. Alpha as papers have it: 8 for wrong labels, 0.2 for images and sound, 1 for text.
PAIRS = [
    ("MNIST, 1,000 images, 40 % wrong labels", "mnist-noise-40-0", "mnist-noise-40-8"),
    ("MNIST, 500 images", "mnist-500-0", "mnist-500-0.2"),
    ("MNIST, all images", "mnist-full-erm", "mnist-full-mixup"),
    ("CIFAR-10, small network", "cifar10-small-erm", "cifar10-small-mixup"),
    (
        "CIFAR-10, small network, 50 % of labels drawn anew",
        "cifar10-small-noise-50-erm",
        "cifar10-small-noise-50-mixup-8",
    ),
    ("Speech Commands subset, larger network", "speech-large-erm", "speech-large-power"),
    ("Speech Commands subset, larger network, 40 epochs", "speech-large-long-erm", "speech-large-long-power"),
    ("Speech Commands subset, small network", "speech-small-erm", "speech-small-power"),
    ("TREC, 100 questions, conv net", "trec-100-cnn-erm", "trec-100-cnn-word"),
    ("TREC, 100 questions, pre-trained MiniLM", "trec-100-minilm-erm", "trec-100-minilm-word"),
    ("TREC, all questions, conv net", "trec-all-cnn-erm", "trec-all-cnn-word"),
    ("AG News, 500 texts, conv net", "ag_news-500-cnn-erm", "ag_news-500-cnn-word"),
]
HEAD = ["experiment", "accuracy without", "with mixup", "difference, 95&nbsp;% interval", "NLL without", "with mixup"]


def runs_of(folder: Path) -> pd.DataFrame:
    """All runs of a ledger on real data (on samples, if there are no others), one row for each recipe and seed."""
    files = [path for path in sorted(folder.glob("*.csv")) if path.stem != "published"]
    frame = pd.concat([ledger.read(path) for path in files]) if files else pd.DataFrame({"data": []})
    real = frame[frame["data"] == "real"]
    frame = frame if real.empty else real
    return frame if frame.empty else ledger.runs(frame).drop_duplicates(["recipe", "seed"], keep="last")


def row_of(title: str, without: pd.DataFrame, mixed: pd.DataFrame) -> list[str]:
    """One line of the table; runs of two recipes, indexed by seed."""
    both = sorted(set(without.index) & set(mixed.index))
    difference = mean_interval((mixed["accuracy"] - without["accuracy"])[both])
    star = ", lossy copy" if without["lossy"].any() else ""
    cells = [
        f"{title}{star}".replace(" %", "&nbsp;%"),
        f"{without['accuracy'].mean():.3f}",
        f"{mixed['accuracy'].mean():.3f}",
    ]
    cells.append(f"{difference.mean:+.3f} [{difference.low:+.3f},&nbsp;{difference.high:+.3f}]")
    return cells + [f"{frame['nll'].mean():.2f}" if "nll" in frame else "" for frame in (without, mixed)]


def section(folder: Path) -> str:
    """The table of a ledger, as Markdown."""
    frame = runs_of(folder)
    rows, used = [], []
    for title, *recipes in PAIRS if len(frame) else []:
        without, mixed = (frame[frame["recipe"] == name].set_index("seed") for name in recipes)
        if len(set(without.index) & set(mixed.index)) > 1:
            rows.append(row_of(title, without, mixed))
            used.append((without, mixed))
    if not rows:
        return "No run has been recorded yet."
    lines = [f"| {' | '.join(cells)} |" for cells in (HEAD, ["---"] * len(HEAD), *rows)]
    every = pd.concat([frame for pair in used for frame in pair])
    counts = sorted({len(set(without.index) & set(mixed.index)) for without, mixed in used})
    seeds = " to ".join(map(str, sorted({counts[0], counts[-1]})))
    devices = sorted({f"{device}, {precision}" for device, precision in zip(every["device"], every["precision"])})
    versions, commits = sorted(set(every["versions"])), sorted({commit[:7] for commit in every["commit"]})
    where = f"{'; '.join(devices)}; {'; '.join(versions)}; commits {', '.join(commits)}"
    lossy = " A lossy copy differs from the official files: do not compare it with published figures."
    note = (
        f"Test sets; means over {seeds} seeds; differences paired by seed. NLL is the negative log-likelihood of the "
    )
    note += f"right label: lower is better.{lossy if every['lossy'].any() else ''} {where}."
    return "\n".join(lines) + f"\n\n{note}"


def updated(page: str, folder: Path) -> str:
    """A page with the section of results as the ledger has it now."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{section(folder)}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(updated(path.read_text(encoding="utf-8"), ROOT / "results"), encoding="utf-8")
        print(f"{path.name} has the results of the ledger")
