"""Speech Commands from archives and folders: the official split, splits of a copy's own, and faulty files by name."""

import gzip
import hashlib
import io
import tarfile

import numpy as np
import pytest
import soundfile
import torch
from local_server import serve

from mixup_modalities.lab import source_speech_commands as source
from mixup_modalities.lab.datasets import DataError, load, prepare
from mixup_modalities.lab.source_speech_commands import CLASSES, official_split

# Three speakers of each split by the official rule, found by trying numbers.
SPEAKERS = {split: [] for split in source.SPLITS}
for number in range(200):
    SPEAKERS[official_split(f"{number:08x}_nohash_0.wav")].append(f"{number:08x}")
WORDS = ("yes", "no", "go", "cat")


def sound(seed, samples=16_000, rate=16_000, channels=1, form="WAV"):
    values = np.random.default_rng(seed).integers(-3000, 3000, (samples, channels), np.int16)
    file = io.BytesIO()
    soundfile.write(file, values, rate, format=form, subtype="PCM_16")
    return file.getvalue()


@pytest.fixture(scope="module")
def clips():
    """name -> bytes: two clips of each word by two speakers of each split."""
    made = {}
    for word in WORDS:
        for speakers in SPEAKERS.values():
            for take, speaker in enumerate(speakers[:2]):
                made[f"{word}/{speaker}_nohash_{take}.wav"] = sound(len(made))
    return made


def folder_of(files, folder):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def tar_of(files, path, mode):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def read(path, name="speech_commands"):
    return source.read(name, path, False)


def test_the_rule_is_the_official_one():
    listed = {
        "testing": ["right/bb05582b_nohash_3.wav", "sheila/f0ae7203_nohash_1.wav"],
        "validation": ["right/a69b9b3e_nohash_0.wav", "one/32ad5b65_nohash_3.wav"],
    }  # from the official lists
    for split, files in listed.items():
        assert all(official_split(file) == split for file in files)
    shares = [len(SPEAKERS[split]) / 200 for split in source.SPLITS]
    assert 0.7 < shares[0] < 0.9 and all(0.03 < share < 0.2 for share in shares[1:])


def test_a_folder_is_split_by_the_rule(clips, tmp_path):
    data = read(folder_of(clips, tmp_path / "copy"))
    assert data.classes == CLASSES["speech_commands"]
    for split, name in source.SPLITS.items():
        part = data.splits[name]
        assert part.x.shape == (6, 16_000) and part.x.dtype == torch.int16
        assert set(part.extra["speaker"].tolist()) == {int(s, 16) for s in SPEAKERS[split][:2]}
        assert sorted(part.y.tolist()) == sorted([data.classes.index(w) for w in ("yes", "no", "go")] * 2)
    expected = soundfile.read(io.BytesIO(clips[f"yes/{SPEAKERS['testing'][0]}_nohash_0.wav"]), dtype="int16")[0]
    row = (data.test.y == 0) & (data.test.extra["speaker"] == int(SPEAKERS["testing"][0], 16))
    assert torch.equal(data.test.x[row][0], torch.from_numpy(expected))
    assert "subset" in data.card.title and "No speaker is in two splits." in data.card.notes


def test_all_words(clips, tmp_path):
    data = read(folder_of(clips, tmp_path / "copy"), "speech_commands_35")
    assert len(data.train) == 8 and len(data.classes) == 35
    assert data.classes[:10] == CLASSES["speech_commands"]


@pytest.mark.parametrize("form", ["tar", "tar.gz", "tar.xz", "below", "torchaudio", "flac"])
def test_equal_copies_give_equal_data(clips, tmp_path, form):
    plain = read(folder_of(clips, tmp_path / "plain"))
    path = tmp_path / "copies"
    path.mkdir()
    if form.startswith("tar"):
        files = {f"./{name}": data for name, data in reversed(clips.items())} | {"README.md": b"hello"}
        tar_of(files, path / f"speech_commands_v0.02.{form}", "w" + form.removeprefix("tar").replace(".", ":"))
    elif form == "flac":
        for number, name in enumerate(clips):
            folder_of({f"speech_commands_v0.02/{name[:-4]}.flac": sound(number, form="FLAC")}, path)
    else:
        folder_of(clips, path / ("SpeechCommands" if form == "torchaudio" else "") / "speech_commands_v0.02")
    copy = read(path)
    assert copy.card == plain.card
    for name, split in plain.splits.items():
        other = copy.splits[name]
        assert torch.equal(split.x, other.x) and torch.equal(split.y, other.y)
        assert torch.equal(split.extra["speaker"], other.extra["speaker"])


@pytest.mark.parametrize("place", ["inside", "beside", "lists", "packed"])
def test_lists_of_a_subset_count_more_than_the_rule(clips, tmp_path, place):
    copy = folder_of(clips, tmp_path / "speech_commands_v0.02")
    names = [name for name in clips if not name.startswith("cat")]
    parts = {"testing": names[:3], "training": names[3:9], "validation": names[9:11]}  # and the rest in no list
    where = {"inside": copy, "beside": tmp_path, "lists": tmp_path / "speech_commands_v0.02_lists", "packed": copy}[
        place
    ]
    where.mkdir(exist_ok=True)
    for split, listed in parts.items():
        data = "\n".join(listed).encode() + b"\n"
        name = f"subset_{split}_list.txt"
        (where / (f"{name}.gz" if place == "packed" else name)).write_bytes(
            gzip.compress(data) if place == "packed" else data
        )
    (where / "testing_list.txt").write_text("\n".join(names[5:7]))
    data = read(tmp_path)
    assert [len(split) for split in data.splits.values()] == [6, 2, 3]
    assert any("not the official one" in note for note in data.card.notes)
    assert "A speaker is in two splits." in data.card.notes


def test_without_a_training_list_the_rest_is_for_training(clips, tmp_path):
    names = [name for name in clips if not name.startswith("cat")]
    lists = {"testing_list.txt": "\n".join(names[:4]).encode(), "validation_list.txt": "\n".join(names[4:9]).encode()}
    path = tar_of(clips | lists, tmp_path / "copy.tar", "w")
    assert [len(split) for split in read(path).splits.values()] == [9, 5, 4]


def test_shorter_clips_are_padded_and_said_to_be(clips, tmp_path):
    name = f"yes/{SPEAKERS['training'][0]}_nohash_0.wav"
    data = read(folder_of(clips | {name: sound(0, samples=9_000)}, tmp_path / "copy"))
    row = data.train.lengths.argmin()
    assert data.train.lengths[row] == 9_000 and (data.train.lengths == 16_000).sum() == 5
    assert (data.train.x[row, 9_000:] == 0).all() and data.train.x[row, 8_990:9_000].any()
    assert any(note.startswith("1 clips are shorter") for note in data.card.notes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"RIFF nothing", "unreadable"),
        (sound(0, rate=8_000), "8,000 samples a second"),
        (sound(0, samples=100), "100 samples"),
        (sound(0, samples=16_001), "16,001 samples"),
        (sound(0, channels=2), "2 channels"),
    ],
)
def test_faulty_files_are_named(clips, tmp_path, data, message):
    bad = [f"yes/{SPEAKERS['training'][0]}_nohash_0.wav", f"no/{SPEAKERS['testing'][1]}_nohash_1.wav"]
    files = clips | dict.fromkeys(bad, data)
    for path in (folder_of(files, tmp_path / "copy"), tar_of(files, tmp_path / "copy.tar", "w")):
        with pytest.raises(DataError, match=message) as error:
            read(path)
        assert all(name[:-4] in str(error.value) for name in bad) and "2 clips" in str(error.value)


def test_missing_files_are_named(clips, tmp_path):
    copy = folder_of(clips, tmp_path / "copy")
    (copy / "testing_list.txt").write_text(f"{next(iter(clips))}\nyes/00000abc_nohash_3.wav\nbed/0_nohash_0.wav\n")
    with pytest.raises(DataError, match=r"1 clips .* yes/00000abc_nohash_3 is in the list for testing, but missing"):
        read(copy)


def test_contradicting_lists_are_refused(clips, tmp_path):
    copy, name = folder_of(clips, tmp_path / "copy"), next(iter(clips))
    for split in ("testing", "validation"):
        (copy / f"{split}_list.txt").write_text(name)
    with pytest.raises(DataError, match="is in the lists for validation and for testing"):
        read(copy)


@pytest.mark.parametrize("kind", ["nothing", "other", "one split", "torn tar", "torn list"])
def test_what_is_no_copy_is_refused(clips, tmp_path, kind):
    path = tmp_path / "copy"
    path.mkdir()
    if kind == "other":
        folder_of({"yes/hello.mp3": b"x"}, path)
    elif kind == "one split":
        folder_of({name: data for name, data in clips.items() if SPEAKERS["training"][0] in name}, path)
    elif kind == "torn tar":
        file = tar_of(clips, path / "speech_commands_v0.02.tar.gz", "w:gz")
        file.write_bytes(file.read_bytes()[:20_000])
    elif kind == "torn list":
        folder_of(clips | {"testing_list.txt.gz": gzip.compress(b"yes/a_nohash_0.wav" * 99)[:-9]}, path)
    message = {"nothing": "holds neither", "other": "no clips", "one split": "no clips for", "torn tar": "damaged"}
    with pytest.raises(DataError, match=message.get(kind, "testing_list.txt.gz is damaged")):
        read(path)


def test_prepare_and_load(clips, tmp_path):
    prepare("speech_commands", source=folder_of(clips, tmp_path / "copy"), root=tmp_path, progress=False)
    data = load("speech_commands", root=tmp_path)
    assert not data.is_sample and len(data.train) == 6 and data.train.lengths.tolist() == [16_000] * 6


def test_download_of_the_official_archive(clips, tmp_path, monkeypatch):
    """Only the connection goes elsewhere: the checksum, a cut in the middle, and the file's name are real."""
    path = tar_of(clips, tmp_path / "made.tar.gz", "w:gz")
    data = path.read_bytes()
    monkeypatch.delenv("MIXUP_OFFLINE")
    with serve({"speech_commands_v0.02.tar.gz": data}) as server:
        monkeypatch.setattr(source, "URL", server.url_of("speech_commands_v0.02.tar.gz"))
        with pytest.raises(DataError, match="sha256"):
            prepare("speech_commands", root=tmp_path, progress=False)
        monkeypatch.setattr(source, "SHA256", hashlib.sha256(data).hexdigest())
        server.cuts = [len(data) // 2]
        prepare("speech_commands", root=tmp_path, progress=False)
        assert server.requests[-1][1], "it started again from the beginning"
    assert len(load("speech_commands", root=tmp_path).train) == 6


def test_the_sample():
    data = load("speech_commands", sample=True)
    again = load("speech_commands", sample=True)
    assert data.is_sample and data.card.sha256 == again.card.sha256
    assert data.classes == CLASSES["speech_commands"]
    speakers = [set(split.extra["speaker"].tolist()) for split in data.splits.values()]
    assert len(set.union(*speakers)) == sum(map(len, speakers)), "a speaker is in two splits"
    assert all(split.y.bincount(minlength=10).min() >= 15 for split in data.splits.values())
