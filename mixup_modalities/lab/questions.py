"""The offline text corpora, questions and news: hand-written families in, labelled texts out.

Both were written for this book and are CC0. Their sources, `questions.txt` and `news.txt`, are meant to be read. A
*family* is one intent (how tall things are; a team fires its coach), the few wordings written for it, called *frames*,
and what goes into their slots. A whole family belongs to one split, and no wording crosses from one to the other:

- no text is in both,
- no filler is in both,
- no three consecutive tokens of a frame (words, punctuation, or the slot itself) are in both.

`tests/test_questions.py` checks all three.
"""

import itertools
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

QUESTION_CLASSES = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
"""The six coarse classes of TREC (Li and Roth, 2002), in label order: 0 is ABBR."""

NEWS_CLASSES = ("World", "Sports", "Business", "Sci/Tech")
"""The four classes of AG News, in label order."""

SLOT = re.compile(r"\{\d*\}")


@dataclass(frozen=True)
class Text:
    """One text of a corpus.

    Attributes:
        text: what a reader sees.
        label: its class, by name.
        family: name of the family, unique in the corpus.
        split: "train" or "test".
        frame: the wording it was made from, with `{}` or `{0}`, `{1}` for the slots.
        fillers: what went into the slots, in order.
    """

    text: str
    label: str
    family: str
    split: str
    frame: str
    fillers: tuple[str, ...]


def parse(source: str, classes: tuple[str, ...]) -> tuple[Text, ...]:
    """Read a corpus.

    Args:
        source: `== LABEL family train|test` opens a family. A line `frame | a; b; c` in it makes one text of each
            filler; where the frame has two slots, a filler is `first / second`. A line `frame || a; b || c; d` makes
            one text of each pair. `#` starts a comment line.
        classes: the labels that there are.

    Returns:
        The texts in the order of the source.

    Raises:
        ValueError: a line is none of these, or does not fit; the message names it.
    """
    texts: list[Text] = []
    header: tuple[str, str, str] | None = None
    families: set[str] = set()
    for number, line in enumerate(source.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("=="):
            fields = line[2:].split()
            if len(fields) != 3 or fields[0] not in classes or fields[2] not in ("train", "test"):
                raise ValueError(f"line {number}: expected '== LABEL family train|test', got {line!r}")
            if fields[1] in families:
                raise ValueError(f"line {number}: family {fields[1]!r} was already defined")
            families.add(fields[1])
            header = (fields[0], fields[1], fields[2])
            continue
        frame, *lists = (part.strip() for part in re.split(r"\|{1,2}", line))
        slots = len(set(SLOT.findall(frame))) if "||" in line else len(SLOT.findall(frame))
        if header is None or not lists or not slots:
            raise ValueError(f"line {number}: expected 'frame with {{}} | filler; ...' inside a family, got {line!r}")
        choices = [[part.strip() for part in each.split(";")] for each in lists]
        if "||" in line:
            fillings = list(itertools.product(*choices))
        else:
            fillings = [tuple(part.strip() for part in filler.split(" / ")) for filler in choices[0]]
        for filling in fillings:
            if len(filling) != slots or not all(filling):
                raise ValueError(
                    f"line {number}: {' / '.join(filling)!r} does not fill the {slots} slot(s) of {frame!r}"
                )
            # A filler that opens a sentence gets a capital.
            text = re.sub(r"(^|[.?!] )([a-z])", lambda m: m[1] + m[2].upper(), frame.format(*filling))
            texts.append(Text(text, *header, frame, filling))
    return tuple(texts)


@cache
def questions() -> tuple[Text, ...]:
    """The questions, in the order of `questions.txt`: the same on every machine."""
    return _read("questions.txt", QUESTION_CLASSES)


@cache
def news() -> tuple[Text, ...]:
    """The news items, in the order of `news.txt`: the same on every machine."""
    return _read("news.txt", NEWS_CLASSES)


def _read(name: str, classes: tuple[str, ...]) -> tuple[Text, ...]:
    return parse(files(__package__).joinpath(name).read_text(encoding="utf-8"), classes)


def frame_tokens(frame: str) -> tuple[str, ...]:
    """The wording of a frame: its words in lower case, its punctuation, and `{}` for each slot; no closing mark."""
    return tuple(re.findall(r"\{\}|[\w'-]+|[^\w\s]", SLOT.sub("{}", frame).lower().rstrip("?. ")))


def wording(frame: str, n: int = 3) -> frozenset[tuple[str, ...]]:
    """Everything a frame could give away: its runs of `n` consecutive tokens.

    Args:
        frame: a wording with slots.
        n: length of a run; a frame of fewer tokens counts as one run.

    Returns:
        The set of runs, e.g. `{("why", "do", "{}")}` for "Why do {}?".
    """
    tokens = frame_tokens(frame)
    return frozenset(tokens[i : i + n] for i in range(max(1, len(tokens) - n + 1)))
