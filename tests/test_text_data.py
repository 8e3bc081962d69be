"""The tokenizer and the tensors made with it."""

import subprocess
import sys

import pytest
import torch

from mixup_modalities.lab.datasets import load
from mixup_modalities.lab.text_data import PAD_ID, encode, tokenize, train_tokenizer

TEXTS = load("trec", sample=True).train.x
PROGRAM = """
import hashlib, json
from mixup_modalities.lab.datasets import load
from mixup_modalities.lab.text_data import train_tokenizer
vocabulary = train_tokenizer(load("trec", sample=True).train.x, 600).get_vocab()
print(hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode()).hexdigest())
"""


def test_the_same_texts_give_the_same_tokenizer_in_every_process():
    """The hash table of the tokenizers library is seeded anew in each process."""
    found = [
        subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    assert len(set(found)) == 1 and len(found[0].strip()) == 64


def test_tokenizer_has_padding_and_whole_common_words():
    tokenizer = train_tokenizer(TEXTS, 800)
    assert tokenizer.token_to_id("[PAD]") == PAD_ID and tokenizer.token_to_id("[UNK]") == 1
    assert tokenizer.get_vocab_size() <= 800
    assert tokenizer.encode("What is the Capital of?").tokens == ["what", "is", "the", "capital", "of", "?"]
    # A word that was never seen is spelled in pieces; a sign that was never seen is unknown.
    assert all(piece in tokenizer.get_vocab() for piece in tokenizer.encode("zzyzxly").tokens)
    assert len(tokenizer.encode("zzyzxly").tokens) > 1
    assert tokenizer.encode("語").tokens == ["[UNK]"]
    # The pieces are ordinary tokens, not special ones that would be found in the middle of a text.
    assert tokenizer.encode("##ing").tokens != ["##ing"]


def test_every_training_text_can_be_read():
    tokenizer = train_tokenizer(TEXTS, 600)
    assert 1 not in encode(TEXTS, tokenizer)


def test_a_small_vocabulary_still_has_the_alphabet():
    assert 1 not in encode(["abcde"], train_tokenizer(["abc", "cde"], vocab_size=3))


@pytest.mark.parametrize("texts", [[], [""], ["  ", "\n"]])
def test_no_texts_is_an_error(texts):
    with pytest.raises(ValueError, match="texts"):
        train_tokenizer(texts)


def test_encode_pads_on_the_right_cuts_and_keeps_empty_texts():
    tokenizer = train_tokenizer(["one two three"] * 3, 60)
    ids = encode(["one two three", "two", "", "  "], tokenizer, max_length=2)
    assert ids.dtype == torch.int64 and ids.shape == (4, 2)
    assert (ids != PAD_ID).sum(1).tolist() == [2, 1, 1, 1]
    assert ids[2].tolist() == [1, PAD_ID]
    assert ids[1, 0] == ids[0, 1]
    assert encode([], tokenizer).shape == (0, 0)


def test_tokenize_keeps_labels_and_card():
    data = load("trec", sample=True)
    tokens = tokenize(data, train_tokenizer(data.train.x, 600), max_length=8)
    for name, split in tokens.splits.items():
        assert split.x.shape[0] == len(data.splits[name]) and split.x.shape[1] <= 8
        assert not split.is_text
        assert torch.equal(split.y, data.splits[name].y)
        assert (split.x[:, 0] != PAD_ID).all()
    assert tokens.card is data.card and tokens.is_sample
