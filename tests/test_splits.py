"""Split, DataCard, Dataset: rows stay together, texts and waveforms survive being packed, the box says which data."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixup_modalities.lab.splits import DataCard, Dataset, Split, concatenate, pack, unpack


def images(rows=6):
    x = torch.arange(rows * 12, dtype=torch.uint8).view(rows, 3, 2, 2)
    return Split(x, torch.arange(rows), extra={"coarse": torch.arange(rows) // 2})


def waves(rows=6):
    x = torch.arange(rows * 5, dtype=torch.int16).view(rows, 5) - 7
    return Split(x, torch.arange(rows), lengths=torch.arange(rows))


def texts(rows=6):
    return Split([f"Où est l'élève n° {i}? 猫" * i for i in range(rows)], torch.arange(rows))


KINDS = pytest.mark.parametrize("make", [images, waves, texts])


def same(a: Split, b: Split):
    assert repr(a) == repr(b)
    assert a.x == b.x if a.is_text else torch.equal(a.x, b.x)
    assert torch.equal(a.y, b.y)
    assert (a.lengths is None) == (b.lengths is None)
    assert a.lengths is None or torch.equal(a.lengths, b.lengths)
    assert a.extra.keys() == b.extra.keys()
    assert all(torch.equal(a.extra[key], b.extra[key]) for key in a.extra)


@KINDS
def test_take_keeps_rows_together(make):
    split = make()
    taken = split.take(torch.tensor([4, 0, 4, -1]))
    for row, source in enumerate([4, 0, 4, 5]):
        assert taken.x[row] == split.x[source] if split.is_text else torch.equal(taken.x[row], split.x[source])
        assert taken.y[row] == split.y[source]
        assert split.lengths is None or taken.lengths[row] == split.lengths[source]
        assert all(taken.extra[key][row] == split.extra[key][source] for key in split.extra)


@KINDS
@pytest.mark.parametrize("indices", [[4, 0], slice(1, None, 2), range(3), torch.tensor([2], dtype=torch.int32), []])
def test_take_accepts_what_indexing_does(make, indices):
    expected = torch.arange(6)[list(indices) if isinstance(indices, range | list) else indices]
    assert torch.equal(make().take(indices).y, expected)


@KINDS
@pytest.mark.parametrize("indices", [[6], [-7]])
def test_take_refuses_rows_that_are_not_there(make, indices):
    with pytest.raises(IndexError):
        make().take(indices)


@pytest.mark.parametrize("indices", [torch.ones(6, dtype=torch.bool), torch.zeros(2), torch.zeros(1, 2).long()])
def test_take_refuses_what_are_no_indices(indices):
    with pytest.raises(ValueError, match="indices must be integers"):
        images().take(indices)


@KINDS
def test_a_split_moves_as_a_whole(make, device):
    moved = make().to(device)
    assert moved.device.type == device.type
    assert moved.is_text or moved.x.device.type == device.type
    assert all(rows.device.type == device.type for rows in moved.extra.values())
    same(moved.to("cpu"), make())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.zeros(3, 2), "y": torch.zeros(2).long()}, "x has 3 rows, but y has 2"),
        ({"x": ["a"], "y": torch.zeros(2).long()}, "x has 1 rows"),
        ({"x": torch.zeros(2, 2), "y": torch.zeros(2)}, "y must be int64"),
        ({"x": torch.zeros(2, 2), "y": torch.zeros(2, 1).long()}, "y must be int64"),
        ({"x": torch.zeros(2, 2), "y": torch.zeros(2).long(), "lengths": torch.zeros(1)}, "lengths has 1 rows"),
        ({"x": torch.zeros(2, 2), "y": torch.zeros(2).long(), "extra": {"who": torch.zeros(1)}}, "who has 1 rows"),
    ],
)
def test_rows_that_disagree_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Split(**arguments)


@KINDS
def test_packed_and_unpacked_is_the_same(make):
    tensors = pack({"train": make(), "test": make(2)})
    assert all(isinstance(rows, torch.Tensor) and rows.is_contiguous() for rows in tensors.values())
    splits = unpack(dict(sorted(tensors.items())))
    assert splits.keys() == {"train", "test"}
    same(splits["train"], make())
    same(splits["test"], make(2))


@given(st.lists(st.text(), max_size=20))
def test_any_text_survives(strings):
    split = Split(strings, torch.zeros(len(strings), dtype=torch.int64))
    assert unpack(pack({"train": split}))["train"].x == tuple(strings)


@KINDS
def test_concatenate_puts_one_after_the_other(make):
    same(concatenate(make(4), make(6).take([4, 5])), make(6))


CARD = DataCard(
    "Letters", "a book", "CC0", "someone, 1900", {"a.gz": "md5:1"}, True, ("<b>bold</b> & more",), {"train": 6}
)


def test_a_card_survives_as_strings():
    metadata = CARD.to_metadata()
    assert all(isinstance(value, str) for value in metadata.values())
    assert json.loads(metadata["checksums"]) == {"a.gz": "md5:1"}
    assert metadata["lossy"] == "true"
    assert DataCard.from_metadata(metadata | {"name": "letters"}, "abc") == replace(CARD, sha256="abc")


def letters(is_sample=False, validation=True):
    return Dataset("letters", images(), images(3) if validation else None, images(2), ("a", "b"), CARD, is_sample)


def test_full_train_joins_training_and_validation():
    assert torch.equal(letters().full_train.y, torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2]))
    same(letters(validation=False).full_train, images())
    assert list(letters(validation=False).splits) == ["train", "test"]


def test_the_box_says_whether_the_data_are_real():
    real, sample = letters().announce(), letters(is_sample=True).announce()
    assert repr(real).startswith("Real data: Letters (lossy copy)")
    assert repr(sample).startswith("Offline sample, not the real data: Letters")
    for box in (sample._repr_html_(), sample._repr_markdown_(), repr(sample)):
        assert "python -m mixup_modalities data prepare letters" in box
    assert "prepare" not in real._repr_html_()
    assert "mixup-data-box-real" in real._repr_html_()
    assert "mixup-data-box-sample" in sample._repr_html_()


def test_the_box_leaves_out_a_note_that_counts_nothing():
    notes = ("0 clips are shorter.", "10 clips are longer.")
    data = replace(letters(), card=replace(CARD, notes=notes))
    for box in (data.announce()._repr_html_(), data.announce()._repr_markdown_(), repr(data.announce())):
        assert "0 clips are shorter" not in box and notes[1] in box
    assert data.card.notes == notes  # the fingerprint holds it


def test_the_box_is_sound_html():
    html = letters().announce()._repr_html_()
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; more" in html
    tags = []

    class Balanced(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append(tag)

        def handle_endtag(self, tag):
            assert tags.pop() == tag

    Balanced().feed(html)
    assert tags == []
