"""Speech Commands v0.02: the official archive, or a copy of (part of) it as a folder or tar of `<word>/<file>`.

Two data sets are made of it: `speech_commands`, the ten command words that most published baselines use, and
`speech_commands_35`, all words. Who speaks is in the file's name, and no speaker stands in two splits: the official
split is a function of that name.
"""

import gzip
import hashlib
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mixup_modalities.lab.datasets import DataCard, DataError, Dataset, Source, Split
from mixup_modalities.lab.download import fetch, progress_bar
from mixup_modalities.lab.synth import WORDS, spoken_words

URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
SHA256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
BYTES = 2_428_923_189
LICENCE = "CC BY 4.0"
CITATION = "P. Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, 2018, arXiv:1804.03209"
FOLDER = "speech_commands_v0.02"
SAMPLE_RATE, SAMPLES = 16_000, 16_000  # of every clip: one second
SHORTEST = 512  # samples: below, there is not even one frame of a spectrogram
OTHERS = """backward bed bird cat dog eight five follow forward four happy house learn marvin nine one seven sheila six
three tree two visual wow zero"""
TEN = tuple(WORDS)  # the offline sample speaks the same ten
CLASSES = {"speech_commands": TEN, "speech_commands_35": (*TEN, *OTHERS.split())}
OFFICIAL_COUNTS = {"speech_commands": 38_546, "speech_commands_35": 105_829}
LIST = re.compile(r"(subset_)?(training|validation|testing)_list\.txt(\.gz)?")
SPLITS = {"training": "train", "validation": "validation", "testing": "test"}


def download(folder: Path, progress: bool) -> None:
    """Fetch the official archive into `folder`."""
    fetch(URL, folder / f"{FOLDER}.tar.gz", f"sha256:{SHA256}", progress=progress)


def read(name: str, path: Path, progress: bool) -> Dataset:
    """Make the data set from the official archive or a copy of it.

    Args:
        name: "speech_commands" or "speech_commands_35".
        path: a tar file (.tar, .tar.gz, .tar.xz) or a folder of `<word>/<speaker>_nohash_<n>.wav` or `.flac`, or a
            folder that holds one named `speech_commands_v0.02`. Lists of the splits (`training_list.txt`,
            `validation_list.txt`, `testing_list.txt`, or such names after `subset_`, packed or not) are taken from
            inside, from beside it, or from the folder `speech_commands_v0.02_lists` beside it. Clips in no list are
            for training, unless there is a training list; without lists the official rule splits.
        progress: show a progress bar.

    Returns:
        The data set: int16 clips of one second, shorter ones with zeros at the end; `lengths`, `extra["speaker"]`.

    Raises:
        DataError: clips are missing, unreadable, empty, too short, too long, stereo or of another rate: all are named.
    """
    audio = _find(path)
    lists = _lists_beside(audio)
    listed = {key for split in lists.values() for key in split} if "training" in lists else None

    def wanted(member: str) -> bool:
        *_, word, file = ("", *member.split("/"))
        if LIST.fullmatch(file):
            return not lists
        clip = word in CLASSES[name] and re.fullmatch(r"[0-9a-f]+_nohash_\d+\.(wav|flac)", file)
        return bool(clip) and (listed is None or _key(member) in listed)

    clips, faults, inside, digest = {}, {}, {}, hashlib.sha256()
    files = _files(audio, wanted) if audio.is_dir() else _members(audio, wanted)
    for member, data in progress_bar(files, desc=audio.name, unit=" files", progress=progress):
        if match := LIST.fullmatch(member.rpartition("/")[2]):
            inside[match[2]] = _lines(member, data)
            continue
        try:
            clips[_key(member)] = _decode(data)
        except ValueError as error:
            faults[_key(member)] = str(error)
    assigned = _assign(clips, lists or inside, name, faults)
    if faults:
        named = "; ".join(f"{key} {fault}" for key, fault in sorted(faults.items())[:20])
        more = f"; and {len(faults) - 20:,} more" if len(faults) > 20 else ""
        raise DataError(f"{len(faults):,} clips of {audio} cannot be used: {named}{more}")
    if not clips:
        raise DataError(f"{audio} holds no clips <word>/<speaker>_nohash_<n>.wav of the words {', '.join(TEN)}")

    splits, padded = {}, 0
    for split in SPLITS:
        keys = sorted(key for key in clips if assigned[key] == split)
        if not keys:
            raise DataError(f"{audio} has no clips for {split}: its lists of the splits do not fit it")
        x, lengths = np.zeros((len(keys), SAMPLES), np.int16), torch.tensor([len(clips[key]) for key in keys])
        for row, key in enumerate(keys):
            samples = clips.pop(key)
            digest.update(f"{split} {key}\n".encode() + hashlib.sha256(samples.tobytes()).digest())
            x[row, : len(samples)] = samples
        padded += int((lengths < SAMPLES).sum())
        speaker = torch.tensor([int(re.search(r"/([0-9a-f]+)_", key)[1], 16) for key in keys])
        y = torch.tensor([CLASSES[name].index(key.split("/")[0]) for key in keys])
        splits[SPLITS[split]] = Split(torch.from_numpy(x), y, lengths, {"speaker": speaker})
    speakers = [set(split.extra["speaker"].tolist()) for split in splits.values()]
    disjoint = len(set.union(*speakers)) == sum(map(len, speakers))
    card = _card(name, sum(map(len, splits.values())), listed is not None, disjoint, padded, digest.hexdigest())
    return Dataset(name, **splits, classes=CLASSES[name], card=card)


def official_split(file: str) -> str:
    """Return "training", "validation" or "testing" for a file's name, by the rule of the data set's README.

    The SHA-1 of what stands before `_nohash_`, taken as a number from 0 to 100, is below 10 for validation and below 20
    for testing: all clips of a speaker fall into one split, and stay there when clips are added.
    """
    speaker = re.sub(r"_nohash_.*$", "", file.rpartition("/")[2])
    largest = 2**27 - 1
    percentage = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (largest + 1) * (100 / largest)
    return "validation" if percentage < 10 else "testing" if percentage < 20 else "training"


def sample(name: str) -> Dataset:
    """Synthesise the offline sample: 1,000, 150 and 300 clips of ten words by 80, 15 and 40 speakers."""
    generator, splits, first = torch.Generator().manual_seed(1980), {}, 0
    for split, clips, speakers in (("train", 1000, 80), ("validation", 150, 15), ("test", 300, 40)):
        said = spoken_words(clips, speakers, generator)
        lengths = torch.full((clips,), SAMPLES)
        splits[split] = Split(said.waveforms, said.labels, lengths, {"speaker": first + said.speakers})
        first += speakers
    card = DataCard(
        title="synthesised spoken words, in place of Speech Commands",
        source="made by this package's formant synthesiser",
        licence="CC0 1.0",
        notes=("No one spoke these words: accuracies on them do not compare with those on Speech Commands.",),
    )
    return Dataset(name, **splits, classes=TEN, card=card, is_sample=True)


def _find(path: Path) -> Path:
    """Return the tar file, or the folder of word folders, that `path` is or holds."""
    if path.is_file():
        return path
    for folder in (path, path / FOLDER, path / "SpeechCommands" / FOLDER):
        if any((folder / word).is_dir() for word in TEN):
            return folder
    for suffix in (".tar.gz", ".tgz", ".tar.xz", ".tar"):
        if (path / f"{FOLDER}{suffix}").is_file():
            return path / f"{FOLDER}{suffix}"
    raise DataError(f"{path} holds neither word folders such as {path / 'yes'}, nor {FOLDER} as a folder or tar file")


def _lists_beside(audio: Path) -> dict[str, list[str]]:
    """Return the clips of each split that has a list; lists of a subset count more than the official ones."""
    places = ([audio] if audio.is_dir() else []) + [audio.parent, audio.parent / f"{FOLDER}_lists"]
    found: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
    for file in (file for place in places if place.is_dir() for file in sorted(place.iterdir())):
        if match := LIST.fullmatch(file.name):
            found[bool(match[1])].setdefault(match[2], _lines(file.name, file.read_bytes()))
    return found[True] or found[False]


def _lines(name: str, data: bytes) -> list[str]:
    try:
        text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{name} is damaged ({error})") from error
    return [_key(line) for line in text.split()]


def _key(path: str) -> str:
    """`yes/0a_nohash_0` for `.../yes/0a_nohash_0.wav`: copies may lie deeper and be of another format."""
    return "/".join(path.rpartition(".")[0].split("/")[-2:])


def _assign(clips: dict, lists: dict[str, list[str]], name: str, faults: dict[str, str]) -> dict[str, str]:
    """Return the split of each clip, and add to `faults` what a list names and nobody found."""
    assigned: dict[str, str] = {}
    for split in SPLITS:
        for key in lists.get(split, []):
            if key.split("/")[0] not in CLASSES[name]:
                continue
            if assigned.setdefault(key, split) != split:
                faults[key] = f"is in the lists for {assigned[key]} and for {split}"
            elif key not in clips:
                faults.setdefault(key, f"is in the list for {split}, but missing")
    return {key: "training" if lists else official_split(key) for key in clips} | assigned


def _files(folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    for path in sorted([*folder.glob("*.txt"), *folder.glob("*/*")]):
        if wanted(name := path.relative_to(folder).as_posix()):
            yield name, path.read_bytes()


def _members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Give the name and the bytes of each wanted file in a tar; nothing is unpacked to disk."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and wanted(member.name):
                    yield member.name, archive.extractfile(member).read()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise DataError(f"{path} is damaged or no tar file ({error})") from error


def _decode(data: bytes) -> np.ndarray:
    """Return int16 samples `(n,)`; a ValueError says what is wrong with them."""
    import soundfile

    if not data:
        raise ValueError("is an empty file")
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError("is unreadable") from error
    if rate != SAMPLE_RATE:
        raise ValueError(f"has {rate:,} samples a second, expected {SAMPLE_RATE:,}")
    if samples.shape[1] != 1:
        raise ValueError(f"has {samples.shape[1]} channels, expected 1")
    if not SHORTEST <= len(samples) <= SAMPLES:
        raise ValueError(f"has {len(samples):,} samples, expected {SHORTEST:,} to {SAMPLES:,}")
    return samples[:, 0]


def _card(name: str, count: int, listed: bool, disjoint: bool, padded: int, digest: str) -> DataCard:
    words = f"{len(CLASSES[name])} words"
    complete = count == OFFICIAL_COUNTS[name] and not listed
    notes = [f"{padded:,} clips are shorter than one second; zeros fill them up, `lengths` keeps their end."]
    if listed:
        notes.append("The split is the copy's own, not the official one.")
    notes.append(f"{'No' if disjoint else 'A'} speaker is in two splits.")
    if not complete:
        total = OFFICIAL_COUNTS[name]
        notes.insert(0, f"{count:,} of the {total:,} clips: accuracies do not compare with published ones.")
    return DataCard(
        title=f"Speech Commands v0.02, {words}" if complete else f"Speech Commands subset, {words}",
        source="the official archive" if complete else f"a copy of {count:,} clips of the official archive",
        licence=LICENCE,
        citation=CITATION,
        checksums={"samples": f"sha256:{digest}"},
        notes=tuple(notes),
    )


SOURCES = [
    Source(
        name,
        f"Speech Commands v0.02, {len(classes)} words",
        "audio",
        LICENCE,
        download,
        partial(read, name),
        partial(sample, name),
        download_bytes=BYTES,
        resumable=True,
    )
    for name, classes in CLASSES.items()
]
