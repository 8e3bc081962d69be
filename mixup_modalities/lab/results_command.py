"""`python -m mixup_modalities results show`: the ledger, averaged over seeds, beside the published figures."""

import argparse
import math

import pandas as pd

from mixup_modalities.lab import ledger


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `results`."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    show = actions.add_parser("show", help="mean and 95 %% interval of each recipe, beside the published figure")
    show.add_argument("files", metavar="LEDGER", nargs="*", help="such as mnist (default: all)")
    show.add_argument("--metrics", default="accuracy,nll,ece", help="columns, with commas (default: %(default)s)")
    show.add_argument("--recipe", default="", metavar="TEXT", help="only recipes whose name contains this")
    show.set_defaults(run=run_show)


def run_show(args: argparse.Namespace) -> None:
    """Print a table of the results."""
    folder = ledger.results_folder()
    names = args.files or sorted(path.stem for path in folder.glob("*.csv") if path.stem != "published")
    if not names:
        raise ledger.LedgerError(f"there are no results in {folder}")
    # A folder of one's own need not hold published figures.
    known = (folder / "published.csv").exists()
    figures = ledger.published(folder) if known else pd.DataFrame(columns=[*ledger.PUBLISHED, "note"], dtype=object)
    metrics = args.metrics.split(",")
    table = [("recipe", "data", "metric", "mean", "95 % interval", "n", "published", "source")]
    for name in names:
        frame = ledger.read(folder / f"{name}.csv")
        frame = frame[frame["recipe"].str.contains(args.recipe, regex=False)]
        if frame.empty:
            continue
        for row in ledger.beside_published(ledger.summarise(frame, metrics), figures).itertuples():
            data = row.dataset + (" sample" if row.data == "sample" else " (lossy)" if row.lossy else "")
            interval = "-" if math.isnan(row.low) else f"{row.low:.4f} to {row.high:.4f}"
            known = ("", "") if math.isnan(row.published) else (f"{row.published:.4f}", row.source)
            table.append((row.recipe, data, row.metric, f"{row.mean:.4f}", interval, str(row.n), *known))
    if len(table) == 1:
        what = f"no recipe in {', '.join(names)} has {args.recipe!r} in its name"
        raise ledger.LedgerError(what if args.recipe else f"there are no results in {', '.join(names)}")
    widths = [max(map(len, column)) for column in zip(*table)]
    for cells in table:
        print("  ".join(text.ljust(width) for text, width in zip(cells, widths)).rstrip())
