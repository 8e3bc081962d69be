"""The data sets of the book: `prepare` once, `load` anywhere.

`prepare` downloads a set, or reads a local copy of it, checks it, and writes one safetensors file. `load` reads that
file onto a device; where there is none it gives the offline sample, and says so. `load` never touches the network.

**Adding a data set.** Write a module with a `Source` at its top level, named `SOURCE`, or `SOURCES` for several, and
name the module in `MODULES` below. Such a module is imported only when its set is asked for, but `data list` imports
all of them: keep slow imports (torchvision, soundfile, scikit-learn) inside its functions. (A set that is no part of
the book comes in through `register`.) A source has three functions; the last two return a `Dataset`:

- `download(folder, progress)` puts the original files into an empty folder, each through `download.fetch`, which
  checks it. With `resumable=True` the folder outlives a broken connection, and `fetch` goes on where it stopped.
- `read(path, progress)` makes a `Dataset` from that folder, or from what the user named with `--from`. It verifies
  what it reads, and raises `DataError` naming the file and what is wrong. Equal originals give an equal data set:
  nothing of `path`, the clock or the machine may go into it.
- `sample()` makes the offline sample: small, quick, the same every time, with a card that says what it is.

Images are uint8 `(N, C, H, W)`, waveforms int16 `(N, samples)` with `lengths`, texts a tuple of strings; labels are
int64 class indices. `Split(..., extra={"speaker": ...})` keeps further tensors with a row for each example. The
registry fills in `card.counts`, `card.sha256` and `is_sample`.
"""

import difflib
import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import torch

from mixup_modalities.lab import storage
from mixup_modalities.lab.splits import DataCard, Dataset, Split, pack, unpack
from mixup_modalities.lab.storage import DataError, data_root

__all__ = ["DataCard", "DataError", "Dataset", "Source", "Split", "Status", "data_root", "list_datasets", "load"]
__all__ += ["prepare", "register"]

FORMAT = "1"
MODULES = {
    "cifar10": "mixup_modalities.lab.source_cifar",
    "cifar100": "mixup_modalities.lab.source_cifar",
    "mnist": "mixup_modalities.lab.source_mnist",
    "speech_commands": "mixup_modalities.lab.source_speech_commands",
    "speech_commands_35": "mixup_modalities.lab.source_speech_commands",
    "trec": "mixup_modalities.lab.source_text",
    "ag_news": "mixup_modalities.lab.source_text",
}

logger = logging.getLogger("mixup_modalities")


@dataclass(frozen=True)
class Source:
    """How a data set is obtained; see the module's text.

    Attributes:
        name: what `load` and `prepare` call it.
        title: its name for readers.
        modality: "image", "audio" or "text".
        licence: shown by `data list` before the set is prepared.
        download: puts the original files into a folder.
        read: makes the data set from a folder of original files.
        sample: makes the offline sample.
        download_bytes: about how much there is to download.
        resumable: keep what has arrived when a download breaks off.
    """

    name: str
    title: str
    modality: str
    licence: str
    download: Callable[[Path, bool], None]
    read: Callable[[Path, bool], Dataset]
    sample: Callable[[], Dataset]
    download_bytes: int = 0
    resumable: bool = False


@dataclass(frozen=True)
class Status:
    """What is known of one data set on this machine: `state` is "prepared", "not prepared" or "damaged"."""

    name: str
    title: str
    modality: str
    state: str
    path: Path
    size: int
    licence: str
    lossy: bool
    source: str


_registered: dict[str, Source] = {}


def register(source: Source) -> None:
    """Add a data set of your own, so that `load`, `prepare` and `list_datasets` know it."""
    _registered[source.name] = source


def names() -> list[str]:
    """Return the names of all data sets."""
    return sorted({*MODULES, *_registered})


def find_source(name: str) -> Source:
    """Return the source of a data set.

    Raises:
        DataError: there is no such data set; the nearest names are offered.
    """
    if name not in _registered and name in MODULES:
        module = import_module(MODULES[name])
        for source in getattr(module, "SOURCES", None) or [module.SOURCE]:
            _registered.setdefault(source.name, source)
    if name not in _registered:
        near = difflib.get_close_matches(str(name).lower().replace("-", "_"), names(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names())}"
        raise DataError(f"there is no data set named {name!r}: {hint}")
    return _registered[name]


def load(
    name: str,
    *,
    device: torch.device | str = "cpu",
    root: str | os.PathLike | None = None,
    sample: bool | None = None,
) -> Dataset:
    """Return a data set: the prepared one, or its offline sample.

    Args:
        name: one of `names()`, such as "mnist".
        device: where the tensors shall be.
        root: folder of prepared data; default `$MIXUP_DATA`, else the user's cache folder.
        sample: `True` for the offline sample, `False` for the real set and nothing else, `None` for the real set if it
            is prepared and the sample if not.

    Returns:
        The data set; `is_sample` and `announce()` say which of the two it is.

    Raises:
        DataError: no such data set; `sample=False` and it is not prepared; or its file is damaged.
    """
    source = find_source(name)
    path = prepared_path(name, root)
    command = f"python -m mixup_modalities data prepare {name}"
    if sample is None:
        sample = not path.exists()
        if sample:
            # A notebook shows the box of announce() instead.
            level = logging.DEBUG if _in_notebook() else logging.WARNING
            logger.log(level, "%s is not prepared: using its offline sample (for the real data: %s)", name, command)
    if sample:
        dataset = _completed(source.sample(), is_sample=True)
    elif not path.exists():
        raise DataError(f"{name} is not prepared in {path.parent}; run: {command}")
    else:
        try:
            dataset = _read(name, path)
        except DataError as error:
            raise DataError(f"{error}; make it anew: {command} --force") from error
        logger.info("%s: %s", name, dataset.card.source)
    return dataset.to(device)


def prepare(
    name: str,
    *,
    source: str | os.PathLike | None = None,
    root: str | os.PathLike | None = None,
    progress: bool = True,
    force: bool = False,
) -> Path:
    """Download a data set, or read a local copy, verify it, and write its file in one step.

    A set that is prepared and sound stays as it is, unless `source` or `force` is given.

    Args:
        name: one of `names()`.
        source: a local copy of the original files; default: download them.
        root: folder of prepared data; default `$MIXUP_DATA`, else the user's cache folder.
        progress: show a progress bar for what takes longer than two seconds.
        force: make the file anew even if there is a sound one.

    Returns:
        The path of the prepared file.

    Raises:
        DataError: no such data set, no network, wrong or damaged originals, a folder that cannot be written, a full
            disk. Nothing half-written stays behind.
    """
    entry = find_source(name)
    path = prepared_path(name, root)
    wanted = source is None and not force
    if wanted and _is_sound(name, path):
        return path
    local = None if source is None else Path(source).expanduser()
    if local is not None and not local.exists():
        raise DataError(f"there is nothing at {local} to prepare {name} from")
    resumable = entry.resumable and local is None
    with storage.workspace(path.parent, name, resumable=resumable) as folder:
        if wanted and _is_sound(name, path):  # another process made it while this one waited for the lock
            return path
        if local is None:
            try:
                entry.download(folder, progress)
            except storage.Interrupted as error:
                hint = "; run the same command again to go on from there" if resumable else "; nothing was kept"
                raise storage.Interrupted(f"{error}{hint}") from error
        try:
            dataset = entry.read(local or folder, progress)
        except OSError as error:
            raise DataError(f"{local or folder} cannot be read: {error}") from error
        made = folder / path.name
        metadata = dataset.card.to_metadata() | {"name": name, "format": FORMAT, "modality": entry.modality}
        metadata |= {"classes": json.dumps(dataset.classes, ensure_ascii=False)}
        metadata |= {"counts": json.dumps(_counts(dataset))}
        storage.write(made, pack(dataset.splits), metadata)
        storage.replace(made, path)
    return path


def list_datasets(root: str | os.PathLike | None = None) -> list[Status]:
    """Return the status of each data set: prepared or not, where, size in bytes, licence, lossy or not.

    `size` is that of the prepared file, else about that of the download. Contents are verified by `load`, not here.
    """
    found = []
    for name in names():
        source, path = find_source(name), prepared_path(name, root)
        state, size, metadata = "not prepared", source.download_bytes, {}
        if path.exists():
            state, size = "prepared", path.stat().st_size
            try:
                metadata = storage.read_metadata(path)
            except DataError:
                state = "damaged"
        licence, lossy = metadata.get("licence", source.licence), metadata.get("lossy") == "true"
        title, origin = metadata.get("title", source.title), metadata.get("source", "")
        found.append(Status(name, title, source.modality, state, path, size, licence, lossy, origin))
    return found


def prepared_path(name: str, root: str | os.PathLike | None = None) -> Path:
    """Return where the prepared file of a data set is, or would be."""
    return data_root(root) / f"{name}.safetensors"


def _read(name: str, path: Path) -> Dataset:
    tensors, metadata, sha256 = storage.read(path)
    if metadata.get("format") != FORMAT or metadata.get("name") != name:
        found = f"{metadata.get('name')!r}, format {metadata.get('format')!r}"
        raise DataError(f"{path} holds {found}, but {name!r}, format {FORMAT!r} was expected")
    splits = unpack(tensors)
    card, classes = DataCard.from_metadata(metadata, sha256), tuple(json.loads(metadata["classes"]))
    return Dataset(name, splits["train"], splits.get("validation"), splits["test"], classes, card)


def _is_sound(name: str, path: Path) -> bool:
    try:
        return path.exists() and bool(_read(name, path))
    except DataError as error:
        logger.warning("%s; making it anew", error)
        return False


def _counts(dataset: Dataset) -> dict[str, int]:
    return {name: len(split) for name, split in dataset.splits.items()}


def _completed(dataset: Dataset, is_sample: bool) -> Dataset:
    card = replace(dataset.card, counts=_counts(dataset))
    sha256 = storage.fingerprint(pack(dataset.splits), card.to_metadata())
    return replace(dataset, card=replace(card, sha256=sha256), is_sample=is_sample)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")
