"""The fused forms equal their specifications, forward and backward, and leave padding alone."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracles import GRANULARITIES, random_mixture
from torch import nn
from torch.autograd import forward_ad

from mixup_modalities import EmbeddingMixup, kernels
from mixup_modalities.kernels import lerp_rows, lerp_tokens, mix_lookup, mix_rows, mix_tokens
from mixup_modalities.mixture import draw_mixture

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-7, torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.complex64: 1e-6}
WIDTH, VOCABULARY = 5, 11


@pytest.fixture(autouse=True)
def fuse_small_batches_too(monkeypatch):
    monkeypatch.setattr(kernels, "SMALL", 0)


def texts(batch_size: int, length: int, seed: int):
    """Ids, a mask that is padded left and right, a table whose row for padding is NaN."""
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, VOCABULARY, (batch_size, length), generator=g)
    mask = (torch.rand(batch_size, length, generator=g) < 0.6).long()
    mask[:, length // 2] = 1
    table = torch.randn(VOCABULARY, WIDTH, generator=g)
    return ids, mask, table, torch.randn(batch_size, length, WIDTH, generator=g)


def gradients(function, x, gradient):
    x = x.clone().requires_grad_()
    y = function(x)
    return y.detach(), torch.autograd.grad(y, x, gradient)[0]


@given(st.integers(1, 9), st.integers(1, 6), GRANULARITIES, st.integers(0, 10_000), st.booleans())
def test_mix_tokens_equals_its_specification(batch_size, length, per, seed, one_to_one):
    _, mask, _, x = texts(batch_size, length, seed)
    mixture = random_mixture(batch_size, per, seed)
    partner = torch.randperm(batch_size, generator=torch.Generator().manual_seed(seed)) if one_to_one else None
    partner = mixture.partner if partner is None else partner
    x[mask == 0] = float("nan")
    gradient = torch.randn_like(x)
    got = gradients(lambda v: mix_tokens(v, mask, partner, mixture.lam), x, gradient)
    wide = gradients(lambda v: lerp_rows(v.masked_fill(mask.unsqueeze(-1) == 0, 0), partner, mixture.lam), x, gradient)
    for fused, plain in zip(got, wide):
        assert fused.isfinite().all()
        torch.testing.assert_close(fused, plain, **CLOSE)


@given(st.integers(1, 9), st.integers(1, 6), GRANULARITIES, st.integers(0, 10_000), st.booleans())
def test_mix_lookup_equals_looking_up_and_mixing(batch_size, length, per, seed, padded):
    ids, mask, table, gradient = texts(batch_size, length, seed)
    mask = mask if padded else None
    m = random_mixture(batch_size, per, seed)

    def two_steps(weight):
        x = F.embedding(ids, weight)
        return lerp_rows(x, m.partner, m.lam) if mask is None else lerp_tokens(x, mask, m.partner, m.lam)

    got = gradients(lambda weight: mix_lookup(weight, ids, mask, m.partner, m.lam), table, gradient)
    for fused, plain in zip(got, gradients(two_steps, table, gradient)):
        torch.testing.assert_close(fused, plain, **CLOSE)


@given(st.integers(1, 9), GRANULARITIES, st.integers(0, 10_000), st.booleans(), st.sampled_from(list(ROUNDING)))
def test_rows_mixed_one_by_one_equal_their_specification(batch_size, per, seed, one_to_one, dtype):
    g = torch.Generator().manual_seed(seed)
    x, gradient = (torch.randn(batch_size, 2, 3, generator=g).to(dtype) for _ in range(2))
    m = random_mixture(batch_size, per, seed)
    partner = torch.randperm(batch_size, generator=g) if one_to_one else m.partner
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "LONG", 0)
        got = gradients(lambda v: mix_rows(v, partner, m.lam), x, gradient)
    for fused, plain in zip(got, gradients(lambda v: lerp_rows(v, partner, m.lam), x, gradient)):
        torch.testing.assert_close(fused, plain, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


@pytest.mark.parametrize("long", [0, 1 << 19])
def test_a_row_that_no_weight_falls_on_is_not_read(monkeypatch, long):
    monkeypatch.setattr(kernels, "LONG", long)
    ids, mask, table, _ = texts(4, 6, seed=1)
    ids[mask == 0], table[0] = 0, float("nan")
    m = draw_mixture(4, 1.0, generator=torch.Generator().manual_seed(1))
    assert mix_lookup(table, ids, mask, m.partner, m.lam).isfinite().all()
    x = torch.randn(3, 7)
    x[1] = float("inf")
    pure = torch.tensor([1.0, 1.0, 0.0])
    mixed = mix_rows(x, torch.tensor([1, 2, 0]), pure)
    assert torch.equal(mixed, x[[0, 1, 0]])
    back = gradients(lambda v: mix_rows(v, torch.tensor([1, 2, 0]), pure), torch.randn(3, 7), x)[1]
    assert torch.equal(back, torch.stack([x[0] + x[2], x[1], torch.zeros(7)]))


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_second_derivatives_pass_through_mixed_tokens(per):
    _, mask, _, x = texts(4, 3, seed=2)
    m = draw_mixture(4, 1.0, per=per, generator=torch.Generator().manual_seed(2))

    def penalty(mix):
        v = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(mix(v).pow(3).sum(), v, create_graph=True)
        return torch.autograd.grad(slope.pow(2).sum(), v)[0]

    fused = penalty(lambda v: mix_tokens(v, mask, m.partner, m.lam))
    plain = penalty(lambda v: lerp_rows(v.masked_fill(mask.unsqueeze(-1) == 0, 0), m.partner, m.lam))
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own forward mode
def test_forward_mode_passes_through_mixed_and_through_looked_up_tokens():
    ids, mask, table, x = texts(4, 3, seed=5)
    m = draw_mixture(4, 1.0, generator=torch.Generator().manual_seed(5))
    functions = {
        lambda v: mix_tokens(v, mask, m.partner, m.lam): x,
        lambda v: mix_lookup(v, ids, mask, m.partner, m.lam): table,
    }
    for mix, point in functions.items():
        along = torch.randn(point.shape, generator=torch.Generator().manual_seed(6))
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(mix(forward_ad.make_dual(point, along))).tangent
        torch.testing.assert_close(tangent, mix(along), **CLOSE)  # mixing is linear


@pytest.mark.parametrize("options", [{}, {"padding_idx": 0}, {"max_norm": 1.0}, {"scale_grad_by_freq": True}, "hooked"])
@pytest.mark.parametrize("lam_by_length", [False, True])
def test_lookup_is_the_module_called_on_looked_up_embeddings(options, lam_by_length):
    ids, mask, _, gradient = texts(5, 4, seed=3)
    results = []
    for fused in (True, False):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            embedding = nn.Embedding(VOCABULARY, WIDTH, **(options if isinstance(options, dict) else {}))
        if options == "hooked":
            embedding.register_forward_hook(lambda module, args, output: 2 * output)
        mixup, g = EmbeddingMixup(1.0, lam_by_length=lam_by_length), torch.Generator().manual_seed(4)
        if fused:
            mixed, union, mixture = mixup.lookup(embedding, ids, mask, generator=g)
        else:
            mixed, union, mixture = mixup(embedding(ids), mask, generator=g)
        mixed.backward(gradient)
        results.append((mixed.detach(), union, mixture.lam, mixture.partner, embedding.weight.grad))
    for fused, plain in zip(*results):
        torch.testing.assert_close(fused, plain, **CLOSE)


def test_a_padding_token_that_is_not_masked_gets_no_gradient():
    embedding = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
    ids = torch.tensor([[3, 0], [4, 5]])
    mixed, _, _ = EmbeddingMixup(1.0).lookup(embedding, ids, torch.ones_like(ids))
    mixed.sum().backward()
    assert not embedding.weight.grad[0].any() and embedding.weight.grad[3:6].any()


def test_lookup_in_evaluation_is_the_embedding_itself():
    embedding = nn.Embedding(VOCABULARY, WIDTH)
    ids, mask, _, _ = texts(3, 4, seed=5)
    mixed, union, mixture = EmbeddingMixup(1.0).eval().lookup(embedding, ids, mask)
    assert torch.equal(mixed, embedding(ids)) and torch.equal(union, mask)
    assert torch.equal(mixture.lam, torch.ones(()))


@pytest.mark.parametrize(
    ("ids", "mask", "error", "words"),
    [
        (torch.rand(2, 3), None, TypeError, "input_ids.*int64.*float32"),
        (torch.tensor([1, 2]), None, ValueError, r"input_ids.*\(B, T\).*\(2,\)"),
        (torch.tensor([[1, VOCABULARY]]), None, ValueError, r"input_ids.*\[0, 11\), got 11"),
        (torch.tensor([[1, -1]]), None, ValueError, r"input_ids.*got -1"),
        (torch.tensor([[1, 2]]), torch.ones(2, 2), ValueError, "attention_mask.*shape"),
        (torch.tensor([[1, 2]]), torch.tensor([[2, 1]]), ValueError, "attention_mask.*got 2"),
        (torch.tensor([[1, 2]]), torch.tensor([[0, 0]]), ValueError, "attention_mask.*all zero"),
    ],
)
def test_lookup_says_what_is_wrong(ids, mask, error, words):
    with pytest.raises(error, match=words):
        EmbeddingMixup(1.0).lookup(nn.Embedding(VOCABULARY, WIDTH), ids, mask)
