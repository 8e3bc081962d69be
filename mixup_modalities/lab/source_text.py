"""TREC questions and AG News, downloaded or from a local copy; the bundled corpora of `questions` stand in for both."""

import csv
import gzip
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import torch

from mixup_modalities.lab.datasets import DataCard, DataError, Dataset, Source, Split
from mixup_modalities.lab.download import fetch
from mixup_modalities.lab.questions import NEWS_CLASSES, QUESTION_CLASSES, Text, news, questions


@dataclass(frozen=True)
class Original:
    """A file that is known: its sha256 unpacked, and what a card says of it if it is not the official one.

    Attributes:
        sha256: of the unpacked bytes.
        note: how it differs from the official file; empty for the official one.
        lossy: whether its texts differ from the official ones.
    """

    sha256: str
    note: str = ""
    lossy: bool = False


TREC_URL = "https://cogcomp.seas.upenn.edu/Data/QA/QC/"
TREC_NAMES = {
    "train": ("train_5500.label", "train_5500.label.txt", "train.txt"),
    "test": ("TREC_10.label", "TREC_10.label.txt", "test.txt"),
}
STRIPPED = "In this copy the quotation marks and apostrophes of the official files are missing."
TREC_FILES = {
    "train": (
        Original("9e4c8bdcaffb96ed61041bd64b564183d52793a8e91d84fc3a8646885f466ec3"),
        Original("8bd6e79493f43bbd22c364587366a1dced54e1e31259eaa92721a0f526031116", STRIPPED, lossy=True),
    ),
    "test": (
        Original("033f22c028c2bbba9ca682f68ffe204dc1aa6e1cf35dd6207f2d4ca67f0d0e8e"),
        Original("86ad53c8fc9d397ab2f4be7c967d8efb470b260140557d3e57afad69d1b88b76", STRIPPED, lossy=True),
    ),
}
TREC_LICENCE = "none stated"

AG_URL = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv/"
AG_NAMES = {"train": ("train.csv", "train.csv.gz"), "test": ("test.csv", "test.csv.gz")}
PARTIAL = "The training set is a part, 17 %, of the official one: 20,973 of 120,000 rows."
AG_FILES = {
    "train": (
        Original("76a0a2d2f92b286371fe4d4044640910a04a803fdd2538e0f3f29a5c6f6b672e"),
        Original("de9bb06c04ab645aea84eb6be5f24ce0efdc56284df28d835715af449a32126b", PARTIAL),
    ),
    "test": (Original("521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699"),),
}
AG_LICENCE = "research and other non-commercial use"

HOLD_OUT = 12  # every twelfth training text is for validation


def download_trec(folder: Path, progress: bool) -> None:
    """Fetch the two files of TREC into `folder`."""
    _download(TREC_URL, TREC_NAMES, TREC_FILES, folder, progress)


def read_trec(path: Path, progress: bool) -> Dataset:
    """Make the data set from a folder with the two label files; lines `COARSE:fine question`, encoded in latin-1."""
    rows, card_parts = {}, _Parts()
    for part in ("train", "test"):
        data = card_parts.find(path, part, TREC_NAMES, TREC_FILES)
        lines = [line.split(" ", 1) for line in data.decode("latin-1").splitlines() if line.strip()]
        rows[part] = [(QUESTION_CLASSES.index(label.split(":")[0]), text.strip()) for label, text in lines]
    known = {text.lower() for _, text in rows["train"]}
    repeated = len(rows["train"]) - len(known)
    in_both = sum(text.lower() in known for _, text in rows["test"])
    card_parts.notes.append(
        f"{repeated} questions of the training file are repeats, and {in_both} of the {len(rows['test'])} test "
        "questions stand in it too; all are kept, as in published work."
    )
    card = card_parts.card(
        title="TREC question classification",
        source=f"{sum(map(len, rows.values())):,} questions, six coarse classes",
        licence=TREC_LICENCE,
        citation="X. Li and D. Roth, Learning Question Classifiers, COLING 2002",
    )
    return _dataset("trec", rows["train"], rows["test"], QUESTION_CLASSES, card)


def download_ag_news(folder: Path, progress: bool) -> None:
    """Fetch the two files of AG News into `folder`."""
    _download(AG_URL, AG_NAMES, AG_FILES, folder, progress)


def read_ag_news(path: Path, progress: bool) -> Dataset:
    """Make the data set from a folder with `train.csv` and `test.csv`, packed (.gz) or not; rows `class,title,text`."""
    rows, card_parts = {}, _Parts()
    for part in ("train", "test"):
        data = card_parts.find(path, part, AG_NAMES, AG_FILES)
        reader = csv.reader(io.StringIO(data.decode("utf-8"), newline=""))
        rows[part] = [(int(label) - 1, _one_line(" ".join(fields))) for label, *fields in reader]
    card = card_parts.card(
        title="AG News",
        source=f"{sum(map(len, rows.values())):,} news items, title and first sentences, four classes",
        licence=AG_LICENCE,
        citation="X. Zhang, J. Zhao and Y. LeCun, Character-level Convolutional Networks for Text Classification, 2015",
    )
    return _dataset("ag_news", rows["train"], rows["test"], NEWS_CLASSES, card)


def sample_questions() -> Dataset:
    """Return the bundled questions as a stand-in for TREC.

    Of each class, the last two training families are for validation.
    """
    card = DataCard(
        title="questions written for this book, in place of TREC",
        source="mixup_modalities/lab/questions.txt",
        licence="CC0 1.0",
        citation="Mixup Across Modalities",
        notes=(
            "98 families of questions were written by hand, each with its few wordings and lists of what fills them.",
            "A family is in one split alone: train and test share no question, no filler, and no three words in a row.",
            "What they take for granted is true as far as we know; none was copied from TREC, and none occurs there.",
            "Accuracies on it do not compare with those on TREC: whole ways of asking are new at test time.",
        ),
    )
    return _sample("trec", questions(), QUESTION_CLASSES, card, held_out=2)


def sample_news() -> Dataset:
    """Return the bundled news items as a stand-in for AG News.

    Of each class, the last training family is for validation.
    """
    card = DataCard(
        title="invented news written for this book, in place of AG News",
        source="mixup_modalities/lab/news.txt",
        licence="CC0 1.0",
        citation="Mixup Across Modalities",
        notes=(
            "32 families of news were written by hand; each crosses a wording with two lists. All names are invented.",
            "A family is in one split alone: train and test share no item, no filler, and no three words in a row.",
            "Items of one family are much alike: accuracies on it do not compare with those on AG News.",
        ),
    )
    return _sample("ag_news", news(), NEWS_CLASSES, card, held_out=1)


class _Parts:
    """Collects, file by file, what the card has to say."""

    def __init__(self):
        self.checksums: dict[str, str] = {}
        self.notes: list[str] = []
        self.lossy = False

    def find(self, folder: Path, part: str, names: dict, files: dict) -> bytes:
        """Return the unpacked bytes of a file found under any of its names, after checking what it is."""
        path = next((folder / name for name in names[part] if (folder / name).is_file()), None)
        if path is None:
            raise DataError(f"none of {', '.join(names[part])} is in {folder}: the {part} file is needed")
        data = path.read_bytes()
        if path.suffix == ".gz":
            try:
                data = gzip.decompress(data)
            except (OSError, EOFError) as error:
                raise DataError(f"{path} is damaged: {error}") from error
        digest = hashlib.sha256(data).hexdigest()
        original = next((each for each in files[part] if each.sha256 == digest), None)
        if original is None:
            expected = " or ".join(each.sha256 for each in files[part])
            raise DataError(
                f"{path} ({len(data):,} bytes unpacked) is no known copy: expected sha256 {expected}, got {digest}"
            )
        self.checksums[names[part][0]] = f"sha256:{digest}"
        self.lossy |= original.lossy
        if original.note and original.note not in self.notes:
            self.notes.append(original.note)
        return data

    def card(self, **fields: str) -> DataCard:
        """Return the card, ending with the note on validation."""
        self.notes.append(f"Validation is every {HOLD_OUT}th of the training texts.")
        return DataCard(**fields, checksums=self.checksums, lossy=self.lossy, notes=tuple(self.notes))


def _download(url: str, names: dict, files: dict, folder: Path, progress: bool) -> None:
    for part, (name, *_) in names.items():
        fetch(url + name, folder / name, f"sha256:{files[part][0].sha256}", progress=progress)


def _one_line(text: str) -> str:
    """In these files a backslash stands for a line break."""
    return " ".join(text.replace("\\", " ").split())


def _split(rows: list[tuple[int, str]]) -> Split:
    return Split(tuple(text for _, text in rows), torch.tensor([label for label, _ in rows], dtype=torch.int64))


def _dataset(name: str, train: list, test: list, classes: tuple[str, ...], card: DataCard) -> Dataset:
    kept = [row for i, row in enumerate(train) if i % HOLD_OUT != HOLD_OUT - 1]
    return Dataset(name, _split(kept), _split(train[HOLD_OUT - 1 :: HOLD_OUT]), _split(test), classes, card)


def _sample(name: str, texts: tuple[Text, ...], classes: tuple[str, ...], card: DataCard, held_out: int) -> Dataset:
    validation = set()
    for label in classes:
        families = list(dict.fromkeys(t.family for t in texts if t.label == label and t.split == "train"))
        validation |= set(families[-held_out:])
    rows = {"train": [], "validation": [], "test": []}
    for at in torch.randperm(len(texts), generator=torch.Generator().manual_seed(0)).tolist():  # the file is sorted
        t = texts[at]
        rows["validation" if t.family in validation else t.split].append((classes.index(t.label), t.text))
    return Dataset(
        name, **{part: _split(each) for part, each in rows.items()}, classes=classes, card=card, is_sample=True
    )


SOURCES = (
    Source(
        *("trec", "TREC question classification", "text", TREC_LICENCE),
        *(download_trec, read_trec, sample_questions),
        download_bytes=359_212,
    ),
    Source(
        *("ag_news", "AG News", "text", AG_LICENCE),
        *(download_ag_news, read_ag_news, sample_news),
        download_bytes=31_330_000,
    ),
)
