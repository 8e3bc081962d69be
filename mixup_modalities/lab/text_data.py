"""From texts to token ids: a WordPiece tokenizer trained on the spot, and data sets turned into tensors."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mixup_modalities.lab.splits import Dataset, Split

PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID = 0


def train_tokenizer(texts: Sequence[str], vocab_size: int = 4000, min_frequency: int = 2):
    """Train a WordPiece tokenizer (Wu et al., 2016, arXiv 1609.08144), lower-cased as BERT's is.

    The same texts give the same tokenizer, in any process. The `tokenizers` library alone does not promise that: it
    numbers the pieces that go on a word (`##a`) in the order of a hash table, and breaks ties between merges by these
    numbers. Here they are numbered in advance.

    Args:
        texts: the training texts, and only those.
        vocab_size: most tokens it may have, the two special ones included.
        min_frequency: how often a piece must occur to be kept.

    Returns:
        A `tokenizers.Tokenizer`; id 0 is the padding, 1 the unknown token.

    Raises:
        ValueError: there are no texts.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    def with_model(model: models.Model) -> Tokenizer:
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return tokenizer

    if not texts or not any(text.strip() for text in texts):
        raise ValueError(f"texts must hold at least one text that is not empty, got {len(texts)} texts")
    learner = with_model(models.WordPiece(unk_token=UNKNOWN))
    alphabet = sorted({c for text in texts for c in learner.normalizer.normalize_str(text) if not c.isspace()})
    pieces = [f"##{c}" for c in alphabet]
    trainer = trainers.WordPieceTrainer(
        vocab_size=max(vocab_size, 2 + 2 * len(alphabet)),
        min_frequency=min_frequency,
        special_tokens=[PAD, UNKNOWN, *pieces],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    # A fresh model with that vocabulary: the pieces are no special tokens any more.
    tokenizer = with_model(models.WordPiece(learner.get_vocab(), unk_token=UNKNOWN))
    tokenizer.add_special_tokens([PAD, UNKNOWN])
    return tokenizer


def encode(texts: Sequence[str], tokenizer, max_length: int = 64, *, add_special_tokens: bool = False) -> Tensor:
    """Return the token ids of texts, padded on the right.

    Args:
        texts: N strings.
        tokenizer: a `tokenizers.Tokenizer` whose padding is id 0.
        max_length: tokens kept of a text; the rest is cut off.
        add_special_tokens: put the tokens around a text that a pre-trained model is used to.

    Returns:
        int64 `(N, T)`, T the longest that is left. A text without any token becomes one unknown token, so that no row
        is all padding.
    """
    unknown = tokenizer.token_to_id(UNKNOWN)
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens)
    ids = [each.ids[:max_length] or [unknown] for each in encoded]
    rows = torch.full((len(ids), max(map(len, ids), default=0)), PAD_ID)
    for row, each in zip(rows, ids):
        row[: len(each)] = torch.tensor(each)
    return rows


def tokenize(dataset: Dataset, tokenizer, max_length: int = 64, *, add_special_tokens: bool = False) -> Dataset:
    """Return a text data set whose splits hold token ids `(N, T)` in place of strings, as `fit` takes them."""
    splits = {}
    for name, split in dataset.splits.items():
        ids = encode(split.x, tokenizer, max_length, add_special_tokens=add_special_tokens)
        splits[name] = Split(ids.to(split.device), split.y, extra=split.extra)
    return replace(dataset, **splits)
