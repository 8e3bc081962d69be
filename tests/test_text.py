"""EmbeddingMixup, its mask, and mixing at a hidden layer, on tensors alone; on real models see test_text_models.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from mixup_modalities import Mixture, audit, draw_mixture, mixing_matrix
from mixup_modalities.text import (
    EmbeddingMixup,
    encoder_layers,
    mix_embeddings,
    mix_hidden,
    position_ids,
    share_of_tokens,
    union_mask,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def texts(lengths, width=3, left=False, seed=0, dtype=torch.float32):
    """Embeddings (B, T, D) of texts of these lengths, and their mask; the padding holds a large PAD vector."""
    steps = max(lengths)
    mask = (torch.arange(steps) < torch.tensor(lengths)[:, None]).long()
    mask = mask.flip(1) if left else mask
    embeds = torch.randn(len(lengths), steps, width, generator=generator(seed)).to(dtype)
    return torch.where(mask[..., None] == 1, embeds, torch.tensor(1e3, dtype=dtype)), mask


def by_hand(embeds, mask, mixture):
    """The specification: one row, one position at a time."""
    lam = mixture.lam.expand(len(mixture))
    mixed, union = torch.zeros_like(embeds), torch.zeros_like(mask)
    for i, j in enumerate(mixture.partner.tolist()):
        for t in range(embeds.shape[1]):
            for row, weight in ((i, lam[i]), (j, 1 - lam[i])):
                if mask[row, t] and weight > 0:
                    mixed[i, t] += weight * embeds[row, t]
                    union[i, t] = 1
    return mixed, union


batches = st.tuples(
    st.lists(st.integers(1, 6), min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from(["batch", "pair", "sample"]),
    st.sampled_from(["shuffle", "roll", "flip"]),
    st.sampled_from([1e-3, 0.2, 1.0, 8.0]),
    st.integers(0, 2**31),
)


@given(batches)
def test_equals_the_loop(batch):
    lengths, left, per, pairing, alpha, seed = batch
    embeds, mask = texts(lengths, left=left, seed=seed)
    mixture = draw_mixture(len(lengths), alpha, per=per, pairing=pairing, generator=generator(seed))
    mixed, union = mix_embeddings(embeds, mask, mixture)
    expected, expected_union = by_hand(embeds, mask, mixture)
    assert_close(mixed, expected)
    assert torch.equal(union, expected_union)


@given(batches, st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e30]))
def test_no_pad_vector_reaches_the_mixture(batch, garbage):
    lengths, left, per, pairing, alpha, seed = batch
    embeds, mask = texts(lengths, left=left, seed=seed)
    mixup = EmbeddingMixup(alpha, per=per, pairing=pairing)
    padded = mask[..., None] == 0
    clean = embeds.masked_fill(padded, 0).requires_grad_()
    dirty = embeds.masked_fill(padded, garbage).requires_grad_()
    mixed, union, _ = mixup(dirty, mask, generator=generator(seed))
    expected, _, _ = mixup(clean, mask, generator=generator(seed))
    assert torch.equal(mixed, expected)
    assert not mixed[union == 0].any()
    # Nor does the mixture reach the PAD vector: it is never trained by what stands beside it.
    mixed.square().sum().backward()
    assert dirty.grad.isfinite().all() and not dirty.grad.masked_select(padded).any()


@given(batches)
def test_shape_dtype_and_callers_tensors_are_kept(batch):
    lengths, left, per, pairing, alpha, seed = batch
    for dtype, mask_dtype in (
        (torch.float32, torch.bool),
        (torch.float64, torch.float32),
        (torch.bfloat16, torch.int32),
    ):
        embeds, mask = texts(lengths, left=left, dtype=dtype)
        mask = mask.to(mask_dtype)
        before = embeds.clone(), mask.clone()
        mixed, union, mixture = EmbeddingMixup(alpha, per=per, pairing=pairing)(embeds, mask, generator=generator(seed))
        assert (mixed.shape, mixed.dtype) == (embeds.shape, dtype)
        assert (union.shape, union.dtype) == (mask.shape, mask_dtype)
        assert mixture.lam.dtype == torch.float32
        assert torch.equal(embeds, before[0]) and torch.equal(mask, before[1])


def test_bfloat16_is_mixed_in_float32_and_rounded_once():
    embeds, mask = texts([5, 3, 2], dtype=torch.bfloat16)
    mixture = draw_mixture(3, 1.0, generator=generator())
    expected, _ = mix_embeddings(embeds.float(), mask, mixture)
    assert torch.equal(mix_embeddings(embeds, mask, mixture)[0], expected.bfloat16())


def test_union_mask_of_two_texts():
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])
    swapped = torch.tensor([1, 0])
    assert union_mask(mask, Mixture(torch.tensor(0.3), swapped)).tolist() == [[1, 1, 1, 0], [1, 1, 1, 0]]
    # A text without weight lends its positions to nobody.
    assert torch.equal(union_mask(mask, Mixture(torch.tensor(1.0), swapped)), mask)
    assert torch.equal(union_mask(mask, Mixture(torch.tensor(0.0), swapped)), mask.flip(0))


def test_without_a_mask_every_position_is_a_token():
    embeds = torch.randn(4, 5, 3, generator=generator())
    mixed, mask, mixture = EmbeddingMixup(1.0)(embeds, generator=generator(1))
    assert mask is None
    assert torch.equal(mixed, mixture.mix(embeds))


@given(batches)
def test_lam_by_length_is_the_share_of_tokens(batch):
    lengths, left, per, pairing, alpha, seed = batch
    embeds, mask = texts(lengths, left=left, seed=seed)
    embeds, mixture = (
        embeds.double(),
        draw_mixture(len(lengths), alpha, per=per, pairing=pairing, generator=generator(seed)),
    )
    labels = share_of_tokens(mixture, mask)
    assert torch.equal(labels.partner, mixture.partner)
    lam, n = mixture.lam.double().expand(len(lengths)), mask.sum(1).double()
    own, partners = lam * n, (1 - lam) * n[mixture.partner]
    assert_close(labels.lam.double(), own / (own + partners), atol=1e-6, rtol=0)
    # The identity that gives it its name: mean of the mixture = mixture of the means.
    mixed, _ = mix_embeddings(embeds, mask, mixture)
    means = (embeds * mask[..., None]).sum(1) / n[:, None]
    assert_close(mixed.sum(1) / (own + partners)[:, None], labels.mix(means), atol=1e-5, rtol=1e-5)


def test_lam_by_length_changes_the_labels_and_not_the_embeddings():
    embeds, mask = texts([6, 1, 3, 2])
    plain = EmbeddingMixup(0.5)(embeds, mask, generator=generator(3))
    by_length = EmbeddingMixup(0.5, lam_by_length=True)(embeds, mask, generator=generator(3))
    assert torch.equal(plain[0], by_length[0]) and torch.equal(plain[1], by_length[1])
    assert torch.equal(by_length[2].lam, share_of_tokens(plain[2], mask).lam)
    assert not torch.equal(by_length[2].lam, plain[2].lam.expand(4))
    assert share_of_tokens(plain[2], None) is plain[2]


@pytest.mark.parametrize("off", ["eval", "alpha"])
def test_off_returns_the_input_and_the_identity(off):
    mixup = EmbeddingMixup(0.4, lam_by_length=True)
    mixup.eval() if off == "eval" else mixup.set_alpha(0)
    embeds, mask = texts([4, 2])
    mixed, same_mask, mixture = mixup(embeds, mask)
    assert mixed is embeds and same_mask is mask
    assert torch.equal(mixture.matrix(), torch.eye(2))


def test_randomness_is_an_argument():
    embeds, mask = texts([3, 5, 2, 4])
    mixup, state = EmbeddingMixup(0.4, per="sample"), torch.get_rng_state()
    first, second = (mixup(embeds, mask, generator=generator(7)) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[2].partner, second[2].partner)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_batch_size_and_a_text_of_one_token():
    for lengths in ([1], [1, 1], [2, 1, 3]):
        embeds, mask = texts(lengths)
        assert EmbeddingMixup(0.4)(embeds, mask, generator=generator())[0].isfinite().all()


@pytest.mark.parametrize("kwargs", [{}, {"lam_by_length": True}, {"per": "pair"}, {"per": "sample"}])
def test_audit_passes_without_and_with_padding(kwargs):
    report = audit(EmbeddingMixup(1.0, **kwargs))
    assert report.ok, report
    assert report["padding adds nothing"].verdict == "pass"


class MixesThePadding(EmbeddingMixup):
    """The common bug: PAD vectors are mixed like tokens."""

    def forward(self, embeds, attention_mask=None, *, generator=None):
        mixture = self.draw(len(embeds), embeds.device, generator)
        return mixture.mix(embeds), attention_mask, mixture


def test_audit_finds_mixed_padding():
    assert "padding adds nothing" in audit(MixesThePadding(1.0)).failed


def test_matrix_of_a_padded_batch_is_that_of_the_mixture():
    _, mask = texts([4, 1, 3])
    mixture = draw_mixture(3, 1.0, per="sample", generator=generator(2))
    basis = torch.eye(3)[:, None, :].expand(3, 4, 3).contiguous()
    mixed, _ = mix_embeddings(basis, mask, mixture)
    for t in range(4):  # at position t the columns of texts without a token there are empty
        assert_close(mixed[:, t], mixture.matrix() * mask[:, t])
    assert mixing_matrix(EmbeddingMixup(1.0), 5).sum(1).tolist() == pytest.approx([1] * 5)


def test_compiles_without_a_break():
    embeds, mask = texts([4, 2, 3])
    mixture = draw_mixture(3, 1.0, generator=generator(2))

    @torch.compile(fullgraph=True, backend="eager")
    def step(embeds, mask, mixture):
        mixed, union = mix_embeddings(embeds, mask, mixture)
        return mixed, union, share_of_tokens(mixture, mask).lam

    expected = *mix_embeddings(embeds, mask, mixture), share_of_tokens(mixture, mask).lam
    for compiled, plain in zip(step(embeds, mask, mixture), expected):
        assert_close(compiled, plain)
    module = torch.compile(EmbeddingMixup(1.0, lam_by_length=True), fullgraph=True, backend="eager")
    assert module(embeds, mask)[0].shape == embeds.shape


def test_same_on_every_device(device):
    embeds, mask = texts([4, 2, 3])
    expected = EmbeddingMixup(0.4)(embeds, mask, generator=generator(5))
    mixed, union, mixture = EmbeddingMixup(0.4)(embeds.to(device), mask.to(device), generator=generator(5))
    assert mixture.partner.device.type == device.type
    assert_close(mixed.cpu(), expected[0])
    assert torch.equal(union.cpu(), expected[1])


EMBEDS, MASK = texts([3, 2])


@pytest.mark.parametrize(
    ("embeds", "mask", "error", "message"),
    [
        (torch.tensor([[5, 7, 0], [2, 0, 0]]), MASK, TypeError, "embeds.*int64.*look them up"),
        (torch.zeros(2, 3, 3, dtype=torch.int32), MASK, TypeError, "embeds.*int32"),
        ([[1.0]], MASK, TypeError, "embeds.*list"),
        (EMBEDS[:, 0], MASK, ValueError, r"embeds.*\(2, 3\).*mixture.mix"),
        (EMBEDS[:, :0], None, ValueError, "embeds.*at least one token"),
        (EMBEDS[:0], None, ValueError, "batch_size.*at least one row"),
        (EMBEDS, MASK[:, :2], ValueError, r"attention_mask.*\(2, 3\).*\(2, 2\)"),
        (EMBEDS, MASK[:1], ValueError, r"attention_mask.*\(2, 3\).*\(1, 3\)"),
        (EMBEDS, MASK[:, None, None, :], ValueError, "attention_mask"),
        (EMBEDS, MASK.tolist(), TypeError, "attention_mask.*list"),
        (EMBEDS, MASK * 2, ValueError, "attention_mask.*1 at tokens and 0 at padding, got 2"),
        (EMBEDS, (1.0 - MASK) * -10000.0, ValueError, "attention_mask.*-10000.*Biases"),
        (EMBEDS, MASK * 0.5, ValueError, "attention_mask.*0.5"),
        (EMBEDS, torch.tensor([[1, 1, 1], [0, 0, 0]]), ValueError, r"attention_mask.*rows \[1\] are all zero"),
        (EMBEDS, MASK.to("meta"), ValueError, "attention_mask is on meta but embeds is on cpu"),
    ],
)
def test_bad_input_is_named(embeds, mask, error, message):
    for mixup in (EmbeddingMixup(0.2), EmbeddingMixup(0.2).eval()):
        with pytest.raises(error, match=message):
            mixup(embeds, mask)


def test_check_finite_looks_at_tokens_and_not_at_padding():
    embeds, mask = texts([3, 2])
    mixup = EmbeddingMixup(0.2, check_finite=True)
    mixup(embeds.masked_fill(mask[..., None] == 0, float("nan")), mask)
    embeds[1, 0, 2] = float("inf")
    with pytest.raises(ValueError, match=r"embeds.*rows \[1\]"):
        mixup(embeds, mask)


@pytest.mark.parametrize("given_as", ["module", "table"])
def test_check_finite_looks_up_tokens_and_not_padding(given_as):
    ids, mask = torch.tensor([[3, 4, 5], [6, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
    embedding = nn.Embedding(9, 4)
    with torch.no_grad():
        embedding.weight[[0, 8]] = float("nan")  # padding, and a token that nobody uses
        embedding = embedding if given_as == "module" else embedding.weight.detach()
        mixup = EmbeddingMixup(0.2, check_finite=True)
        mixed, *_ = mixup.lookup(embedding, ids, mask, generator=generator())
        assert_close(mixed, EmbeddingMixup(0.2).lookup(embedding, ids, mask, generator=generator())[0])
        with pytest.raises(ValueError, match=r"embeds: expected finite.*rows \[1\]"):
            mixup.lookup(embedding, ids, torch.ones_like(mask))


@pytest.mark.parametrize("layout", [(3, 1), (1, 4), (5, 4), (3,), (3, 1, 4), "list"])
def test_masks_of_another_shape_are_named(layout):
    embeds, mixture = torch.randn(3, 4, 5, generator=generator()), draw_mixture(3, 1.0, generator=generator())
    mask, error = ([[1]], TypeError) if layout == "list" else (torch.ones(layout), ValueError)
    calls = [lambda: mix_embeddings(embeds, mask, mixture)]
    if layout != (3, 1):  # a batch of one position
        calls += [lambda: union_mask(mask, mixture), lambda: share_of_tokens(mixture, mask)]
    for call in calls:
        with pytest.raises(error, match=r"attention_mask: expected .*got"):
            call()


def test_embeddings_of_another_shape_are_named():
    mask, mixture = torch.ones(3, 4), draw_mixture(3, 1.0, generator=generator())
    for wrong, error in (
        (torch.zeros(3, 4), ValueError),
        (torch.zeros(2, 4, 5), ValueError),
        (torch.zeros(3, 4, 5).long(), TypeError),
    ):
        with pytest.raises(error, match="embeds: expected"):
            mix_embeddings(wrong, mask, mixture)


@pytest.mark.parametrize(
    ("embedding", "mask", "error", "message"),
    [
        ("x", None, TypeError, r"embedding: expected an nn.Embedding or its table \(V, D\), got str"),
        (nn.Sequential(), None, TypeError, "embedding: .*got Sequential"),
        (torch.zeros(9), None, TypeError, r"embedding: .*floating table \(V, D\).*\(9,\)"),
        (torch.zeros(9, 4).long(), None, TypeError, "embedding: .*int64"),
        (nn.Embedding(9, 4), MASK[:, :2], ValueError, r"attention_mask: expected shape \(2, 3\) as input_ids has"),
        (nn.Embedding(9, 4), MASK.to("meta"), ValueError, "attention_mask is on meta but input_ids is on cpu"),
    ],
)
def test_bad_input_of_lookup_is_named(embedding, mask, error, message):
    for mixup in (EmbeddingMixup(0.2), EmbeddingMixup(0.2).eval()):
        with pytest.raises(error, match=message):
            mixup.lookup(embedding, torch.tensor([[3, 4, 5], [6, 0, 0]]), mask)


def test_settings_are_checked_and_shown():
    for kwargs, name in (({"alpha": -1}, "alpha"), ({"per": "token"}, "per"), ({"pairing": "none"}, "pairing")):
        with pytest.raises(ValueError, match=name):
            EmbeddingMixup(**kwargs)
    assert "lam_by_length=True" in repr(EmbeddingMixup(0.2, lam_by_length=True))


def test_position_ids_count_tokens():
    assert position_ids(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])).tolist() == [[0, 0, 0, 1], [0, 1, 2, 2]]
    assert position_ids(torch.tensor([[False, True]]), first=2).tolist() == [[2, 2]]


class Layer(nn.Module):
    """Adds to each position the mean of what its mask lets it see, so that a wrong mask shows."""

    def forward(self, hidden_states, attention_mask=None):
        seen = torch.ones(hidden_states.shape[:2]) if attention_mask is None else attention_mask[:, 0, 0].float()
        return hidden_states + (hidden_states * seen[..., None]).sum(1, keepdim=True) / seen.sum(1)[:, None, None]


class Encoder(nn.Module):
    def __init__(self, layers=3):
        super().__init__()
        self.config = type("Config", (), {"num_hidden_layers": layers})()
        self.layer = nn.ModuleList(Layer() for _ in range(layers))

    def forward(self, hidden, mask=None, named=False):
        wide = None if mask is None else mask[:, None, None, :].bool()
        for layer in self.layer:
            hidden = layer(hidden_states=hidden, attention_mask=wide) if named else layer(hidden, wide)
        return hidden


@pytest.mark.parametrize("layer", range(4))
@pytest.mark.parametrize("named", [False, True])
def test_mix_hidden_equals_mixing_by_hand(layer, named):
    embeds, mask = texts([4, 2, 3, 1])
    mixture, model = draw_mixture(4, 1.0, per="sample", generator=generator(4)), Encoder()
    union, hidden = union_mask(mask, mixture), embeds
    for index, block in enumerate(model.layer):
        if index == layer:
            hidden, _ = mix_embeddings(hidden, mask, mixture)
        hidden = block(hidden, (mask if index < layer else union)[:, None, None, :].bool())
    if layer == 3:
        hidden, _ = mix_embeddings(hidden, mask, mixture)
    with mix_hidden(model, layer, mixture, mask) as yielded:
        mixed = model(embeds, mask, named)
    assert torch.equal(yielded, union)
    assert_close(mixed, hidden)
    # Outside the block the model is itself again.
    assert not any(block._forward_pre_hooks or block._forward_hooks for block in model.layer)


def test_mix_hidden_leaves_no_hook_behind_when_the_model_fails():
    embeds, mask = texts([3, 2])
    model = Encoder()
    with pytest.raises(ValueError, match="mixture"), mix_hidden(model, 1, Mixture.identity(3)):
        model(embeds, mask)
    assert not any(block._forward_pre_hooks for block in model.layer)


def test_mix_hidden_bad_input():
    embeds, mask = texts([3, 2])
    model, mixture = Encoder(), draw_mixture(2, 1.0, generator=generator())
    for layer in (-1, 4, 1.0, True):
        with pytest.raises(ValueError, match="layer: expected an integer from 0 to 3"):
            mix_hidden(model, layer, mixture, mask).__enter__()
    for wrong, message in ((mask[:1], "2 rows"), (mask * 3, "0 at padding"), (mask[0], r"\(B, T\)")):
        with pytest.raises(ValueError, match=message):
            mix_hidden(model, 1, mixture, wrong).__enter__()
    with pytest.raises(ValueError, match=r"expected shape \(2, 3\)"), mix_hidden(model, 1, mixture, mask[:, :2]):
        model(embeds, mask)
    with pytest.raises(ValueError, match="layers="):
        encoder_layers(nn.Linear(2, 2))


def test_mix_hidden_refuses_checkpoints_that_repeat_hooks():
    class Checkpointed(Layer):
        gradient_checkpointing = True

        def __call__(self, *args, **kwargs):  # as older transformers have it
            return torch.utils.checkpoint.checkpoint(super().__call__, *args, use_reentrant=False, **kwargs)

    layers, mixture = nn.ModuleList([Checkpointed()]), Mixture.identity(2)
    with pytest.raises(ValueError, match="gradient checkpointing"):
        mix_hidden(Encoder(), 0, mixture, layers=layers).__enter__()
    with mix_hidden(Encoder(), 0, mixture, layers=layers.eval()):
        pass


def test_mix_hidden_names_a_mask_that_has_no_union():
    embeds, _ = texts([3, 2])
    layer = Layer()
    with (
        pytest.raises(TypeError, match='attn_implementation="sdpa"'),
        mix_hidden(Encoder(), 0, Mixture.identity(2), layers=nn.ModuleList([layer])),
    ):
        layer(embeds, "a block mask")
