"""The ledger: `results/*.csv`, one row a run, each with the provenance that makes its numbers worth reading.

`append` refuses a row that does not say where it comes from. Several processes may append to one file at a time: each
takes the file's lock and replaces the file in one step, so that no reader, and no crash, ever meets half a row.
"""

import csv
import io
import json
import math
import os
import platform
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import pandas as pd

from mixup_modalities.lab import storage
from mixup_modalities.lab.errors import LabError
from mixup_modalities.lab.metrics import mean_interval

# What a row must say; None, NaN and "" do not count as saying it.
REQUIRED = ("recipe", "seed", "epochs", "seconds", "device", "precision", "dataset", "dataset_sha256", "lossy", "data")
REQUIRED += ("commit", "versions")
# What a published figure must say.
PUBLISHED = ("recipe", "metric", "value", "experiment", "source", "url")
# Runs that agree in these are repetitions of one experiment, to be averaged over seeds.
EXPERIMENT = ["recipe", "epochs", "dataset", "dataset_sha256", "lossy", "data"]
NOT_METRICS = {*REQUIRED, "num_train", "num_test", "best_epoch"}
# Preparations, by `dataset_sha256`, that hold part of a data set: their numbers must not go by its name.
SUBSETS = {
    "fbbd09cfba80b65a330f2970dcda2882aa91213c8abab7a4c8047ed8f13704af": "Speech Commands subset",
    "7dbbc7ac1773504544707c83bf87893aeb9c7d70a0c465bffa0c4f86ac0a47e1": "AG News, 17 % of its training set",
}


class LedgerError(LabError):
    """A row or a file of the ledger is not what it must be."""


def results_folder() -> Path:
    """Return the folder of results: `$MIXUP_RESULTS`, else `results` here or above, beside the package, or within it.

    Raises:
        LedgerError: there is none.
    """
    if os.environ.get("MIXUP_RESULTS"):
        return Path(os.environ["MIXUP_RESULTS"]).expanduser()
    here = Path.cwd()
    for folder in (here, *here.parents, *Path(__file__).parents[2:0:-1]):
        if (folder / "results" / "published.csv").is_file():
            return folder / "results"
    raise LedgerError("there is no results folder here or above: run this inside a clone, or set MIXUP_RESULTS")


def provenance() -> dict[str, str]:
    """Return the commit of the package's code and the versions of what it runs on.

    `commit` ends in "+changes" if files of the package differ from that commit.

    Raises:
        LedgerError: the commit cannot be found out: neither a clone nor an installation from a repository.
    """
    return dict(_provenance())


@cache
def _provenance() -> tuple[tuple[str, str], ...]:
    packages = [f"{name} {version(name)}" for name in ("torch", "numpy")]
    return ("commit", _commit()), ("versions", "; ".join([f"python {platform.python_version()}", *packages]))


def _commit() -> str:
    package = Path(__file__).parents[1]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", package, *arguments], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    # A package installed into an environment inside somebody else's repository is not part of that repository.
    if git("ls-files", "--error-unmatch", str(package / "__init__.py")) is not None:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", str(package)) else "")
    try:
        origin = distribution("mixup-modalities").read_text("direct_url.json") or ""
    except PackageNotFoundError:
        origin = ""
    if '"commit_id"' in origin:
        return json.loads(origin)["vcs_info"]["commit_id"]
    raise LedgerError("the code's commit is unknown: run from a clone of the repository, or install from one")


def check(path: str | os.PathLike) -> None:
    """Try whether a run could be added to a file of the ledger: better before training than after an hour of it.

    Nothing is left behind; a folder that does not exist yet is not made.

    Raises:
        LedgerError: the file is damaged or cannot be written.
    """
    path = Path(path).absolute()
    try:
        with tempfile.TemporaryFile(dir=next(folder for folder in path.parents if folder.exists())) as file:
            file.write(b"0")
        _read(path)
    except OSError as error:
        elsewhere = "choose another folder with the environment variable MIXUP_RESULTS"
        raise LedgerError(f"{path} cannot be written ({error.strerror or error}): {elsewhere}") from error


def append(row: Mapping[str, Any], path: str | os.PathLike, *, once: bool = False) -> bool:
    """Add one run to a file of the ledger.

    Args:
        row: metrics and settings by name, as `recipes.run` returns them; `commit` and `versions` are filled in. Columns
            that the file does not have yet are added to it.
        path: the CSV file; made if it does not exist.
        once: write nothing if the file has a run of the same experiment and seed.

    Returns:
        Whether the row was written.

    Raises:
        LedgerError: the row lacks provenance, or holds a metric that is not finite or a value with a line break; or the
            file is damaged or cannot be written. The file is then as it was.
    """
    path = Path(path)
    row = dict(row) | {key: value for key, value in provenance().items() if key not in row}
    missing = [key for key in REQUIRED if row.get(key) is None or row[key] == "" or row[key] != row[key]]
    if missing:
        raise LedgerError(f"a row without its provenance is not written; missing: {', '.join(missing)}")
    for key, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise LedgerError(f"{key} is {value}: a run that diverged is not written")
        if isinstance(value, str) and ("\n" in value or "\r" in value):
            raise LedgerError(f"{key} holds a line break: {value!r}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with storage.locked(path.with_name(f".{path.name}.lock")):
            columns, rows = _read(path)
            if once and any(all(old[key] == _text(row[key]) for key in (*EXPERIMENT, "seed")) for old in rows):
                return False
            columns += [key for key in row if key not in columns]
            _replace(path, columns, [*rows, {key: _text(value) for key, value in row.items()}])
    except OSError as error:
        raise LedgerError(f"{path} cannot be written ({error.strerror or error}); the row is {dict(row)}") from error
    return True


def read(path: str | os.PathLike) -> pd.DataFrame:
    """Return a file of the ledger, one row a run, in the order they were written; an empty file has none.

    Raises:
        LedgerError: there is no such file, or it is damaged.
    """
    if not Path(path).is_file():
        raise LedgerError(f"there are no results in {path}")
    if not _read(Path(path))[0]:
        return pd.DataFrame(columns=[*REQUIRED])
    return pd.read_csv(path, dtype={"recipe": str, "commit": str, "dataset_sha256": str})


def runs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each experiment and seed: of a run that was repeated, the latest counts."""
    return frame.drop_duplicates([*EXPERIMENT, "seed"], keep="last")


def summarise(frame: pd.DataFrame, metrics: list[str] | None = None, level: float = 0.95) -> pd.DataFrame:
    """Average over seeds.

    Args:
        frame: rows as `read` returns them. A seed that was run twice counts once (`runs`).
        metrics: columns to average; default all numeric ones that are not provenance.
        level: of the t interval.

    Returns:
        One row for each experiment (recipe, data, epochs) and metric: `mean`, `low`, `high` (NaN for one seed), `n`,
        and what the runs share: `dataset`, `data` ("real" or "sample"), `lossy`, `epochs`, `devices`, `commits`.

    Raises:
        LedgerError: there is no such metric, or it holds a text.
    """
    frame = runs(frame)
    if metrics is None:
        metrics = [c for c in frame.select_dtypes("number").columns if c not in NOT_METRICS]
    unknown = [c for c in metrics if c not in frame.columns]
    if unknown:
        raise LedgerError(f"there is no metric {', '.join(unknown)}; there are {', '.join(frame.columns)}")
    for metric in metrics:
        texts = frame[metric][frame[metric].notna() & pd.to_numeric(frame[metric], errors="coerce").isna()]
        if len(texts):
            raise LedgerError(f"{metric} cannot be averaged: it holds {texts.iloc[0]!r}, which is no number")
    found = []
    for key, group in frame.groupby(EXPERIMENT, sort=False):
        shared = dict(zip(EXPERIMENT, key)) | {
            "devices": ", ".join(sorted(set(group["device"]))),
            "commits": ", ".join(sorted({commit[:7] for commit in group["commit"]})),
        }
        for metric in metrics:
            values = group[metric].dropna()
            if len(values):
                found.append(shared | {"metric": metric} | mean_interval(values, level)._asdict())
    columns = ["recipe", "metric", "mean", "low", "high", "n", "data", "dataset", "lossy", "epochs"]
    return pd.DataFrame(found, columns=[*columns, "dataset_sha256", "devices", "commits"])


def results(name: str) -> pd.DataFrame:
    """Return the rows of one file of the ledger, such as "mnist", from the folder of results."""
    return read(results_folder() / f"{name}.csv")


def table(frame: pd.DataFrame, metric: str, digits: int = 3) -> pd.DataFrame:
    """Return a metric as a table to read: a row for each family of recipes, a column for each variant.

    The variant is what follows the last dash of a recipe's name: "mnist-noise-40-8" is variant "8" of "mnist-noise-40".

    Args:
        frame: rows as `read` returns them, of one data set and one number of epochs for each recipe.
        metric: a column of it.
        digits: after the point.

    Returns:
        Texts "mean ± half the width of the 95 % t interval over seeds"; of a single seed only the mean; "" where
        nothing was run.

    Raises:
        LedgerError: a recipe stands there with several data sets or numbers of epochs, which no table should blend.
    """
    summary = summarise(frame, [metric])
    if summary["recipe"].duplicated().any():
        twice = summary["recipe"][summary["recipe"].duplicated()].iloc[0]
        raise LedgerError(f"{twice} has results on several data sets or after several numbers of epochs: choose one")
    cells: dict[str, dict[str, str]] = {}
    for row in summary.itertuples():
        family, _, variant = row.recipe.rpartition("-")
        text = f"{row.mean:.{digits}f}"
        if row.n > 1:
            text += f" ± {row.high - row.mean:.{digits}f}"
        cells.setdefault(family, {})[variant] = text
    return pd.DataFrame.from_dict(cells, orient="index").fillna("")


def caption(frame: pd.DataFrame) -> str:
    """Return where the numbers of a table come from: seeds, data, device, precision, versions, commits."""
    frame = runs(frame)
    counts = sorted(set(frame.groupby(EXPERIMENT)["seed"].count()))
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    names = [SUBSETS.get(key, name) for key, name in zip(frame["dataset_sha256"], frame["dataset"])]
    sets = {f"{'real' if d == 'real' else 'sample of'} {name}" + (", a lossy copy" if lossy else "")
            for d, name, lossy in zip(frame["data"], names, frame["lossy"])}  # fmt: skip
    where = {f"{device}, {precision}" for device, precision in zip(frame["device"], frame["precision"])}
    parts = [
        f"{seeds} seed{'s' if counts[-1] > 1 else ''}",
        *sorted(sets),
        *sorted(where),
        *sorted(set(frame["versions"])),
    ]
    return "; ".join([*parts, "commit " + ", ".join(sorted({commit[:7] for commit in frame["commit"]}))])


def published(folder: str | os.PathLike | None = None) -> pd.DataFrame:
    """Return the published figures, each with its source; `recipe` is ours that comes nearest, or empty.

    `value` is in the unit of our metric (a share, not per cent); `note` says what differs from our recipe.

    Raises:
        LedgerError: there is no such file, or it is damaged.
    """
    path = Path(folder or results_folder()) / "published.csv"
    if not path.is_file():
        raise LedgerError(f"there are no published figures in {path}")
    try:
        figures = pd.read_csv(path, keep_default_na=False)
        _check_columns(figures.columns, PUBLISHED)
        return figures.astype({"value": float})
    except ValueError as error:
        raise LedgerError(f"{path} is damaged: {str(error).strip()}") from error


def beside_published(summary: pd.DataFrame, figures: pd.DataFrame) -> pd.DataFrame:
    """Return a summary with two more columns, `published` and `source`, filled where that recipe has a figure."""
    known = figures[figures["recipe"] != ""].drop_duplicates(["recipe", "metric"])
    known = known.rename(columns={"value": "published"})[["recipe", "metric", "published", "source"]]
    return summary.merge(known, on=["recipe", "metric"], how="left")


def _text(value: Any) -> str:
    return "" if value is None else repr(float(value)) if isinstance(value, float) else str(value)


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    if not path.exists() or path.stat().st_size == 0:
        return [], []
    try:
        text = path.read_text(encoding="utf-8")
        columns, *rows = csv.reader(io.StringIO(text, newline=""))
        _check_columns(columns, REQUIRED)
        for number, row in enumerate(rows, 2):
            if len(row) != len(columns):
                raise ValueError(f"line {number} does not fit the header")
        if "\0" in text:
            raise ValueError("it holds a NUL")
    except (ValueError, csv.Error) as error:  # a UnicodeDecodeError is a ValueError
        raise LedgerError(f"{path} is damaged: {error}") from error
    return columns, [dict(zip(columns, row)) for row in rows]


def _check_columns(columns: Iterable[str], wanted: Iterable[str]) -> None:
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise ValueError(f"it has no column {', '.join(missing)}")
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise ValueError(f"it has two columns {', '.join(twice)}")


def _replace(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with open(handle, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
