"""`python -m mixup_modalities data prepare | list`."""

import argparse
import json

from mixup_modalities.lab import datasets, storage


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `data`."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    prepare = actions.add_parser(
        "prepare",
        help="download data sets, or read a local copy, and verify them",
        description="Download data sets, or read a local copy, verify them, and write one file for each.",
    )
    prepare.add_argument("names", metavar="NAME", nargs="+", help="a data set, see `data list`")
    prepare.add_argument("--from", dest="source", metavar="PATH", help="a local copy of the original files")
    prepare.add_argument("--force", action="store_true", help="make the file anew even if there is a sound one")
    prepare.add_argument("--quiet", action="store_true", help="no progress bar")
    prepare.set_defaults(run=run_prepare)

    show = actions.add_parser("list", help="show each data set: prepared or not, where, size, licence")
    show.set_defaults(run=run_list)

    for action in (prepare, show):
        action.add_argument("--root", metavar="PATH", help="folder of prepared data (default: $MIXUP_DATA)")


def run_prepare(args: argparse.Namespace) -> None:
    """Prepare the data sets that were named."""
    if args.source and len(args.names) > 1:
        raise datasets.DataError(f"--from belongs to one data set, but there are {len(args.names)}: {args.names}")
    for name in args.names:  # a misspelt name is reported before anything is downloaded
        datasets.find_source(name)
    for name in args.names:
        path = datasets.prepare(name, source=args.source, root=args.root, progress=not args.quiet, force=args.force)
        metadata = storage.read_metadata(path)
        counts = ", ".join(f"{count:,} {split}" for split, count in json.loads(metadata["counts"]).items())
        print(f"{name}: {counts} ({_size(path.stat().st_size)}) in {path}")
        if metadata["lossy"] == "true":
            print(f"{name}: this copy is lossy; numbers measured on it are not comparable with published ones")


def run_list(args: argparse.Namespace) -> None:
    """Print a table of all data sets."""
    rows = [("name", "state", "size", "licence", "lossy", "where")]
    for status in datasets.list_datasets(args.root):
        there = status.state != "not prepared"
        size = _size(status.size) + ("" if there else " to download")
        lossy = ("yes" if status.lossy else "no") if there else "-"
        where = str(status.path) if there else "offline sample"
        rows.append((status.name, status.state, size, status.licence, lossy, where))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
