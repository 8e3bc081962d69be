"""Mixture and draw_mixture against a slow loop and against scipy, on every shape, dtype, layout and granularity."""

import copy
import math
import pickle
import random
from collections import Counter
from dataclasses import FrozenInstanceError
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracles import DTYPES, GRANULARITIES, LAYOUTS, batch_like, laid_out, loop_mix, loop_targets, random_mixture
from scipy import stats
from torch import nn
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.autograd import forward_ad
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from mixup_modalities import Mixture, draw_mixture

SEEDS = st.integers(0, 2**32)
SETTINGS = [(per, pairing) for per in ("batch", "pair", "sample") for pairing in ("shuffle", "roll", "flip")]


@pytest.fixture
def fresh_compiler():
    """Nothing compiled by another test counts against this one's recompilations."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- mixing ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 7), st.lists(st.integers(0, 4), max_size=4), DTYPES, LAYOUTS, GRANULARITIES, SEEDS)
def test_mix_is_the_loop_for_every_shape_dtype_and_layout(device, batch_size, shape, dtype, layout, per, seed):
    x = laid_out(batch_like((batch_size, *shape), dtype, seed), layout).to(device)
    mixture = random_mixture(batch_size, per, seed).to(device)
    before, mixed = x.clone(), mixture.mix(x)
    exact = loop_mix(x, mixture)
    assert (mixed.shape, mixed.dtype, mixed.device) == (x.shape, x.dtype, x.device)
    assert mixed.stride() == torch.empty_like(x).stride()
    assert x.numel() == 0 or mixed.data_ptr() != x.data_ptr()
    # Half precision is rounded once, at the end: half a unit in the last place.
    narrow = dtype in (torch.float16, torch.bfloat16)
    wide = torch.promote_types(dtype, torch.float32)
    rtol = 0.501 * torch.finfo(dtype).eps if narrow else 8 * torch.finfo(dtype).eps
    assert_close(mixed.to(exact.dtype), exact, rtol=rtol, atol=16 * torch.finfo(wide).eps, equal_nan=True)
    assert torch.equal(x, before)


@given(st.integers(1, 6), GRANULARITIES, SEEDS)
def test_matrix_targets_and_mix_are_one_linear_map(batch_size, per, seed):
    mixture = random_mixture(batch_size, per, seed)
    w = mixture.matrix()
    eye = torch.eye(batch_size)
    assert w.dtype == torch.float32
    assert_close(w, loop_mix(eye, mixture).float())
    assert bool((w >= 0).all())
    assert_close(w.sum(1), torch.ones(batch_size))
    x = batch_like((batch_size, 3), torch.float32, seed)
    assert_close(mixture.mix(x), w @ x)
    y = torch.randint(5, (batch_size,), generator=generator(seed))
    assert_close(mixture.targets(y, 5), w @ F.one_hot(y, 5).float())
    assert_close(mixture.targets(torch.arange(batch_size), batch_size), w)


def test_a_coefficient_of_zero_or_one_is_exact(device):
    x = batch_like((3, 5), torch.float32, 0).to(device)
    mixture = Mixture(torch.tensor([0.0, 1.0, 0.5]), torch.tensor([1, 2, 0])).to(device)
    mixed = mixture.mix(x)
    assert torch.equal(mixed[0], x[1])
    assert torch.equal(mixed[1], x[1])
    identity = Mixture.identity(3, device).mix(x)
    assert torch.equal(identity, x)
    assert identity.data_ptr() != x.data_ptr()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own forward mode
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("per", ["batch", "sample"])
@pytest.mark.parametrize("partner", [[1, 2, 3, 0], [0, 0, 2, 0], [3, 2, 1, 0]], ids=["cycle", "repeats", "flip"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
def test_gradients_of_both_rows(dtype, per, partner, layout):
    lam = torch.tensor([0.3, 0.9, 0.0, 0.55]) if per == "sample" else torch.tensor(0.3)
    mixture = Mixture(lam, torch.tensor(partner))
    x = laid_out(batch_like((4, 2, 1, 2), dtype, 0), layout).requires_grad_()
    assert torch.autograd.gradcheck(mixture.mix, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(mixture.mix, x)
    rows = batch_like((4,), torch.float64, 0)
    expected = mixture.matrix().double()
    for jacobian in (torch.func.jacrev, torch.func.jacfwd, lambda f: partial(torch.autograd.functional.jacobian, f)):
        assert_close(jacobian(mixture.mix)(rows), expected, rtol=0, atol=1e-7)


def test_gradient_reaches_lam():
    lam = torch.tensor([0.3, 0.6], requires_grad=True)
    x = batch_like((2, 3), torch.float32, 0)
    Mixture(lam, torch.tensor([1, 0])).mix(x).sum().backward()
    assert_close(lam.grad, (x - x.flip(0)).sum(1))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_every_transform_of_lam_and_of_the_partners_sees_them():
    x, partner, lam = batch_like((4, 3), torch.float64, 0), torch.tensor([1, 2, 3, 0]), torch.tensor(0.3)
    slope = x - x[partner]

    def mix(lam):
        return Mixture(lam, partner).mix(x)

    assert_close(torch.func.jvp(mix, (lam,), (torch.tensor(1.0),))[1], slope)
    for jacobian in (torch.func.jacfwd, torch.func.jacrev):
        assert_close(jacobian(mix)(lam), slope, check_dtype=False)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(lam, torch.tensor(2.0))
        assert_close(forward_ad.unpack_dual(mix(dual)).tangent, 2 * slope)
    several = torch.tensor([0.1, 0.5])
    assert_close(torch.func.vmap(mix)(several), torch.stack([mix(one) for one in several]))
    partners = torch.stack([partner, partner.flip(0)])
    both = torch.func.vmap(lambda p: Mixture(lam, p).mix(x))(partners)
    assert_close(both, torch.stack([Mixture(lam, p).mix(x) for p in partners]))


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_second_derivatives_whatever_the_layout_of_the_gradient(per):
    """`sum` hands back an expanded gradient, `vectorize` a batch of them: neither has rows that are dense in memory."""
    mixture, x = random_mixture(4, per, 3), batch_like((4, 3), torch.float64, 3).requires_grad_()
    w = mixture.matrix().double()
    (slope,) = torch.autograd.grad((mixture.mix(x) ** 3).sum(), x, create_graph=True)
    (got,) = torch.autograd.grad(slope.sum(), x)
    assert_close(got, w.T @ (6 * (w @ x)), rtol=1e-6, atol=1e-6)  # the rows of W sum to one

    def cubes(v):
        return (mixture.mix(v) ** 3).sum()

    hessian = torch.autograd.functional.hessian
    assert_close(hessian(cubes, x.detach(), vectorize=True), hessian(cubes, x.detach()))


def test_vmap_over_an_ensemble_of_batches():
    mixture, x = random_mixture(4, "sample", 1), batch_like((3, 4, 2), torch.float32, 1)
    assert_close(torch.func.vmap(mixture.mix)(x), torch.stack([mixture.mix(batch) for batch in x]))


# --- labels ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(1, 5), GRANULARITIES, st.sampled_from(["uint8", "int32", "int64"]), SEEDS)
def test_targets_are_the_loop(batch_size, num_classes, per, dtype, seed):
    mixture = random_mixture(batch_size, per, seed)
    y = torch.randint(num_classes, (batch_size,), generator=generator(seed)).to(getattr(torch, dtype))
    targets = mixture.targets(y, num_classes)
    assert targets.dtype == torch.float32
    assert_close(targets, loop_targets(y, num_classes, mixture).float())
    assert_close(targets.sum(1), torch.ones(batch_size))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 3)], ids=str)
def test_floating_labels_are_mixed_as_they_are_and_never_narrowed(dtype, shape):
    mixture, y = random_mixture(4, "sample", 3), batch_like(shape, dtype, 3)
    before, targets = y.clone(), mixture.targets(y)
    assert targets.dtype == torch.promote_types(dtype, torch.float32)
    assert_close(targets, loop_mix(y, mixture).to(targets.dtype))
    assert torch.equal(y, before)


def test_labels_keep_every_bit_of_lam_when_the_features_are_bfloat16():
    lam = torch.tensor(0.7123456)
    mixture = Mixture(lam, torch.tensor([1, 0]))
    mixture.mix(torch.ones(2, 3, dtype=torch.bfloat16))
    assert mixture.lam.item() == lam.item()
    assert mixture.targets(torch.tensor([0, 1]), 2)[0, 0] == lam


# --- the loss --------------------------------------------------------------------------------------------------------

LOSSES = {
    "cross entropy": (F.cross_entropy, (4, 3), torch.tensor([0, 2, 1, 1])),
    "cross entropy per pixel": (F.cross_entropy, (4, 3, 2, 2), torch.arange(16).reshape(4, 2, 2) % 3),
    "weighted": (partial(F.cross_entropy, weight=torch.tensor([1.0, 2, 3])), (4, 3), torch.tensor([0, 2, 1, 1])),
    "multi-label": (F.binary_cross_entropy_with_logits, (4, 3), torch.tensor([[0.0, 1, 1]] * 2 + [[1.0, 0, 0]] * 2)),
    "regression": (F.mse_loss, (4, 2), torch.arange(8.0).reshape(4, 2)),
    "module": (nn.CrossEntropyLoss(reduction="none"), (4, 3), torch.tensor([0, 2, 1, 1])),
    "callable": (lambda f, y: f.argmax(1) != y, (4, 3), torch.tensor([0, 2, 1, 1])),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_loss_is_the_mean_of_the_weighted_losses_of_each_row(device, name, per):
    loss_fn, shape, y = LOSSES[name]
    if isinstance(loss_fn, partial):
        loss_fn = partial(F.cross_entropy, weight=loss_fn.keywords["weight"].to(device))
    mixture, prediction, y = (
        random_mixture(4, per, 5).to(device),
        batch_like(shape, torch.float32, 5).to(device),
        y.to(device),
    )
    keywords = {} if name in ("module", "callable") else {"reduction": "none"}
    rows = []
    for i in range(4):
        lam = mixture.lam.expand(4)[i]
        own, other = (loss_fn(prediction[i : i + 1], y[j : j + 1], **keywords) for j in (i, mixture.partner[i]))
        rows.append((lam * own + (1 - lam) * other).mean())
    assert_close(mixture.loss(loss_fn, prediction, y), torch.stack(rows).mean())


def test_cross_entropy_is_linear_in_the_target_and_the_squared_error_is_not():
    mixture, f = random_mixture(6, "sample", 2), batch_like((6, 3), torch.float32, 2)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    assert_close(mixture.loss(F.cross_entropy, f, y), F.cross_entropy(f, mixture.targets(y, 3)))
    z = F.one_hot(y, 3).float()
    assert mixture.loss(F.mse_loss, f, z) > F.mse_loss(f, mixture.targets(z)) + 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_a_half_precision_loss_is_averaged_in_float32(dtype, per):
    mixture, f = random_mixture(4, per, 1), batch_like((4, 3), dtype, 1)
    loss = mixture.loss(F.cross_entropy, f, torch.tensor([0, 1, 2, 0]))
    assert loss.dtype == torch.float32


@pytest.mark.parametrize(
    "loss_fn",
    [
        nn.CrossEntropyLoss(),
        lambda f, y: F.cross_entropy(f, y),
        lambda f, y: F.cross_entropy(f, y).item(),
        lambda f, y: f,
    ],
    ids=["module", "lambda", "number", "flat"],
)
def test_a_loss_that_is_not_one_a_row_is_refused(loss_fn):
    prediction = torch.zeros(4, 3)
    if loss_fn(prediction, torch.zeros(4).long()) is prediction:
        loss_fn = lambda f, y: f.flatten()  # noqa: E731
    with pytest.raises(ValueError, match=r"loss_fn: expected one loss per row, shape \(4, \.\.\.\), got .*unreduced"):
        Mixture.identity(4).loss(loss_fn, prediction, torch.zeros(4).long())


# --- drawing ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.sampled_from(SETTINGS), st.floats(1e-4, 100), SEEDS)
def test_a_drawn_mixture_has_the_shapes_and_the_pairing_it_was_asked_for(batch_size, setting, alpha, seed):
    per, pairing = setting
    mixture = draw_mixture(batch_size, alpha, per=per, pairing=pairing, generator=generator(seed))
    rows, partner, lam = torch.arange(batch_size), mixture.partner, mixture.lam
    assert len(mixture) == batch_size
    assert (lam.dtype, lam.shape) == (torch.float32, () if per == "batch" else (batch_size,))
    assert bool(((lam >= 0) & (lam <= 1)).all())
    assert (partner.dtype, partner.sort().values.tolist()) == (torch.int64, rows.tolist())
    if per == "pair" or pairing == "flip":
        assert torch.equal(partner[partner], rows)
        assert int((partner == rows).sum()) == batch_size % 2
    if per == "pair":
        assert torch.equal(lam, lam[partner])
        assert len(lam.unique()) >= math.ceil(batch_size / 2) or alpha < 10  # tiny alphas give many exact 0 and 1
    if pairing == "flip":
        assert torch.equal(partner, rows.flip(0))
    elif pairing == "roll":
        expected = [min(i ^ 1, batch_size - 1) for i in range(batch_size)] if per == "pair" else rows.roll(1).tolist()
        assert partner.tolist() == expected


@pytest.mark.parametrize(
    ("per", "batch_size", "count"), [("batch", 3, 6), ("sample", 4, 24), ("pair", 4, 3), ("pair", 5, 15)]
)
def test_shuffle_is_uniform(per, batch_size, count):
    g = generator(7)
    draws = [tuple(draw_mixture(batch_size, 1.0, per=per, generator=g).partner.tolist()) for _ in range(100 * count)]
    seen = Counter(draws)
    assert len(seen) == count
    assert stats.chisquare(list(seen.values())).pvalue > 1e-6


ALPHAS = [1e-4, 1e-3, 0.01, 0.1, 0.2, 1.0, 4.0, 32.0]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_lam_is_beta_down_to_tiny_alpha(alpha):
    """Dvoretzky-Kiefer-Wolfowitz at level 1e-9, on a grid that reaches where float32 ends and avoids its last steps."""
    n = 400_000
    lam = draw_mixture(n, alpha, per="sample", generator=generator(11)).lam.double().numpy()
    assert np.isfinite(lam).all()
    low = np.geomspace(1e-37, 0.5, 2000)
    grid = np.concatenate([low, 1 - np.geomspace(1e-6, 0.5, 2000)])
    empirical = np.searchsorted(np.sort(lam), grid, side="right") / n
    assert np.abs(empirical - stats.beta.cdf(grid, alpha, alpha)).max() < math.sqrt(math.log(2e9) / (2 * n))
    expected = np.diff(stats.beta.cdf([0.49, 0.51], alpha, alpha)).item()
    assert abs(((lam > 0.49) & (lam < 0.51)).mean() - expected) < 6 * math.sqrt(expected / n) + 1e-4
    assert (lam == 0.5).mean() < 1e-4
    for power, moment in ((1, 0.5), (2, 0.25 / (2 * alpha + 1))):
        values = lam if power == 1 else (lam - 0.5) ** 2
        assert abs(values.mean() - moment) < 6 * values.std() / math.sqrt(n)


@pytest.mark.parametrize("per", ["batch", "pair"])
def test_lam_is_beta_call_after_call(per):
    g = generator(3)
    lam = [draw_mixture(2, 0.4, per=per, generator=g).lam.reshape(-1)[0].item() for _ in range(2000)]
    assert stats.kstest(lam, stats.beta(0.4, 0.4).cdf).pvalue > 1e-6


@pytest.mark.parametrize("alpha", [5e-324, 1e-30, 1e-8, 1e6, 1e100])
def test_extreme_alpha_stays_a_coefficient(alpha):
    lam = draw_mixture(1000, alpha, per="sample", generator=generator(0)).lam
    assert bool(((lam >= 0) & (lam <= 1)).all())
    assert 0.4 < lam.mean() < 0.6
    assert bool(((lam < 1e-3) | (lam > 1 - 1e-3)).all()) if alpha < 1 else lam.std() < 1e-3


@pytest.mark.parametrize("setting", SETTINGS, ids="-".join)
def test_randomness_is_an_argument(setting):
    per, pairing = setting
    states = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002
    g = generator(5)
    first, second = (draw_mixture(33, 0.7, per=per, pairing=pairing, generator=g) for _ in range(2))
    torch.manual_seed(1)
    again = draw_mixture(33, 0.7, per=per, pairing=pairing, generator=generator(5))
    assert torch.equal(first.lam, again.lam)
    assert torch.equal(first.partner, again.partner)
    assert not torch.equal(first.lam, second.lam)
    if pairing == "shuffle":
        assert not torch.equal(first.partner, second.partner)
    torch.set_rng_state(states[0])
    assert not torch.equal(draw_mixture(33, 0.7, per="sample").lam, first.lam)
    torch.set_rng_state(states[0])
    draw_mixture(33, 0.7, per=per, pairing=pairing, generator=g)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert repr(np.random.get_state()) == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]


def test_without_a_generator_torch_is_seeded_as_usual():
    states = repr(np.random.get_state()), random.getstate()  # noqa: NPY002
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(draw_mixture(20, 1.0, per="sample"))
    assert torch.equal(draws[0].lam, draws[1].lam)
    assert torch.equal(draws[0].partner, draws[1].partner)
    assert (repr(np.random.get_state()), random.getstate()) == states  # noqa: NPY002


def test_alpha_zero_is_the_identity_and_draws_nothing():
    g = generator(1)
    before = g.get_state()
    mixture = draw_mixture(5, 0, per="sample", generator=g)
    assert torch.equal(mixture.matrix(), torch.eye(5))
    assert torch.equal(g.get_state(), before)


@pytest.mark.parametrize("setting", SETTINGS, ids="-".join)
def test_a_seed_gives_the_same_mixture_on_every_device(device, setting):
    per, pairing = setting
    here = draw_mixture(9, 0.3, per=per, pairing=pairing, generator=generator(2), device=device)
    there = draw_mixture(9, 0.3, per=per, pairing=pairing, generator=generator(2))
    assert here.lam.device.type == here.partner.device.type == device.type
    assert torch.equal(here.lam.cpu(), there.lam)
    assert torch.equal(here.partner.cpu(), there.partner)


def test_default_device_and_default_dtype_change_nothing_but_the_device():
    expected = draw_mixture(6, 0.5, per="pair", generator=generator(4))
    with torch.device("meta"):
        assert draw_mixture(6, 0.5, generator=generator(4)).lam.device.type == "meta"
        drawn = draw_mixture(6, 0.5, per="pair", generator=generator(4), device="cpu")
        x = torch.ones(6, 2, device="cpu", requires_grad=True)
        drawn.mix(x).sum().backward()
    torch.set_default_dtype(torch.float64)
    try:
        wide = draw_mixture(6, 0.5, per="pair", generator=generator(4))
        assert wide.matrix().dtype == wide.targets(torch.arange(6), 6).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
    for mixture in (drawn, wide):
        assert torch.equal(mixture.lam, expected.lam)
        assert torch.equal(mixture.partner, expected.partner)


# --- compiled, and without waiting for the device --------------------------------------------------------------------


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_compiles_without_a_graph_break(device, per):
    mixture, x = random_mixture(6, per, 1).to(device), batch_like((6, 3), torch.float32, 1).to(device)
    y = torch.tensor([0, 1, 2, 2, 1, 0], device=device)

    def step(mixture, x, y):
        mixed = mixture.mix(x)
        return mixed, mixture.targets(y, 3), mixture.loss(F.cross_entropy, mixed, y), mixture.matrix()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert_close(compiled(mixture, x.requires_grad_(), y), step(mixture, x, y))
    gradients = [torch.autograd.grad(f(mixture, x, y)[2], x)[0] for f in (compiled, step)]
    assert_close(*gradients)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("setting", SETTINGS, ids="-".join)
def test_drawing_compiles_and_stays_random(setting):
    per, pairing = setting
    draw = torch.compile(partial(draw_mixture, per=per, pairing=pairing), fullgraph=True, backend="eager")
    torch.manual_seed(0)
    drawn = [draw(9, 0.5) for _ in range(2)]
    torch.manual_seed(0)
    for mixture in drawn:
        expected = draw_mixture(9, 0.5, per=per, pairing=pairing)
        assert torch.equal(mixture.lam, expected.lam)
        assert torch.equal(mixture.partner, expected.partner)


@pytest.mark.usefixtures("fresh_compiler")
def test_a_changing_alpha_and_batch_size_do_not_compile_again_and_again():
    compiles = []

    def backend(graph, inputs):
        compiles.append(graph)
        return graph.forward

    draw = torch.compile(partial(draw_mixture, per="pair"), fullgraph=True, backend=backend)
    for step in range(12):
        assert len(draw(4 + step, 0.1 * step)) == 4 + step
    assert len(compiles) <= 5


@pytest.mark.parametrize("setting", SETTINGS, ids="-".join)
def test_nothing_waits_for_the_device(setting):
    """Tensors of a device that is not there raise where a value would be read back from it."""
    per, pairing = setting
    with FakeTensorMode():
        x, y = torch.empty(5, 3, device="cuda"), torch.empty(5, dtype=torch.int64, device="cuda")
        with pytest.raises(DataDependentOutputException):
            x.sum().item()
        mixture = draw_mixture(5, 0.2, per=per, pairing=pairing, device="cuda")
        results = mixture.mix(x), mixture.matrix(), mixture.targets(y, 3), mixture.loss(F.cross_entropy, x, y)
        assert {r.device.type for r in results} == {"cuda"}
        assert Mixture.identity(5, "cuda").mix(x).device.type == "cuda"


def test_a_mixture_is_not_read_before_it_is_back_on_the_cpu():
    """A copy from a GPU that is not waited for lands in the result after the result may have been read."""
    waited = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            if op is torch.ops.aten._to_copy.default and "device" in kwargs:
                waited.append((kwargs["device"].type, not kwargs.get("non_blocking")))
            return op(*args, **(kwargs or {}))

    with FakeTensorMode(), Watch():
        draw_mixture(5, 0.2, device="cuda").to("cpu")
    assert waited == [("cuda", False)] * 2 + [("cpu", True)] * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: the fake one above stands in for it")
def test_nothing_waits_for_a_real_gpu():
    x, y = torch.randn(5, 3, device="cuda", requires_grad=True), torch.zeros(5, dtype=torch.int64, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for per, pairing in SETTINGS:
            mixture = draw_mixture(5, 0.2, per=per, pairing=pairing, device="cuda")
            mixture.loss(F.cross_entropy, mixture.mix(x), y).backward()
            mixture.targets(y, 3)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- the object ------------------------------------------------------------------------------------------------------


def test_frozen_copied_and_pickled():
    mixture = random_mixture(4, "sample", 0)
    with pytest.raises(FrozenInstanceError):
        mixture.lam = torch.ones(())
    for twin in (copy.deepcopy(mixture), pickle.loads(pickle.dumps(mixture)), mixture.to("cpu")):
        assert torch.equal(twin.lam, mixture.lam)
        assert torch.equal(twin.partner, mixture.partner)


def test_lam_of_another_precision_becomes_float32():
    assert Mixture(torch.tensor(0.25, dtype=torch.float64), torch.tensor([0])).lam.dtype == torch.float32


ROWS, HALF = torch.tensor([1, 0]), torch.tensor(0.5)
BAD = {
    "lam above 1": (lambda: Mixture(torch.tensor(1.5), ROWS), ValueError, r"lam: .*\[0, 1\], got values from 1\.5"),
    "lam below 0": (
        lambda: Mixture(torch.tensor([0.5, -0.1]), ROWS),
        ValueError,
        r"lam: .*got values from -0\.1 to 0\.5",
    ),
    "lam NaN": (lambda: Mixture(torch.tensor(math.nan), ROWS), ValueError, r"lam: .*got values from nan"),
    "lam integer": (lambda: Mixture(torch.tensor(1), ROWS), TypeError, r"lam: expected a float32 .*got a torch.int64"),
    "lam a number": (lambda: Mixture(0.5, ROWS), TypeError, r"lam: expected a float32 tensor .*got float 0\.5"),
    "lam of another batch": (
        lambda: Mixture(torch.rand(3), ROWS),
        ValueError,
        r"lam: expected shape \(\) or \(2,\).*got \(3,\)",
    ),
    "lam a matrix": (lambda: Mixture(torch.rand(2, 1), ROWS), ValueError, r"lam: expected shape .*got \(2, 1\)"),
    "partner out of range": (
        lambda: Mixture(HALF, torch.tensor([0, 2])),
        ValueError,
        r"partner: .*from 0 to 1, got values from 0 to 2",
    ),
    "partner negative": (
        lambda: Mixture(HALF, torch.tensor([-1, 0])),
        ValueError,
        r"partner: expected row numbers .*from -1",
    ),
    "partner floating": (
        lambda: Mixture(HALF, torch.zeros(2)),
        TypeError,
        r"partner: expected an int64 .*got a torch.float32",
    ),
    "partner a list": (lambda: Mixture(HALF, [1, 0]), TypeError, r"partner: expected an int64 tensor .*got list"),
    "partner empty": (
        lambda: Mixture(HALF, ROWS[:0]),
        ValueError,
        r"partner: expected shape \(B,\) with B >= 1, got \(0,\)",
    ),
    "two devices": (lambda: Mixture(HALF.to("meta"), ROWS), ValueError, r"lam is on meta but partner is on cpu"),
    "identity of none": (lambda: Mixture.identity(0), ValueError, r"batch_size: expected at least one row, got 0"),
    "B = 0": (lambda: draw_mixture(0, 1.0), ValueError, r"batch_size: expected at least one row, got 0"),
    "B fractional": (
        lambda: draw_mixture(2.0, 1.0),
        TypeError,
        r"batch_size: expected an integer >= 1, got float 2\.0",
    ),
    "B boolean": (lambda: draw_mixture(True, 1.0), TypeError, r"batch_size: expected an integer >= 1, got bool True"),
    "alpha negative": (lambda: draw_mixture(2, -0.1), ValueError, r"alpha: expected a finite number >= 0, got -0\.1"),
    "alpha NaN": (lambda: draw_mixture(2, math.nan), ValueError, r"alpha: expected a finite number >= 0, got nan"),
    "alpha infinite": (lambda: draw_mixture(2, math.inf), ValueError, r"alpha: expected a finite number >= 0, got inf"),
    "alpha text": (lambda: draw_mixture(2, "0.2"), TypeError, r"alpha: expected a number >= 0, got str '0\.2'"),
    "alpha boolean": (
        lambda: draw_mixture(2, np.True_),
        TypeError,
        r"alpha: expected a number >= 0, got bool",
    ),
    "alpha complex": (
        lambda: draw_mixture(2, torch.tensor(1j)),
        TypeError,
        r"alpha: expected a number >= 0, got a torch\.complex64 tensor",
    ),
    "B a boolean tensor": (
        lambda: draw_mixture(torch.tensor(True), 1.0),
        TypeError,
        r"batch_size: expected an integer >= 1, got a torch\.bool tensor",
    ),
    "alpha missing": (lambda: draw_mixture(2, None), TypeError, r"alpha: expected a number >= 0, got NoneType None"),
    "alpha two numbers": (
        lambda: draw_mixture(2, torch.ones(2)),
        TypeError,
        r"alpha: expected a number >= 0, got a torch.float32",
    ),
    "per": (
        lambda: draw_mixture(2, 1.0, per="row"),
        ValueError,
        r"per: expected one of 'batch', 'pair', 'sample', got 'row'",
    ),
    "pairing": (
        lambda: draw_mixture(2, 1.0, pairing=None),
        ValueError,
        r"pairing: expected one of 'shuffle', 'roll', 'flip', got None",
    ),
    "generator": (
        lambda: draw_mixture(2, 1.0, generator=7),
        TypeError,
        r"generator: expected a torch.Generator or None, got int 7",
    ),
    "x integer": (
        lambda: Mixture.identity(2).mix(torch.zeros(2, 3, dtype=torch.uint8)),
        TypeError,
        r"x: expected floating .*got torch.uint8.*x\.float\(\) / 255",
    ),
    "x an array": (
        lambda: Mixture.identity(2).mix(np.zeros((2, 3))),
        TypeError,
        r"x: expected a tensor of shape \(2, \.\.\.\), got ndarray",
    ),
    "x of another batch": (
        lambda: Mixture.identity(2).mix(torch.zeros(3, 2)),
        ValueError,
        r"x: expected shape \(2, \.\.\.\) as the mixture has, got \(3, 2\)",
    ),
    "x a number": (
        lambda: Mixture.identity(2).mix(torch.tensor(1.0)),
        ValueError,
        r"x: expected shape \(2, \.\.\.\).*got \(\)",
    ),
    "x elsewhere": (
        lambda: Mixture.identity(2).mix(torch.zeros(2, device="meta")),
        ValueError,
        r"x is on meta but the mixture is on cpu: use mixture\.to\('meta'\)",
    ),
    "y without num_classes": (
        lambda: Mixture.identity(2).targets(ROWS),
        ValueError,
        r"num_classes: expected the number of classes, got None",
    ),
    "y out of range": (
        lambda: Mixture.identity(2).targets(torch.tensor([0, 3]), 3),
        ValueError,
        r"y: expected class indices from 0 to 2, got values from 0 to 3",
    ),
    "y negative": (
        lambda: Mixture.identity(2).targets(torch.tensor([0, -1]), 3),
        ValueError,
        r"y: expected class indices from 0 to 2, got values from -1 to 0",
    ),
    "y one-hot integers": (
        lambda: Mixture.identity(2).targets(torch.eye(2).long(), 2),
        TypeError,
        r"y: expected class indices .*got integers of shape \(2, 2\).*y\.float\(\)",
    ),
    "y one-hot integers alone": (
        lambda: Mixture.identity(2).targets(torch.eye(2).long()),
        TypeError,
        r"y: expected class indices .*got integers of shape \(2, 2\).*y\.float\(\)",
    ),
    "y boolean": (
        lambda: Mixture.identity(2).targets(torch.eye(2).bool(), 2),
        TypeError,
        r"y: expected integer class indices, got torch.bool",
    ),
    "y fractional indices": (
        lambda: Mixture.identity(2).targets(torch.tensor([0.0, 1.0]), 2),
        ValueError,
        r"y: floating labels of shape \(2,\) cannot have num_classes=2.*y\.long\(\)",
    ),
    "y soft of other width": (
        lambda: Mixture.identity(2).targets(torch.eye(2), 3),
        ValueError,
        r"y: floating labels of shape \(2, 2\) cannot have num_classes=3",
    ),
    "y complex": (
        lambda: Mixture.identity(2).targets(torch.zeros(2, dtype=torch.complex64)),
        TypeError,
        r"y: expected class indices or floating labels, got torch.complex64",
    ),
    "num_classes zero": (
        lambda: Mixture.identity(2).targets(ROWS, 0),
        ValueError,
        r"num_classes: expected an integer >= 1, got 0",
    ),
    "num_classes fractional": (
        lambda: Mixture.identity(2).targets(ROWS, 2.0),
        ValueError,
        r"num_classes: expected an integer >= 1, got 2\.0",
    ),
    "loss by name": (
        lambda: Mixture.identity(2).loss("ce", torch.zeros(2, 3), ROWS),
        TypeError,
        r"loss_fn: expected a callable loss_fn\(prediction, y\), got str 'ce'",
    ),
    "loss, shapes that broadcast": (
        lambda: Mixture.identity(2).loss(lambda f, y: (f - y) ** 2, torch.zeros(2, 1), torch.zeros(2)),
        ValueError,
        r"prediction and y: .*got \(2, 1\) and \(2,\), which loss_fn spread over \(2, 2\)",
    ),
    "loss of two heads": (
        lambda: Mixture.identity(2).loss(F.cross_entropy, (HALF, HALF), ROWS),
        TypeError,
        r"prediction: expected a tensor .*got tuple",
    ),
    "loss, labels of another batch": (
        lambda: Mixture.identity(2).loss(F.cross_entropy, torch.zeros(2, 3), torch.zeros(3).long()),
        ValueError,
        r"y: expected shape \(2, \.\.\.\).*got \(3,\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=f"(?s)^{message}"):
        call()


def test_sizes_and_counts_may_be_numpy_or_torch_integers():
    expected = draw_mixture(4, 0.5, generator=generator(0))
    for size in (np.int64(4), np.uint8(4), torch.tensor(4)):
        assert torch.equal(draw_mixture(size, 0.5, generator=generator(0)).partner, expected.partner)
        assert len(Mixture.identity(size)) == 4
        assert torch.equal(expected.targets(ROWS.repeat(2), size), expected.targets(ROWS.repeat(2), 4))


def test_alpha_may_be_a_numpy_or_torch_number():
    expected = draw_mixture(4, 0.5, generator=generator(0))
    for alpha in (np.float32(0.5), torch.tensor(0.5), np.array(0.5)):
        assert torch.equal(draw_mixture(4, alpha, generator=generator(0)).lam, expected.lam)
