"""The text classifiers: padding never counts, and the three places to mix are what they say."""

import hashlib
import shutil

import pytest
import torch
from torch.testing import assert_close

from mixup_modalities import EmbeddingMixup, Mixture
from mixup_modalities.lab import text_models
from mixup_modalities.lab.datasets import load
from mixup_modalities.lab.runtime import seeded
from mixup_modalities.lab.text_data import tokenize, train_tokenizer
from mixup_modalities.lab.text_models import (
    BiLSTM,
    HubUnavailable,
    TextCNN,
    load_pretrained,
    mixed_at,
    small_transformer,
)
from mixup_modalities.lab.training import evaluate, fit
from mixup_modalities.text import mix_embeddings

VOCABULARY, CLASSES = 40, 3
MODELS = {"cnn": TextCNN, "lstm": BiLSTM, "transformer": small_transformer}
LEVELS = ("word", "hidden", "sentence")


@pytest.fixture(params=MODELS)
def model(request):
    with seeded(0):
        return MODELS[request.param](VOCABULARY, CLASSES).eval()


def batch(lengths=(7, 1, 4, 2), extra=0):
    ids = torch.zeros(len(lengths), max(lengths) + extra, dtype=torch.int64)
    for row, n in enumerate(lengths):
        ids[row, :n] = torch.randint(1, VOCABULARY, (n,), generator=torch.Generator().manual_seed(row))
    return ids


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def test_logits_do_not_depend_on_the_padding(model):
    together = model(batch())
    assert together.shape == (4, CLASSES)
    assert_close(model(batch(extra=5)), together, atol=1e-5, rtol=1e-5)
    for row, ids in enumerate(batch()):
        assert_close(model(ids[ids != 0][None])[0], together[row], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_is_stored_in_the_padding_does_not_matter(model):
    embeds, mask = model.embed(batch())
    garbage = embeds.masked_fill(~mask.unsqueeze(-1), 50.0)
    assert_close(model.classify(garbage, mask), model.classify(embeds, mask), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_embed_cuts_columns_without_a_token_and_never_all(model):
    embeds, mask = model.embed(batch(extra=5))
    assert embeds.shape[:2] == mask.shape == (4, 7) and mask.dtype == torch.bool
    assert model.embed(torch.zeros(2, 3, dtype=torch.int64))[0].shape[1] == 1


@pytest.mark.parametrize("level", LEVELS)
@torch.no_grad()
def test_pure_rows_are_the_texts_themselves(model, level):
    ids = batch()
    own = model(ids)
    mixture = Mixture(torch.tensor([1.0, 0.0, 0.5, 0.3]), torch.tensor([2, 0, 2, 0]))
    mixed = model.classify_mixed(*model.embed(ids), mixture, level)
    assert_close(mixed[:3], own[[0, 0, 2]], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(mixed[3], own[3], atol=1e-4)


@torch.no_grad()
def test_the_three_levels_are_three_places(model):
    ids = batch()
    mixture = Mixture(torch.tensor(0.4), torch.tensor([1, 0, 3, 2]))
    logits = {level: model.classify_mixed(*model.embed(ids), mixture, level) for level in LEVELS}
    embeds, mask = model.embed(ids)
    h, _ = model.hidden(embeds, mask)
    # Word level by hand, and sentence level: the head is linear, so the logits themselves are mixed.
    assert_close(logits["word"], model.classify(*mix_embeddings(embeds, mask, mixture)))
    assert_close(logits["sentence"], mixture.mix(model.head(model.pool(h, mask))), atol=1e-5, rtol=1e-5)
    for one, other in (("word", "hidden"), ("hidden", "sentence"), ("word", "sentence")):
        assert not torch.allclose(logits[one], logits[other], atol=1e-5)
    with pytest.raises(ValueError, match="level must be one of 'word', 'hidden', 'sentence', got 'token'"):
        model.classify_mixed(embeds, mask, mixture, "token")


@pytest.mark.parametrize("level", LEVELS)
def test_forward_of_each_level_draws_the_same_mixture(model, level):
    ids, mixup = batch(), EmbeddingMixup(1.0)
    logits, mixture = mixed_at(level)(model, ids, mixup, generator(3))
    _, expected = mixed_at("word")(model, ids, mixup, generator(3))
    assert torch.equal(mixture.partner, expected.partner) and torch.equal(mixture.lam, expected.lam)
    assert_close(logits, model.classify_mixed(*model.embed(ids), mixture, level))
    # ERM, and a module that is off, are the plain path.
    for off in (None, EmbeddingMixup(1.0).eval()):
        plain, identity = mixed_at(level)(model, ids, off, generator(3))
        assert_close(plain, model(ids), atol=1e-5, rtol=1e-5)
        assert torch.equal(identity.matrix(), torch.eye(4))


def test_unknown_level_is_an_error():
    with pytest.raises(ValueError, match="level must be one of"):
        mixed_at("layer")


@pytest.fixture(scope="module")
def tokens():
    data = load("trec", sample=True)
    return tokenize(data, train_tokenizer(data.train.x, 800), max_length=24)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("level", LEVELS)
def test_every_network_learns_with_every_method(name, level, tokens):
    data = tokens.train.take(slice(240))
    with seeded(1):
        model = MODELS[name](int(tokens.train.x.max()) + 1, len(tokens.classes))
    table = model.table.weight.detach().clone()
    settings = {"epochs": 6, "batch_size": 40, "lr": 4e-3, "optimizer": "adamw", "progress": False, "device": "cpu"}
    history = fit(model, data, mixup=EmbeddingMixup(1.0), forward=mixed_at(level), evaluate_every=0, **settings)
    chance = data.y.bincount().max().item() / len(data)
    assert history.final["clean_train_accuracy"] > 2 * chance
    assert not torch.equal(model.table.weight, table)
    assert torch.equal(model.table.weight[0], table[0])  # the padding's vector is never trained


def test_the_offline_questions_are_neither_hopeless_nor_trivial(tokens):
    with seeded(0):
        model = TextCNN(int(tokens.train.x.max()) + 1, len(tokens.classes))
    fit(model, tokens.train, epochs=6, batch_size=50, lr=4e-3, optimizer="adamw", progress=False, device="cpu")
    accuracy = evaluate(model, tokens.test).accuracy
    chance = tokens.test.y.bincount().max().item() / len(tokens.test)
    assert chance + 0.1 < accuracy < 0.9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pre-trained encoder as a folder, as `save_pretrained` leaves it: tiny, and trained on nothing."""
    import transformers

    path = tmp_path_factory.mktemp("encoder")
    tokenizer = train_tokenizer(load("trec", sample=True).train.x, 300)
    config = transformers.DistilBertConfig(
        vocab_size=tokenizer.get_vocab_size(), dim=32, n_layers=2, n_heads=2, hidden_dim=32
    )
    with seeded(0):
        transformers.DistilBertModel(config).save_pretrained(path)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(path)
    return path


def test_a_pretrained_encoder_comes_from_a_folder(folder, capsys):
    encoder, tokenizer = load_pretrained(folder)
    assert encoder.config.model_type == "distilbert"
    assert tokenizer.encode("What is that?").tokens
    model = text_models.TransformerClassifier(encoder, CLASSES)
    assert model.layer == 1 and model.provenance == {}
    ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
    for level in LEVELS:
        logits, _ = mixed_at(level)(model, ids, EmbeddingMixup(1.0), generator())
        assert logits.shape == (2, CLASSES)
    assert capsys.readouterr() == ("", "")


def test_the_checksum_is_that_of_the_file(folder):
    expected = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert text_models.weights_checksum(folder) == f"sha256:{expected}"


def test_a_pretrained_tokenizer_neither_cuts_nor_pads(folder, tmp_path):
    from tokenizers import Tokenizer

    copy = shutil.copytree(folder, tmp_path / "copy")
    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    whole = len(tokenizer.encode("What is that and what is it for?").ids)
    tokenizer.enable_padding(length=40)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(copy / "tokenizer.json"))
    assert len(load_pretrained(copy)[1].encode("What is that and what is it for?").ids) == whole > 3


def test_a_hub_that_may_not_be_asked_says_so(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)  # the Makefile sets it
    with pytest.raises(HubUnavailable, match=r"distilbert-base-uncased is no folder.*MIXUP_OFFLINE is set"):
        load_pretrained()


def test_a_hub_that_does_not_answer_is_given_up(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.delenv("MIXUP_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(HubUnavailable, match="the hub cannot be reached"):
        load_pretrained("nobody/no-such-model", timeout=0.5)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(HubUnavailable, match="holds no model"):
        load_pretrained(tmp_path)
