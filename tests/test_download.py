"""Downloads against a server on this machine that cuts connections, ignores ranges and serves wrong bytes."""

import hashlib
import random

import pytest
from local_server import serve

from mixup_modalities.lab.download import checksum, fetch, verify
from mixup_modalities.lab.storage import DataError, Interrupted

DATA = random.Random(0).randbytes(700_000)
MD5 = "md5:" + hashlib.md5(DATA).hexdigest()


@pytest.fixture(autouse=True)
def network(monkeypatch):
    monkeypatch.delenv("MIXUP_OFFLINE")


@pytest.fixture
def server():
    with serve({"a.bin": DATA}) as running:
        yield running


def get(server, target, expected=MD5, **settings):
    return fetch(server.url_of(target.name), target, expected, progress=False, pause=0.0, **settings)


def test_a_file_arrives_whole_and_alone(server, tmp_path):
    path = get(server, tmp_path / "a.bin")
    assert path.read_bytes() == DATA
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_checksums_agree_with_hashlib(tmp_path, algorithm):
    path = tmp_path / "a.bin"
    path.write_bytes(DATA)
    assert checksum(path, algorithm) == hashlib.new(algorithm, DATA).hexdigest()
    verify(path, f"{algorithm}:{hashlib.new(algorithm, DATA).hexdigest()}")


def test_a_cut_connection_is_continued_where_it_broke(server, tmp_path):
    server.cuts = [100_000, 250_000]
    assert get(server, tmp_path / "a.bin").read_bytes() == DATA
    assert [wanted for _, wanted in server.requests] == [None, "bytes=100000-", "bytes=350000-"]


def test_more_breaks_than_attempts_are_fine_while_each_brings_something(server, tmp_path):
    server.cuts = [50_000] * 10
    assert get(server, tmp_path / "a.bin", attempts=2).read_bytes() == DATA


def test_a_server_without_ranges_is_asked_for_everything_again(server, tmp_path):
    server.cuts, server.ignore_ranges = [100_000], True
    assert get(server, tmp_path / "a.bin").read_bytes() == DATA


def test_a_connection_that_always_breaks_keeps_what_arrived_and_a_later_call_goes_on(server, tmp_path):
    server.cuts = [100_000] + [0] * 5
    with pytest.raises(Interrupted, match="100,000 bytes arrived") as caught:
        get(server, tmp_path / "a.bin", attempts=5)
    assert hashlib.md5(DATA[:100_000]).hexdigest() in str(caught.value)
    assert hashlib.md5(DATA).hexdigest() in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin.part"]
    server.requests.clear()
    assert get(server, tmp_path / "a.bin").read_bytes() == DATA
    assert server.requests == [("a.bin", "bytes=100000-")]


def test_a_part_of_another_file_is_thrown_away(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    assert get(server, tmp_path / "a.bin").read_bytes() == DATA


def test_a_part_that_is_too_long_is_thrown_away(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(DATA + b"x")
    assert get(server, tmp_path / "a.bin").read_bytes() == DATA


def test_a_part_that_is_complete_is_not_fetched_again(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(DATA)
    assert get(server, tmp_path / "a.bin").read_bytes() == DATA
    assert server.requests == [("a.bin", f"bytes={len(DATA)}-")]


@pytest.mark.parametrize("wrong", [DATA[:-1], DATA[:-1] + b"!", b"<html>not here</html>", b""])
def test_wrong_bytes_are_refused_with_both_checksums_and_leave_nothing(server, tmp_path, wrong):
    server.files["a.bin"] = wrong
    with pytest.raises(DataError) as caught:
        get(server, tmp_path / "a.bin")
    message = str(caught.value)
    assert "a.bin" in message
    assert hashlib.md5(DATA).hexdigest() in message
    assert hashlib.md5(wrong).hexdigest() in message
    assert list(tmp_path.iterdir()) == []


def test_the_next_mirror_is_tried(server, tmp_path):
    server.files["bad/a.bin"] = b"wrong"
    urls = ["http://127.0.0.1:1/a.bin", server.url_of("none/a.bin"), server.url_of("bad/a.bin"), server.url_of("a.bin")]
    assert fetch(urls, tmp_path / "a.bin", MD5, progress=False, pause=0.0).read_bytes() == DATA


def test_a_missing_file_is_named_and_leaves_nothing(server, tmp_path):
    with pytest.raises(DataError, match=r"b\.bin could not be downloaded .*404.*--from PATH"):
        get(server, tmp_path / "b.bin")
    assert list(tmp_path.iterdir()) == []


def test_no_server_at_all(tmp_path):
    with pytest.raises(DataError, match="refused"):
        fetch("http://127.0.0.1:1/a.bin", tmp_path / "a.bin", MD5, progress=False, pause=0.0)


def test_offline_asks_nobody(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MIXUP_OFFLINE", "1")
    with pytest.raises(DataError, match="MIXUP_OFFLINE"):
        get(server, tmp_path / "a.bin")
    assert server.requests == []
