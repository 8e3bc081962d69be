"""The offline question corpus: hand-written question families in, labelled questions out.

The corpus was written for this book and is CC0. Its source, `questions.txt`, is meant to be read: a *family* is one
intent (how tall things are), the few wordings, called *frames*, that were written for it, and what goes into their
slots. A whole family belongs to one split, and no wording crosses from one split to the other:

- no question is in both,
- no filler is in both,
- no three consecutive tokens of a frame (words, punctuation, or the slot itself) are in both.

`tests/test_questions.py` checks all three.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

CLASSES = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
"""The six coarse classes of TREC (Li and Roth, 2002), in label order: 0 is ABBR."""

SLOT = "{}"


@dataclass(frozen=True)
class Question:
    """One question of the corpus.

    Attributes:
        text: the question as a reader sees it.
        label: its class, one of `CLASSES`.
        family: name of the family, unique in the corpus.
        split: "train" or "test".
        frame: the wording it was made from, with `{}` for each slot.
        fillers: what went into the slots, in order.
    """

    text: str
    label: str
    family: str
    split: str
    frame: str
    fillers: tuple[str, ...]


def parse(source: str) -> tuple[Question, ...]:
    """Read a corpus in the format of `questions.txt`.

    Args:
        source: `== LABEL family split` lines, each followed by `frame | filler; filler; ...` lines;
            `#` starts a comment line.

    Returns:
        The questions, in the order of the source.

    Raises:
        ValueError: for an unknown label or split, a repeated family name, a frame outside a family, or a filler whose
            parts do not match the slots of its frame. The message names the line.
    """
    questions: list[Question] = []
    header: tuple[str, str, str] | None = None
    names: set[str] = set()
    for number, line in enumerate(source.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("=="):
            fields = line[2:].split()
            if len(fields) != 3 or fields[0] not in CLASSES or fields[2] not in ("train", "test"):
                raise ValueError(f"line {number}: expected '== LABEL family train|test', got {line!r}")
            if fields[1] in names:
                raise ValueError(f"line {number}: family {fields[1]!r} was already defined")
            names.add(fields[1])
            header = (fields[0], fields[1], fields[2])
            continue
        frame, bar, fillers = (part.strip() for part in line.partition("|"))
        if header is None or not bar or SLOT not in frame:
            raise ValueError(f"line {number}: expected 'frame with {SLOT} | filler; ...' inside a family, got {line!r}")
        for filler in fillers.split(";"):
            parts = tuple(part.strip() for part in filler.split(" / "))
            if len(parts) != frame.count(SLOT) or not all(parts):
                raise ValueError(
                    f"line {number}: {filler.strip()!r} does not fill the {frame.count(SLOT)} slot(s) of {frame!r}"
                )
            label, family, split = header
            text = frame.format(*parts)
            questions.append(Question(text, label, family, split, frame, parts))
    return tuple(questions)


@cache
def questions(split: str | None = None) -> tuple[Question, ...]:
    """The offline corpus.

    Args:
        split: "train", "test", or None for both.

    Returns:
        The questions of that split, in the order of `questions.txt`: the same on every machine.

    Raises:
        ValueError: if `split` is none of these.
    """
    if split not in (None, "train", "test"):
        raise ValueError(f"split must be 'train', 'test' or None, got {split!r}")
    source = files(__package__).joinpath("questions.txt").read_text(encoding="utf-8")
    return tuple(q for q in parse(source) if split is None or q.split == split)


def frame_tokens(frame: str) -> tuple[str, ...]:
    """The wording of a frame: its words in lower case, its punctuation, and `{}` for each slot; no closing mark."""
    return tuple(re.findall(r"\{\}|[\w'-]+|[^\w\s]", frame.lower().rstrip("?. ")))


def wording(frame: str, n: int = 3) -> frozenset[tuple[str, ...]]:
    """Everything a frame could give away: its runs of `n` consecutive tokens.

    Args:
        frame: a wording with `{}` slots.
        n: length of a run; a frame of fewer tokens counts as one run.

    Returns:
        The set of runs, e.g. `{("why", "do", "{}")}` for "Why do {}?".
    """
    tokens = frame_tokens(frame)
    return frozenset(tokens[i : i + n] for i in range(max(1, len(tokens) - n + 1)))
