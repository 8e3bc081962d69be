"""`python -m mixup_modalities run NAME ... --seeds 0-4`: train recipes and write the ledger."""

import argparse
import math

from mixup_modalities.lab import ledger, recipes
from mixup_modalities.lab.datasets import load
from mixup_modalities.lab.errors import LabError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`."""
    parser.add_argument("names", metavar="NAME", nargs="*", help="a recipe, see --list")
    parser.add_argument("--list", action="store_true", help="show all recipes, what they cost, and which have results")
    parser.add_argument("--seeds", type=parse_seeds, default=[0], metavar="0-4", help="seeds, such as 0-4 or 0,3,7-9")
    parser.add_argument("--epochs", type=int, metavar="N", help="instead of the recipe's own; kept apart in the ledger")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: one for each core)")
    parser.add_argument("--again", action="store_true", help="run seeds that the ledger has already")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run, and run nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def parse_seeds(text: str) -> list[int]:
    """Return the seeds that a text such as "0-4" or "0,3,7-9" names, in order, each once."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise argparse.ArgumentTypeError(f"expected seeds such as 0-4 or 0,3,7-9, got {text!r}")
        seeds += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(seeds))


def run(args: argparse.Namespace) -> None:
    """Train each recipe with each seed, and append each run to the ledger as it ends."""
    if args.list:
        return show_recipes()
    if not args.names:
        raise LabError("name a recipe; `run --list` shows them")
    if args.epochs is not None and args.epochs < 1:
        raise LabError(f"--epochs must be at least 1, got {args.epochs}")
    chosen = [recipes.find_recipe(name) for name in args.names]
    if not args.dry_run:
        ledger.provenance()  # better now than after an hour of training
        if args.threads:
            import torch

            torch.set_num_threads(args.threads)
    for recipe in chosen:
        dataset = load(recipe.dataset)
        epochs = args.epochs or recipe.epochs
        path = ledger.results_folder() / f"{recipe.ledger}.csv"
        done = set() if args.again else finished(path, recipe.name, epochs, dataset.card.sha256)
        for seed in args.seeds:
            label = f"{recipe.name} seed {seed}"
            if seed in done:
                print(f"{label}: in the ledger already")
            elif args.dry_run:
                print(f"{label}: {epochs} epochs on {describe(dataset)} -> {path}")
            else:
                row = recipes.run(
                    recipe, seed, dataset=dataset, epochs=epochs, device=args.device, progress=not args.quiet
                )
                ledger.append(row, path)
                scores = (f"{name} {row[name.lower()]:.4f}" for name in ("accuracy", "NLL", "ECE"))
                print(f"{label}: {', '.join(scores)}", flush=True)


def finished(path, name: str, epochs: int, sha256: str) -> set[int]:
    """Return the seeds of a recipe that a file of the ledger has, with these epochs and this data."""
    if not path.is_file():
        return set()
    rows = ledger.read(path)
    same = (rows["recipe"] == name) & (rows["epochs"] == epochs) & (rows["dataset_sha256"] == sha256)
    return set(rows.loc[same, "seed"])


def describe(dataset) -> str:
    """Return a data set's name, and whether it is the real one."""
    return dataset.name + (" (offline sample)" if dataset.is_sample else " (lossy copy)" if dataset.card.lossy else "")


def show_recipes() -> None:
    """Print a table of all recipes."""
    counts: dict[str, int] = {}
    folder = ledger.results_folder()
    for path in {folder / f"{recipe.ledger}.csv" for recipe in recipes.RECIPES.values()}:
        if path.is_file():
            rows = ledger.read(path)
            rows = rows[rows["data"] == "real"].drop_duplicates(["recipe", "seed"])
            counts |= rows["recipe"].value_counts().to_dict()
    table = [("recipe", "data", "model", "epochs", "minutes a seed on CPU", "on GPU", "seeds in the ledger")]
    for recipe in recipes.RECIPES.values():
        cost = ["?" if math.isnan(m) else f"{m:.2g}" for m in (recipe.minutes_cpu, recipe.minutes_gpu)]
        seeds = str(counts.get(recipe.name, 0))
        table.append((recipe.name, recipe.dataset, recipe.model, str(recipe.epochs), *cost, seeds))
    widths = [max(map(len, column)) for column in zip(*table)]
    for row in table:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())
