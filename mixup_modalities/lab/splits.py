"""The objects a data set is made of: `Split`, `DataCard`, `Dataset`, and how each is stored as named tensors.

Nothing here reads or writes a file; `storage` does that, and `datasets` brings the two together.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from mixup_modalities.lab.announce import Announcement


@dataclass(frozen=True)
class Split:
    """One part of a data set, held as plain tensors on one device.

    Attributes:
        x: uint8 images `(N, C, H, W)`, int16 waveforms `(N, samples)`, or a tuple of `N` strings.
        y: int64 class indices `(N,)`.
        lengths: int64 `(N,)`, the samples of each waveform before it was padded; `None` where nothing was padded.
        extra: further tensors with one row for each example (coarse labels, speakers, ...), by name.
    """

    x: Tensor | tuple[str, ...]
    y: Tensor
    lengths: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self):
        if not isinstance(self.x, Tensor):
            object.__setattr__(self, "x", tuple(self.x))
        object.__setattr__(self, "extra", MappingProxyType(dict(self.extra)))
        if self.y.dtype != torch.int64 or self.y.ndim != 1:
            raise ValueError(f"y must be int64 of shape (N,), got {self.y.dtype} of shape {tuple(self.y.shape)}")
        for name, rows in [("x", self.x), ("lengths", self.lengths), *self.extra.items()]:
            if rows is not None and len(rows) != len(self.y):
                raise ValueError(f"{name} has {len(rows)} rows, but y has {len(self.y)}")

    def __len__(self) -> int:
        return len(self.y)

    @property
    def is_text(self) -> bool:
        """Whether `x` holds strings."""
        return not isinstance(self.x, Tensor)

    @property
    def device(self) -> torch.device:
        """The device the tensors are on."""
        return self.y.device

    def __repr__(self) -> str:
        x = f"{len(self)} texts" if self.is_text else f"{str(self.x.dtype)[6:]} {tuple(self.x.shape)}"
        return f"Split(x={x}, y=int64 ({len(self)},), device={self.device})"

    def to(self, device: torch.device | str) -> "Split":
        """Return the split with every tensor on `device`; strings stay where they are."""
        moved = {name: rows.to(device) for name, rows in self.extra.items()}
        lengths = None if self.lengths is None else self.lengths.to(device)
        return Split(self.x if self.is_text else self.x.to(device), self.y.to(device), lengths, moved)

    def take(self, indices: Tensor | np.ndarray | list[int] | slice) -> "Split":
        """Return the rows at `indices`, in that order.

        Args:
            indices: int64 `(M,)`, on any device; or a slice, or a list of integers. Negative ones count from the end.

        Returns:
            A new split with M rows.

        Raises:
            ValueError: the indices are not integers of shape (M,), a boolean mask for instance.
            IndexError: an index is outside of `[-N, N)`.
        """
        if isinstance(indices, slice):
            indices = range(*indices.indices(len(self)))
        indices = torch.as_tensor(list(indices) if isinstance(indices, range) else indices)
        if indices.ndim != 1 or (len(indices) and indices.dtype not in (torch.int64, torch.int32)):
            raise ValueError(f"indices must be integers of shape (M,), got {indices.dtype} {tuple(indices.shape)}")
        at = indices.to(self.device, torch.int64)
        x = tuple(self.x[i] for i in at.tolist()) if self.is_text else self.x[at]
        lengths = None if self.lengths is None else self.lengths[at]
        return Split(x, self.y[at], lengths, {name: rows[at] for name, rows in self.extra.items()})


@dataclass(frozen=True)
class DataCard:
    """Where a data set comes from and what may be done with it.

    Attributes:
        title: its name for readers, such as "MNIST".
        source: where it was obtained.
        licence: its licence, or that none is stated.
        citation: whom to cite.
        checksums: `{file name: "md5:..."}` of the files it was read from.
        lossy: whether the examples differ from the official ones (recompressed images, say).
        notes: what else a reader of its numbers must know.
        counts: examples of each split.
        sha256: fingerprint of the prepared content (card, tensors); the same for every copy that is equal.
    """

    title: str
    source: str
    licence: str
    citation: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict)
    lossy: bool = False
    notes: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    sha256: str = ""

    def to_metadata(self) -> dict[str, str]:
        """Return the card as strings (mappings and lists as JSON), `sha256` left out."""
        return {
            key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in asdict(self).items()
            if key != "sha256"
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], sha256: str) -> "DataCard":
        """Rebuild a card from `to_metadata`'s strings."""
        texts = {"title", "source", "licence", "citation"}
        known = {f.name for f in fields(cls)} & set(metadata)
        card = cls(**{key: metadata[key] if key in texts else json.loads(metadata[key]) for key in known})
        return replace(card, notes=tuple(card.notes), sha256=sha256)


@dataclass(frozen=True)
class Dataset:
    """A data set ready to train on.

    Attributes:
        name: its name in the registry, such as "mnist".
        train: training examples.
        validation: examples to choose settings with, or `None`.
        test: examples to report.
        classes: the name of each class; `classes[y]`.
        card: source, licence, checksums, counts.
        is_sample: whether this is the small offline sample instead of the real set.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    classes: tuple[str, ...]
    card: DataCard
    is_sample: bool = False

    @property
    def full_train(self) -> Split:
        """Training and validation examples in one split, as published protocols without validation use them."""
        return self.train if self.validation is None else concatenate(self.train, self.validation)

    def to(self, device: torch.device | str) -> "Dataset":
        """Return the data set with every split on `device`."""
        return replace(self, **{name: split.to(device) for name, split in self.splits.items()})

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that exist, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    def announce(self) -> Announcement:
        """Return a box for the notebook that says which data this is; make it a cell's last line."""
        return Announcement(
            self.card.title,
            self.is_sample,
            self.card.counts,
            self.card.licence,
            self.card.lossy,
            self.card.notes,
            self.name,
        )


def concatenate(first: Split, second: Split) -> Split:
    """Return the rows of `first`, then those of `second`."""

    def join(a, b):
        return a + b if isinstance(a, tuple) else torch.cat([a, b])

    lengths = None if first.lengths is None else torch.cat([first.lengths, second.lengths])
    extra = {name: torch.cat([rows, second.extra[name]]) for name, rows in first.extra.items()}
    return Split(join(first.x, second.x), torch.cat([first.y, second.y]), lengths, extra)


def pack(splits: Mapping[str, Split]) -> dict[str, Tensor]:
    """Return splits as named tensors: `train.x`, `train.y`, ...; texts are UTF-8 bytes `.x` and N + 1 `.offsets`."""
    tensors = {}
    for name, split in splits.items():
        if split.is_text:
            encoded = [text.encode() for text in split.x]
            tensors[f"{name}.x"] = torch.from_numpy(np.frombuffer(b"".join(encoded), np.uint8).copy())
            tensors[f"{name}.offsets"] = torch.tensor([0, *map(len, encoded)], dtype=torch.int64).cumsum(0)
        else:
            tensors[f"{name}.x"] = split.x
        tensors[f"{name}.y"] = split.y
        if split.lengths is not None:
            tensors[f"{name}.lengths"] = split.lengths
        tensors |= {f"{name}.extra.{key}": rows for key, rows in split.extra.items()}
    return {key: rows.cpu().contiguous() for key, rows in tensors.items()}


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Split]:
    """Return the splits that `pack` made tensors of."""
    splits = {}
    for name in dict.fromkeys(key.split(".", 1)[0] for key in tensors):
        x, offsets = tensors[f"{name}.x"], tensors.get(f"{name}.offsets")
        if offsets is not None:
            raw, ends = x.cpu().numpy().tobytes(), offsets.tolist()
            x = tuple(raw[a:b].decode() for a, b in pairwise(ends))
        prefix = f"{name}.extra."
        extra = {key.removeprefix(prefix): rows for key, rows in tensors.items() if key.startswith(prefix)}
        splits[name] = Split(x, tensors[f"{name}.y"], tensors.get(f"{name}.lengths"), extra)
    return splits
