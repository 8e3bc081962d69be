"""Checkpoints of a run: one file each, written in one step, and never the only one.

A checkpoint is a safetensors file: tensors by name, everything else as JSON in its header, a checksum over both. It is
written beside its place, forced to disk and then moved there, and the one before it is removed only when two newer
ones exist. Whenever a process is killed, a whole checkpoint is there.
"""

import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout
from torch import Tensor

from mixup_modalities.lab import storage
from mixup_modalities.lab.errors import LabError

KEPT = 2


class CheckpointError(LabError):
    """A checkpoint cannot be written, is damaged, or belongs to another run; the message says what to do."""


def default_folder() -> Path:
    """Return the folder of all checkpoints: `$MIXUP_CHECKPOINTS`, else one in the user's cache folder."""
    if os.environ.get("MIXUP_CHECKPOINTS"):
        return Path(os.environ["MIXUP_CHECKPOINTS"]).expanduser()
    if os.environ.get("XDG_CACHE_HOME"):
        cache = Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local"))
    else:
        cache = Path("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")
    return cache.expanduser() / "mixup-modalities" / "checkpoints"


@contextmanager
def claimed(folder: Path, run: str) -> Iterator[None]:
    """Keep other processes from a run: they would overwrite its checkpoints. A process that dies gives it up.

    Args:
        folder: of its checkpoints; need not exist.
        run: what to call it in the error.

    Raises:
        CheckpointError: another process has it, or the folder cannot be made or written.
    """
    with ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(storage.locked(folder.with_name(f".{folder.name}.lock"), wait=False))
        except Timeout as error:
            raise CheckpointError(f"{run} is being run by another process: wait for its end") from error
        except OSError as error:
            raise CheckpointError(explain(error, folder)) from error
        yield


def flatten(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Take a state of training apart: its tensors by name, and the rest in a form that JSON can hold.

    Args:
        state: dicts (with keys of text or integers), lists, tuples, tensors, numbers, texts, `None`, nested.

    Returns:
        Tensors on the CPU, and what `unflatten` puts them back into. Tuples come back as lists.
    """
    tensors: dict[str, Tensor] = {}

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            tensors[path] = value.detach().cpu()
            return {"tensor": path}
        if isinstance(value, Mapping):
            return {"dict": [[key, walk(inner, f"{path}/{key}")] for key, inner in value.items()]}
        if isinstance(value, list | tuple):
            return {"list": [walk(inner, f"{path}/{number}") for number, inner in enumerate(value)]}
        return value

    return tensors, walk(state, "")


def unflatten(tensors: Mapping[str, Tensor], rest: Any) -> Any:
    """Return the state that `flatten` took apart."""
    if not isinstance(rest, dict):
        return rest
    ((kind, value),) = rest.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {key: unflatten(tensors, inner) for key, inner in value}
    return [unflatten(tensors, inner) for inner in value]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run.

    Attributes:
        folder: theirs alone.
        run: what the run is, in values that JSON can hold. A checkpoint of another run is refused.
    """

    folder: Path
    run: Mapping[str, Any]

    def paths(self) -> list[Path]:
        """Return the checkpoints that exist, oldest first."""
        return sorted(self.folder.glob("epoch-*.safetensors"))

    def prepare(self) -> None:
        """Make the folder and try to write in it: better before training than after an hour of it.

        Raises:
            CheckpointError: it cannot be made or written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                file.write(b"0")
        except OSError as error:
            raise CheckpointError(explain(error, self.folder)) from error

    def save(self, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint, and remove the one before the last.

        Args:
            state: what `fit` gives to `on_epoch`.

        Returns:
            The path of the new checkpoint.

        Raises:
            CheckpointError: the disk is full or the folder cannot be written. Earlier checkpoints are as they were.
        """
        tensors, rest = flatten(state)
        metadata = {"run": json.dumps(dict(self.run), sort_keys=True), "state": json.dumps(rest)}
        path = self.folder / f"epoch-{state['epoch']:06d}.safetensors"
        made = self.folder / f".{path.name}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            storage.write(made, tensors, metadata)
            storage.replace(made, path)
            paths = self.paths()
            last = paths.index(path) + 1
            for other in paths[: max(last - KEPT, 0)] + paths[last:]:  # later ones are of an attempt before this
                other.unlink()
        except OSError as error:
            made.unlink(missing_ok=True)
            raise CheckpointError(explain(error, self.folder)) from error
        return path

    def load(self, which: str = "last") -> dict[str, Any] | None:
        """Read a checkpoint.

        Args:
            which: "last", or "previous", the one before it.

        Returns:
            The state, for `fit(resume=)`; `None` if there is no checkpoint at all, and the run starts at its beginning.

        Raises:
            CheckpointError: the checkpoint is damaged or belongs to another run, or there is no previous one.
        """
        paths = self.paths()
        if not paths:
            return None
        if which == "previous" and len(paths) < 2:
            raise CheckpointError(f"there is only one checkpoint in {self.folder}, none before it")
        path = paths[-1] if which == "last" else paths[-2]
        try:
            tensors, metadata, _ = storage.read(path)
            run, rest = json.loads(metadata["run"]), json.loads(metadata["state"])
        except (storage.DataError, KeyError, ValueError) as error:
            offer = "run again without --resume to start at the beginning"
            if which == "last" and len(paths) > 1:
                offer = f"--resume previous goes on from the one before it, {paths[-2].name}; or {offer}"
            raise CheckpointError(f"the checkpoint {path} is damaged and was not used: {offer}") from error
        wanted = json.loads(json.dumps(dict(self.run)))
        differs = [key for key in sorted({*run, *wanted}) if run.get(key) != wanted.get(key)]
        if differs:
            what = ", ".join(f"{key} {run.get(key)!r} instead of {wanted.get(key)!r}" for key in differs)
            raise CheckpointError(
                f"the checkpoint {path} is of another run ({what}): run again without --resume to start at the "
                "beginning, or choose another folder with --checkpoints"
            )
        return unflatten(tensors, rest)

    def clear(self) -> None:
        """Remove all checkpoints of the run."""
        shutil.rmtree(self.folder, ignore_errors=True)


def explain(error: OSError, folder: Path) -> str:
    """Return what an error of the file system means for the user, and what to do about it."""
    elsewhere = "choose another folder with --checkpoints"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {folder} is full, no checkpoint was written: free some space there, or {elsewhere}"
    return f"no checkpoint can be written to {folder} ({error.strerror or error}): {elsewhere}"
