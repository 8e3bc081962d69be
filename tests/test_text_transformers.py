"""EmbeddingMixup and mix_hidden on stock Hugging Face models: tiny, randomly initialised, offline."""

import pytest
import torch
import transformers
from torch.nn import functional as F
from torch.testing import assert_close

from mixup_modalities import EmbeddingMixup, Mixture, draw_mixture
from mixup_modalities.text import encoder_layers, mix_embeddings, mix_hidden, position_ids, union_mask

PAD, CLASSES, VOCABULARY, LAYERS = 0, 4, 50, 3
SMALL = {"vocab_size": VOCABULARY, "num_labels": CLASSES, "pad_token_id": PAD}
WIDE = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 48}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**SMALL, **WIDE),
    "distilbert": lambda: transformers.DistilBertConfig(**SMALL, dim=32, n_layers=LAYERS, n_heads=2, hidden_dim=48),
    "roberta": lambda: transformers.RobertaConfig(**SMALL, **WIDE),
    "gpt2": lambda: transformers.GPT2Config(**SMALL, n_embd=32, n_layer=LAYERS, n_head=2, n_positions=64),
    # Attention over windows of four tokens in two layers of three, so that both kinds of mask are met.
    "modernbert": lambda: transformers.ModernBertConfig(
        **SMALL, **WIDE, local_attention=4, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2
    ),
}
LENGTHS = [9, 4, 7, 2, 5]


def make_model(name, attention="sdpa"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForSequenceClassification.from_config(
            CONFIGS[name](), attn_implementation=attention
        )
    return model.eval()  # without dropout, so that logits can be compared


def batch(left=False, lengths=LENGTHS):
    steps = max(lengths)
    mask = (torch.arange(steps) < torch.tensor(lengths)[:, None]).long()
    mask = mask.flip(1) if left else mask
    ids = torch.randint(3, VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(1))
    return ids.masked_fill(mask == 0, PAD), mask


def from_embeds(name, model, embeds, mask):
    """What a user calls after mixing. GPT-2 reads the last position, so its texts are padded on the left."""
    kwargs = {"position_ids": position_ids(mask)} if name == "gpt2" else {}
    return model(inputs_embeds=embeds, attention_mask=mask, **kwargs).logits


def from_ids(name, model, ids, mask):
    kwargs = {"position_ids": position_ids(mask)} if name == "gpt2" else {}
    return model(ids, attention_mask=mask, **kwargs).logits


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_pure_rows_give_the_models_own_logits(name, attention):
    model = make_model(name, attention)
    ids, mask = batch(left=name == "gpt2")
    own, embeds = from_ids(name, model, ids, mask), model.get_input_embeddings()(ids)
    # Row 2 is pure though its partner is another, longer text; row 3 is all of its partner, row 1.
    mixture = Mixture(torch.tensor([0.6, 0.3, 1.0, 0.0, 0.8]), torch.tensor([3, 2, 0, 1, 4]))
    mixed, union = mix_embeddings(embeds, mask, mixture)
    logits = from_embeds(name, model, mixed, union)
    assert_close(logits[[2, 3, 4]], own[[2, 1, 4]], atol=1e-5, rtol=0)
    assert not torch.allclose(logits[[0, 1]], own[[0, 1]], atol=1e-3)
    # And evaluation mode is the model's own path.
    mixed, union, _ = EmbeddingMixup(0.4).eval()(embeds, mask)
    assert_close(from_embeds(name, model, mixed, union), own, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_padding_does_not_change_a_mixture(name):
    """A mixture of two texts is the same alone, and in a batch with longer ones."""
    model = make_model(name)
    ids, mask = batch(left=name == "gpt2")
    embeds = model.get_input_embeddings()(ids)
    mixture = Mixture(torch.tensor(0.4), torch.tensor([0, 3, 2, 1, 4]))  # texts of four and two tokens
    in_batch = from_embeds(name, model, *mix_embeddings(embeds, mask, mixture))[[1, 3]]
    pair, tokens = torch.tensor([1, 3]), slice(-4, None) if name == "gpt2" else slice(4)
    mixed = mix_embeddings(
        embeds[pair][:, tokens], mask[pair][:, tokens], Mixture(torch.tensor(0.4), torch.tensor([1, 0]))
    )
    assert_close(from_embeds(name, model, *mixed), in_batch, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradient_reaches_the_embedding_table(name):
    model = make_model(name)
    ids, mask = batch(left=name == "gpt2")
    embeds, union, mixture = EmbeddingMixup(1.0)(model.get_input_embeddings()(ids), mask, generator=generator(2))
    mixture.loss(F.cross_entropy, from_embeds(name, model, embeds, union), torch.arange(5) % CLASSES).backward()
    grad = model.get_input_embeddings().weight.grad
    used = torch.zeros(VOCABULARY, dtype=torch.bool)
    used[ids[mask == 1]] = True
    assert (grad[used].abs().sum(1) > 0).all()
    assert not grad[~used].any() and not grad[PAD].any()


@torch.no_grad()
def test_positions_of_texts_padded_on_the_left():
    """RoBERTa and GPT-2 count positions from the left edge when given embeddings; position_ids counts tokens."""
    ids, mask = batch(left=True)
    right_ids, right_mask = batch()
    right_ids = torch.stack([torch.cat([row[m == 1], row[m == 0]]) for row, m in zip(ids, mask)])
    for name, first in (("roberta", PAD + 1), ("gpt2", 0)):
        model = make_model(name).base_model
        want = model(right_ids, attention_mask=right_mask).last_hidden_state
        embeds = model.get_input_embeddings()(ids)
        got = model(inputs_embeds=embeds, attention_mask=mask, position_ids=position_ids(mask, first)).last_hidden_state
        assert_close(got[mask == 1], want[right_mask == 1], atol=1e-5, rtol=0)
        naive = model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
        assert not torch.allclose(naive[mask == 1], want[right_mask == 1], atol=1e-3)


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_are_found_with_and_without_a_head(name):
    model = make_model(name)
    assert len(encoder_layers(model)) == LAYERS
    assert encoder_layers(model.base_model) is encoder_layers(model)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_mix_hidden_pure_rows_and_restored_model(name, attention):
    model = make_model(name, attention)
    ids, mask = batch(left=name == "gpt2")
    own = from_ids(name, model, ids, mask)
    mixture = Mixture(torch.tensor([0.6, 0.3, 1.0, 0.0, 0.8]), torch.tensor([3, 2, 0, 1, 4]))
    for layer in range(LAYERS + 1):
        with mix_hidden(model, layer, mixture, mask):
            mixed = from_ids(name, model, ids, mask)
        assert_close(mixed[[2, 3, 4]], own[[2, 1, 4]], atol=1e-5, rtol=0)
        assert not torch.allclose(mixed[[0, 1]], own[[0, 1]], atol=1e-4)
    assert torch.equal(from_ids(name, model, ids, mask), own)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_mix_hidden_equals_the_texts_read_one_by_one(name):
    """The oracle: each text alone, unpadded, up to the layer; mixed by hand; and on alone, without any mask."""
    model, layer, left = make_model(name).base_model, 1, name == "gpt2"
    ids, mask = batch(left)
    mixture = Mixture(torch.tensor([0.6, 0.3, 0.9, 0.2, 0.5]), torch.tensor([3, 2, 0, 4, 1]))
    with mix_hidden(model, layer, mixture, mask) as union:
        kwargs = {"position_ids": position_ids(mask)} if left else {}
        got = model(ids, attention_mask=mask, **kwargs).last_hidden_state
    assert torch.equal(union, union_mask(mask, mixture))

    alone = []
    for row, own in zip(ids, mask):
        # GPT-2's last layer of hidden_states has passed the final norm; layer 1 of 3 has not.
        hidden = model(row[own == 1][None], output_hidden_states=True).hidden_states[layer]
        alone.append(hidden[0])
    for i, j in enumerate(mixture.partner.tolist()):
        length = max(len(alone[i]), len(alone[j]))
        mixed = torch.zeros(1, length, alone[i].shape[1])
        for text, weight in ((alone[i], mixture.lam[i]), (alone[j], 1 - mixture.lam[i])):
            mixed[0, slice(-len(text), None) if left else slice(len(text))] += weight * text

        def put(block, args, kwargs, mixed=mixed):
            return (mixed, *args[1:]), kwargs

        hook = encoder_layers(model)[layer].register_forward_pre_hook(put, with_kwargs=True)
        want = model(torch.full((1, length), 5)).last_hidden_state[0]
        hook.remove()
        assert_close(got[i][union[i] == 1], want, atol=1e-5, rtol=0)


def test_mix_hidden_trains():
    model = make_model("distilbert").train()
    ids, mask = batch()
    mixture = draw_mixture(5, 1.0, generator=generator(1))
    with mix_hidden(model, 2, mixture, mask):
        logits = model(ids, attention_mask=mask).logits
    mixture.loss(F.cross_entropy, logits, torch.arange(5) % CLASSES).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_gradient_checkpointing_changes_no_gradient():
    ids, mask = batch()
    mixture, grads = draw_mixture(5, 1.0, generator=generator(1)), []
    for checkpointing in (False, True):
        model = make_model("bert").train()
        if checkpointing:
            model.activation_checkpointing_enable()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        with mix_hidden(model, 1, mixture, mask):
            logits = model(ids, attention_mask=mask).logits
        mixture.loss(F.cross_entropy, logits, torch.arange(5) % CLASSES).backward()
        grads.append(model.get_input_embeddings().weight.grad)
    assert_close(grads[0], grads[1])
