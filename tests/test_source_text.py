"""TREC and AG News: every form of the originals gives the same file; unknown or damaged ones are refused by name."""

import gzip
import hashlib
from pathlib import Path

import pytest
from local_server import serve

from mixup_modalities.lab import source_text
from mixup_modalities.lab.datasets import DataError, load, prepare
from mixup_modalities.lab.questions import NEWS_CLASSES, QUESTION_CLASSES
from mixup_modalities.lab.source_text import Original

TREC = {
    "train_5500.label": "".join(
        f"{label}:fine What is number {i} ?\n" for i, label in enumerate([*QUESTION_CLASSES] * 4)
    ).encode()
    + "LOC:city Which sister\xf0city ?\nNUM:count WHAT IS NUMBER 5 ?\n".encode("latin-1"),
    "TREC_10.label": b"NUM:count How far ?\nLOC:city what is number 3 ?\n",
}
AG = {
    "train.csv": "".join(f'"{i % 4 + 1}","Title {i}","Line one\\line ""two"", café"\n' for i in range(24)).encode(),
    "test.csv": b'"4","A title","Its text"\n"1","Other","More"\n',
}
SETS = {
    "trec": (TREC, "TREC_FILES", "TREC_URL"),
    "ag_news": (AG, "AG_FILES", "AG_URL"),
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def small_originals(monkeypatch):
    for files, constant, _ in SETS.values():
        train, test = files.values()
        monkeypatch.setattr(
            source_text, constant, {"train": (Original(sha256(train)),), "test": (Original(sha256(test)),)}
        )


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("name", SETS)
def test_download_and_local_copies_give_the_same_file(name, tmp_path, monkeypatch):
    files, _, url = SETS[name]
    copies = [write(tmp_path / "plain", files)]
    if name == "ag_news":
        copies.append(write(tmp_path / "gz", {f"{k}.gz": gzip.compress(v) for k, v in files.items()}))
    else:
        copies.append(write(tmp_path / "renamed", dict(zip(("train.txt", "test.txt"), files.values()))))
    made = [prepare(name, root=tmp_path / "r", source=copy).read_bytes() for copy in copies]
    monkeypatch.delenv("MIXUP_OFFLINE")
    with serve(dict(files)) as server:
        monkeypatch.setattr(source_text, url, server.url)
        made.append(prepare(name, root=tmp_path / "d", progress=False).read_bytes())
    assert len(set(made)) == 1


def test_trec_is_read(tmp_path):
    prepare("trec", root=tmp_path, source=write(tmp_path / "in", TREC))
    data = load("trec", root=tmp_path)
    # 26 lines; the 12th and the 24th are for validation.
    assert [len(split) for split in data.splits.values()] == [24, 2, 2]
    assert data.classes == QUESTION_CLASSES
    assert data.validation.x == ("What is number 11 ?", "What is number 23 ?")
    assert data.validation.y.tolist() == [5, 5]
    assert data.train.x[-2:] == ("Which sister\xf0city ?", "WHAT IS NUMBER 5 ?")
    assert data.test.y.tolist() == [5, 4]
    assert "1 questions of the training file are repeats, and 1 of the 2 test questions" in data.card.notes[0]
    assert not data.card.lossy and not data.is_sample


def test_ag_news_is_read(tmp_path):
    prepare("ag_news", root=tmp_path, source=write(tmp_path / "in", AG))
    data = load("ag_news", root=tmp_path)
    assert [len(split) for split in data.splits.values()] == [22, 2, 2]
    assert data.classes == NEWS_CLASSES
    assert data.train.x[0] == 'Title 0 Line one line "two", café'
    assert data.test.x == ("A title Its text", "Other More")
    assert data.test.y.tolist() == [3, 0]


def test_a_known_copy_that_differs_says_how(tmp_path, monkeypatch):
    train, test = TREC.values()
    stripped = Original(sha256(train), "Quotes are missing.", lossy=True)
    monkeypatch.setattr(source_text, "TREC_FILES", {"train": (stripped,), "test": (Original(sha256(test)),)})
    prepare("trec", root=tmp_path, source=write(tmp_path / "in", TREC))
    card = load("trec", root=tmp_path).card
    assert card.lossy and "Quotes are missing." in card.notes


@pytest.mark.parametrize("name", SETS)
def test_wrong_files_are_refused(name, tmp_path):
    files, *_ = SETS[name]
    first, second = files
    with pytest.raises(DataError, match=rf"{first}.* is in .*: the train file is needed"):
        prepare(name, root=tmp_path, source=write(tmp_path / "a", {second: files[second]}))
    with pytest.raises(DataError, match=rf"{second} .*no known copy: expected sha256 {sha256(files[second])}, got"):
        prepare(name, root=tmp_path, source=write(tmp_path / "b", files | {second: files[second][:-1]}))
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_damaged_archive_is_named(tmp_path):
    files = {f"{k}.gz": gzip.compress(v)[:-6] for k, v in AG.items()}
    with pytest.raises(DataError, match=r"train\.csv\.gz is damaged"):
        prepare("ag_news", root=tmp_path, source=write(tmp_path / "in", files))


@pytest.mark.parametrize("name", SETS)
def test_samples_are_mixed_and_their_validation_holds_out_whole_families(name):
    data = load(name, sample=True)
    for split in data.splits.values():
        first = split.y[:60].unique()
        assert len(first) == len(data.classes)  # not sorted by class: a subset is a fair one
    corpus = {t.text: t for t in (source_text.questions() if name == "trec" else source_text.news())}
    families = [{corpus[text].family for text in split.x} for split in data.splits.values()]
    assert not families[0] & families[1] and not families[0] & families[2] and not families[1] & families[2]
