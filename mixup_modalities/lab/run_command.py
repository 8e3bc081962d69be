"""`python -m mixup_modalities run NAME ... --seeds 0-4`: train recipes and write the ledger.

A long run writes checkpoints as it goes; killed at any moment, it goes on with `--resume`. Under `accelerate launch`
several processes share each run (see `processes`).
"""

import argparse
import math
import shutil
import time
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path

from mixup_modalities.lab import ledger, recipes, runtime
from mixup_modalities.lab.checkpoints import CheckpointError, Checkpoints, claimed, default_folder
from mixup_modalities.lab.datasets import Dataset, load
from mixup_modalities.lab.errors import LabError
from mixup_modalities.lab.processes import Processes, join
from mixup_modalities.lab.recipes import Recipe
from mixup_modalities.lab.tracking import Tracker


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`."""
    add = parser.add_argument
    add("names", metavar="NAME", nargs="*", help="a recipe, see --list")
    add("--list", action="store_true", help="show all recipes, what they cost, and which have results")
    add("--seeds", type=parse_seeds, default=[0], metavar="0-4", help="seeds, such as 0-4 or 0,3,7-9")
    add("--epochs", type=int, metavar="N", help="instead of the recipe's own; kept apart in the ledger")
    add("--batch-size", type=int, metavar="N", help="likewise; the ledger calls the recipe NAME@N")
    add("--device", help="cuda, mps or cpu (default: the best there is)")
    add("--threads", type=int, metavar="N", help="CPU threads (default: one for each core)")
    add("--compile", action="store_true", help="compile the model with torch.compile; pays in long runs on a GPU")
    add("--real", action="store_true", help="stop if the real data are not prepared, instead of taking the sample")
    add("--again", action="store_true", help="run seeds that the ledger has already")
    add("--resume", nargs="?", const="last", choices=["last", "previous"],
        help="go on from the last checkpoint, or the one before it; without any, start at the beginning")  # fmt: skip
    add("--checkpoints", type=Path, metavar="FOLDER", help="default: $MIXUP_CHECKPOINTS, else the user's cache folder")
    add("--save-every", type=float, default=120, metavar="SECONDS",
        help="write a checkpoint after an epoch if the last one is older (default: %(default)g)")  # fmt: skip
    add("--logdir", type=Path, metavar="FOLDER", help="write curves for TensorBoard")
    add("--dry-run", action="store_true", help="say what would be run, and run nothing; without NAME, of all recipes")
    add("--quiet", action="store_true", help="no progress bar")
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
    names = args.names or (list(recipes.RECIPES) if args.dry_run else [])
    if not names:
        raise LabError("name a recipe; `run --list` shows them")
    for option, least in {"epochs": 1, "batch_size": 1, "threads": 1, "save_every": 0}.items():
        value = getattr(args, option)
        if value is not None and not value >= least:  # as nan is not
            raise LabError(f"--{option.replace('_', '-')} must be at least {least}, got {value}")
    chosen = [recipes.find_recipe(name) for name in dict.fromkeys(names)]
    if args.batch_size is not None:
        chosen = [replace(r, batch_size=args.batch_size, name=f"{r.name}@{args.batch_size}") for r in chosen]
    processes, folder = join(), ledger.results_folder()
    if processes.is_main:
        for name in {recipe.ledger for recipe in chosen}:
            ledger.check(folder / f"{name}.csv")
    if not args.dry_run:
        ledger.provenance()  # better now than after an hour of training
        device = processes.device or runtime.pick_device(args.device)
        if args.threads:
            import torch

            torch.set_num_threads(args.threads)
    datasets: dict[str, Dataset] = {}
    for recipe in chosen:
        if recipe.dataset not in datasets:
            datasets = {recipe.dataset: load(recipe.dataset, sample=False if args.real else None)}
        dataset, epochs = datasets[recipe.dataset], args.epochs or recipe.epochs
        path = folder / f"{recipe.ledger}.csv"
        for seed in args.seeds:
            label, checkpoints = f"{recipe.name} seed {seed}", folder_of(recipe, seed, epochs, args)
            done = not args.again and seed in finished(path, recipe.name, epochs, dataset.card.sha256)
            if processes.share(done):  # what one process writes, another must not stumble over
                say(f"{label}: in the ledger already", processes)
                if not args.dry_run and processes.is_main and checkpoints.exists():
                    # Killed after its row was written, before they were removed; or another process runs it again.
                    with suppress(CheckpointError), claimed(checkpoints, label):
                        shutil.rmtree(checkpoints, ignore_errors=True)
            elif args.dry_run:
                say(f"{label}: {epochs} epochs on {describe(dataset)} -> {path}", processes)
            else:
                with claimed(checkpoints, f"seed {seed} of {recipe.name}") if processes.is_main else nullcontext():
                    row = run_one(recipe, seed, dataset, epochs, device, args, processes, path)
                scores = (f"{name} {row[name.lower()]:.4f}" for name in ("accuracy", "NLL", "ECE"))
                say(f"{label}: {', '.join(scores)}", processes)


def run_one(
    recipe: Recipe, seed: int, dataset: Dataset, epochs: int, device, args: argparse.Namespace, processes: Processes,
    path: Path,
) -> dict:  # fmt: skip
    """Train one recipe with one seed, from its beginning or from a checkpoint; process 0 writes the row."""
    checkpoints = checkpoints_of(recipe, seed, dataset, epochs, device, args, processes)
    if processes.is_main:
        checkpoints.prepare()
    resume = None
    if args.resume:
        resume = processes.share(checkpoints.load(args.resume) if processes.is_main else None)
    elif checkpoints.paths():
        say(f"{recipe.name} seed {seed}: starts at the beginning; --resume would go on from a checkpoint", processes)
    # A run may go on under later code; its row then names every commit that it ran under.
    commits = list(dict.fromkeys([*(resume["commits"] if resume else []), ledger.provenance()["commit"]]))
    with ExitStack() as stack:
        called = []
        if processes.is_main:
            called.append(saves(checkpoints, args.save_every, epochs, commits))
        if processes.is_main and args.logdir:
            first = resume["epoch"] if resume else 0
            text = f"{recipe.name}, seed {seed}, {describe(dataset)}, {device.type}"
            tracker = Tracker(args.logdir / recipe.name / f"seed-{seed}", text, first)
            stack.callback(tracker.close)
            called.append(tracker)
        row = recipes.run(
            recipe, seed, dataset=dataset, epochs=epochs, device=device, precision=processes.precision,
            compiler="inductor" if args.compile else None, progress=processes.is_main and not args.quiet,
            on_epoch=lambda state: [call(state) for call in called], resume=resume, processes=processes,
        )  # fmt: skip
    if processes.is_main:
        if not ledger.append(row | {"commit": " then ".join(commits)}, path, once=not args.again):
            say(f"{recipe.name} seed {seed}: another process has written it to the ledger meanwhile", processes)
        checkpoints.clear()
    return row


def checkpoints_of(
    recipe: Recipe, seed: int, dataset: Dataset, epochs: int, device, args: argparse.Namespace, processes: Processes
) -> Checkpoints:
    """Return the checkpoints of a run: in a folder of its own, and of this run and number of processes only."""
    about_time = ("minutes_cpu", "minutes_gpu")
    run = {key: value for key, value in asdict(recipe).items() if key not in about_time}
    run |= {"seed": seed, "epochs": epochs, "dataset_sha256": dataset.card.sha256, "processes": processes.size}
    run |= {"device": device.type, "versions": ledger.provenance()["versions"]}
    return Checkpoints(folder_of(recipe, seed, epochs, args), run)


def folder_of(recipe: Recipe, seed: int, epochs: int, args: argparse.Namespace) -> Path:
    """Return the folder of a run's checkpoints."""
    return (args.checkpoints or default_folder()) / f"{recipe.name}-epochs-{epochs}-seed-{seed}"


def saves(checkpoints: Checkpoints, seconds: float, epochs: int, commits: list[str]):
    """Return a function for `on_epoch` that saves, but not more often than every so many seconds, nor at the end."""
    last = time.monotonic()

    def save(state: dict) -> None:
        nonlocal last
        if state["epoch"] < epochs and time.monotonic() - last >= seconds:
            checkpoints.save(state | {"commits": commits})
            last = time.monotonic()

    return save


def say(text: str, processes: Processes) -> None:
    """Print a line, once for all processes."""
    if processes.is_main:
        print(text, flush=True)


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
