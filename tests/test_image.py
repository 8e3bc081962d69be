"""ImageMixup and CutMix against torchvision, timm, kornia and plain loops."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import batch_like, laid_out, loop_mix
from scipy import stats
from torch._subclasses import FakeTensorMode
from torch.testing import assert_close
from torchvision.transforms import v2

from mixup_modalities import CutMix, ImageMixup, Mixture, draw_mixture

SEEDS = st.integers(0, 2**32)
SETTINGS = [(per, pairing) for per in ("batch", "pair", "sample") for pairing in ("shuffle", "roll", "flip")]
BOTH = pytest.mark.parametrize("module", [ImageMixup, CutMix], ids=lambda m: m.__name__)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(batch_size: int = 4, size: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (batch_size, 3, size, size), dtype=torch.uint8, generator=generator(seed))


# --- mixup -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS, ids="-".join)
def test_image_mixup_is_draw_mixture_then_mix(device, setting):
    per, pairing = setting
    x = batch_like((5, 3, 4, 4), torch.float32, 0).to(device)
    mixed, mixture = ImageMixup(0.4, per=per, pairing=pairing)(x, generator=generator(3))
    expected = draw_mixture(5, 0.4, per=per, pairing=pairing, generator=generator(3))
    assert torch.equal(mixture.lam.cpu(), expected.lam)
    assert torch.equal(mixture.partner.cpu(), expected.partner)
    assert mixture.lam.device.type == device.type
    assert_close(mixed, loop_mix(x, mixture).float())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed", "sliced"])
@BOTH
def test_dtype_and_layout_are_kept_and_lam_stays_float32(module, dtype, layout):
    x = laid_out(batch_like((4, 3, 6, 6), dtype, 0), layout)
    before = x.clone()
    mixed, mixture = module(1.0)(x, generator=generator(1))
    assert (mixed.dtype, mixed.shape) == (x.dtype, x.shape)
    assert mixed.stride() == torch.empty_like(x).stride()
    assert torch.equal(x, before)
    assert mixture.lam.dtype == torch.float32
    assert mixture.targets(torch.arange(4), 4).dtype == torch.float32


def test_images_of_any_rank_from_two_on():
    for shape in ((3, 7), (3, 1, 5), (3, 2, 4, 4), (3, 2, 2, 4, 4)):
        x = batch_like(shape, torch.float32, 0)
        mixed, mixture = ImageMixup(1.0)(x, generator=generator(0))
        assert_close(mixed, loop_mix(x, mixture).float())


# --- uint8, the fast path --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed", "sliced"])
@pytest.mark.parametrize("setting", SETTINGS, ids="-".join)
def test_uint8_is_normalised_then_mixed(device, dtype, layout, setting):
    if device.type == "mps" and dtype == torch.float64:
        pytest.skip("mps has no float64")
    per, pairing = setting
    u = laid_out(pixels(), layout).to(device)
    before = u.clone()
    module = ImageMixup(0.8, per=per, pairing=pairing, mean=MEAN, std=STD, dtype=dtype).to(device)
    mixed, mixture = module(u, generator=generator(2))
    normalised = v2.functional.normalize(v2.functional.to_dtype(u.cpu(), torch.float32, scale=True), MEAN, STD)
    expected = loop_mix(normalised, mixture.to("cpu"))
    assert (mixed.dtype, mixed.device, mixed.stride()) == (dtype, u.device, torch.empty_like(u).stride())
    tolerance = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    assert_close(mixed.cpu().double(), expected, rtol=0.51 * tolerance + 1e-6, atol=2e-6)
    assert torch.equal(u, before)


@given(st.integers(1, 5), st.integers(1, 4), st.booleans(), SEEDS)
def test_uint8_with_one_number_or_one_a_channel(batch_size, channels, each, seed):
    g = generator(seed)
    u = torch.randint(256, (batch_size, channels, 3, 2), dtype=torch.uint8, generator=g)
    mean = torch.rand(channels, generator=g) if each else 0.3
    std = 0.1 + torch.rand(channels if not each else 1, generator=g)
    mixed, mixture = ImageMixup(1.0, per="sample", mean=mean, std=std)(u, generator=g)
    shaped = [torch.as_tensor(v).reshape(-1, 1, 1) for v in (mean, std)]
    assert_close(mixed, loop_mix((u.float() / 255 - shaped[0]) / shaped[1], mixture).float())


@BOTH
def test_uint8_in_evaluation_is_only_normalised(module):
    u = pixels()
    out, mixture = module(1.0, mean=MEAN, std=STD).eval()(u)
    assert_close(out, v2.functional.normalize(u.float() / 255, MEAN, STD))
    assert torch.equal(mixture.matrix(), torch.eye(4))


@BOTH
def test_mean_and_std_follow_the_images_not_the_module(module):
    """A transform has no parameters: nobody thinks of moving it to the device, or of keeping it out of model.half()."""
    u = pixels()
    expected = module(1.0, mean=MEAN, std=STD)(u, generator=generator(1))[0]
    assert_close(module(1.0, mean=MEAN, std=STD).half()(u, generator=generator(1))[0], expected)
    m = module(1.0, mean=MEAN, std=STD)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        out, _ = m(fake.from_tensor(u).to("cuda"))
        assert out.device.type == "cuda"


# --- modes and settings ----------------------------------------------------------------------------------------------


@BOTH
def test_evaluation_and_alpha_zero_return_the_input(module):
    x = batch_like((4, 3, 6, 6), torch.float32, 0)
    g = generator(0)
    state = g.get_state()
    for m in (module(1.0).eval(), module(0.0)):
        out, mixture = m(x, generator=g)
        assert out is x
        assert torch.equal(mixture.matrix(), torch.eye(4))
    assert torch.equal(g.get_state(), state)
    m = module(1.0).eval().train()
    assert not torch.equal(m(x, generator=g)[1].matrix(), torch.eye(4))


@BOTH
def test_set_alpha(module):
    m, x = module(0.0, per="sample"), batch_like((50, 1, 8, 8), torch.float32, 0)
    for alpha in (1000, 0.05):
        m.set_alpha(alpha)
        assert torch.equal(m(x, generator=generator(0))[0], module(alpha, per="sample")(x, generator=generator(0))[0])
    for wrong in (-1, math.nan, "1"):
        with pytest.raises((ValueError, TypeError), match="alpha: expected"):
            m.set_alpha(wrong)
        assert m.alpha == 0.05


@BOTH
def test_copied_pickled_and_stateless(module):
    m = module(0.3, per="pair", pairing="flip", mean=MEAN, std=STD, dtype=torch.bfloat16)
    u = pixels()
    expected = m(u, generator=generator(0))[0]
    for twin in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert torch.equal(twin(u, generator=generator(0))[0], expected)
        assert repr(twin) == repr(m)
    assert m.state_dict() == {}
    assert list(m.parameters()) == []
    m.load_state_dict({})
    assert repr(m) == f"{module.__name__}(alpha=0.3, per='pair', pairing='flip', uint8 -> torch.bfloat16)"


@BOTH
def test_gradient_flows_to_the_images(module):
    x = batch_like((4, 1, 4, 4), torch.float64, 0).requires_grad_()

    def mixed(x):
        return module(1.0, per="sample")(x, generator=generator(5))[0]

    assert torch.autograd.gradcheck(mixed, x)
    assert torch.autograd.gradgradcheck(mixed, x)


@pytest.mark.parametrize("setting", SETTINGS, ids="-".join)
@BOTH
def test_a_seed_gives_the_same_images_and_moves_no_global_state(device, module, setting):
    per, pairing = setting
    m, x = module(1.0, per=per, pairing=pairing), batch_like((6, 3, 8, 8), torch.float32, 0)
    state = torch.get_rng_state()
    here = m(x, generator=generator(4))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    there = m(x.to(device), generator=generator(4))
    torch.set_rng_state(state)
    assert torch.equal(here[1].lam, there[1].lam.cpu())
    assert torch.equal(here[1].partner, there[1].partner.cpu())
    assert_close(here[0], there[0].cpu())


# --- CutMix ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.sampled_from(SETTINGS), SEEDS)
def test_cutmix_takes_one_box_from_the_partner_and_lam_is_what_is_kept(device, batch_size, size, setting, seed):
    per, pairing = setting
    x = torch.arange(batch_size * 2 * size[0] * size[1], dtype=torch.float32).reshape(
        batch_size, 2, *size
    )  # all differ
    cut, mixture = CutMix(1.0, per=per, pairing=pairing)(x.to(device), generator=generator(seed))
    cut, mixture = cut.cpu(), mixture.to("cpu")
    assert mixture.lam.shape == (() if per == "batch" else (batch_size,))
    boxes = []
    for i, partner in enumerate(mixture.partner.tolist()):
        taken = cut[i] != x[i]
        assert torch.equal(torch.where(taken, x[partner], x[i]), cut[i])
        assert torch.equal(taken[0], taken[1])  # channels are never torn apart
        rows, columns = taken[0].any(1), taken[0].any(0)
        assert torch.equal(taken[0], rows[:, None] & columns)  # a box, without holes
        assert all(edges.diff().abs().sum() <= 2 for edges in (rows.long(), columns.long()))
        boxes.append(taken[0])
        if partner != i:
            kept = torch.tensor(1 - taken[0].sum().item() / (size[0] * size[1]))
            assert_close(mixture.lam.expand(batch_size)[i], kept, rtol=0, atol=1e-7)
    if per == "batch":
        mixed = [box for i, box in enumerate(boxes) if mixture.partner[i] != i]
        assert all(torch.equal(box, mixed[0]) for box in mixed)
    if per == "pair":
        assert all(torch.equal(boxes[i], boxes[p]) for i, p in enumerate(mixture.partner.tolist()))


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize("size", [(16, 16), (9, 21)], ids=str)
def test_cutmix_keeps_as_much_as_torchvision(alpha, size):
    """The kept area follows the law of torchvision's CutMix: same boxes, same cut at the border."""
    ours = CutMix(alpha, per="sample", pairing="roll")(torch.zeros(3000, 1, *size), generator=generator(0))[1].lam
    torch.manual_seed(0)
    theirs, image = v2.CutMix(alpha=alpha, num_classes=2), torch.zeros(2, 1, *size)
    kept = [theirs.make_params([image])["lam_adjusted"] for _ in range(3000)]
    assert stats.ks_2samp(ours.numpy(), np.asarray(kept, dtype=np.float32)).pvalue > 1e-6


def test_cutmix_pastes_raw_pixels_and_normalises_if_asked():
    u = pixels(4, 8)
    raw, mixture = CutMix(1.0)(u, generator=generator(1))
    assert raw.dtype == torch.uint8
    normalised, again = CutMix(1.0, mean=MEAN, std=STD, dtype=torch.bfloat16)(u, generator=generator(1))
    assert torch.equal(mixture.matrix(), again.matrix())
    assert_close(normalised, v2.functional.normalize(raw.float() / 255, MEAN, STD).bfloat16())


# --- other people's mixups, given the same lam and pairing -----------------------------------------------------------


def lam_of(targets: torch.Tensor) -> torch.Tensor:
    return targets.diagonal().clone()


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_equals_torchvision(alpha):
    x, y = batch_like((6, 3, 4, 4), torch.float32, 0), torch.arange(6)
    torch.manual_seed(1)
    mixed, targets = v2.MixUp(alpha=alpha, num_classes=6)(x, y)
    mixture = Mixture(lam_of(targets), torch.arange(6).roll(1))
    assert_close(mixture.mix(x), mixed)
    assert_close(mixture.targets(y, 6), targets)


@pytest.mark.parametrize(("mode", "per"), [("batch", "batch"), ("pair", "pair"), ("elem", "sample")])
def test_equals_timm(mode, per):
    from timm.data import Mixup

    x, y = batch_like((6, 3, 4, 4), torch.float32, 0), torch.arange(6)
    np.random.seed(1)  # noqa: NPY002  what timm draws from
    mixed, targets = Mixup(mixup_alpha=1.0, num_classes=6, label_smoothing=0.0, mode=mode)(x.clone(), y)
    partner = draw_mixture(6, 1.0, per=per, pairing="flip").partner
    mixture = Mixture(lam_of(targets), partner)
    assert_close(mixture.mix(x), mixed)
    assert_close(mixture.targets(y, 6), targets)


def test_equals_kornia():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kornia.augmentation import RandomMixUpV2

    x, y = batch_like((6, 3, 4, 4), torch.float32, 0), torch.arange(6)
    torch.manual_seed(1)
    mixed, labels = RandomMixUpV2(data_keys=["input", "class"])(x, y)
    own, other, share = labels.unbind(1)
    mixture = Mixture(1 - share, other.long())
    assert torch.equal(own.long(), y)
    assert_close(mixture.mix(x), mixed)


# --- compiled, and without waiting for the device --------------------------------------------------------------------


def modules_and_images() -> list:
    return [
        *[
            (m(0.7, per=per), batch_like((5, 3, 8, 8), torch.float32, 0))
            for m in (ImageMixup, CutMix)
            for per in ("batch", "pair")
        ],
        *[(m(0.7, mean=MEAN, std=STD), pixels(5, 8)) for m in (ImageMixup, CutMix)],
        (CutMix(0.7, per="sample"), pixels(5, 8)),
    ]


@pytest.mark.parametrize("case", range(len(modules_and_images())))
def test_compiles_without_a_graph_break(device, case):
    module, images = modules_and_images()[case]
    module, images = module.to(device), images.to(device)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    results = []
    for m in (compiled, module):
        torch.manual_seed(7)
        out, mixture = m(images)
        results.append((out, mixture.lam, mixture.partner))
    assert_close(*results)
    module.eval()
    assert torch.equal(compiled(images)[1].matrix().cpu(), torch.eye(5))


@BOTH
def test_a_schedule_and_a_last_batch_do_not_compile_again_and_again(module):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    m = module(1.0)
    compiled = torch.compile(m, fullgraph=True, backend=backend)
    for step in range(12):
        m.set_alpha(0.1 * step)
        compiled(torch.zeros(3 + step % 4, 1, 4, 4))
    assert len(graphs) <= 4


@pytest.mark.parametrize("case", range(len(modules_and_images())))
def test_nothing_waits_for_the_device(case):
    module, images = modules_and_images()[case]
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        images = fake.from_tensor(images).to("cuda")
        out, mixture = module(images)
        assert out.device.type == mixture.lam.device.type == mixture.partner.device.type == "cuda"
        assert module.eval()(images)[0].device.type == "cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: the fake one above stands in for it")
@pytest.mark.parametrize("case", range(len(modules_and_images())))
def test_nothing_waits_for_a_real_gpu(case):
    module, images = modules_and_images()[case]
    module, images = module.to("cuda"), images.to("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        module(images)
        module.eval()(images)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- bad input -------------------------------------------------------------------------------------------------------

IMAGES, UINT8 = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
BAD_SETTINGS = {
    "alpha": ({"alpha": -1.0}, ValueError, r"alpha: expected a finite number >= 0, got -1\.0"),
    "per": ({"per": "image"}, ValueError, r"per: expected one of .*got 'image'"),
    "pairing": ({"pairing": "random"}, ValueError, r"pairing: expected one of .*got 'random'"),
    "mean alone": ({"mean": 0.5}, ValueError, r"mean and std: expected both or neither, got mean=0\.5 and std=None"),
    "std alone": ({"std": 0.5}, ValueError, r"mean and std: expected both or neither, got mean=None and std=0\.5"),
    "std zero": ({"mean": 0.5, "std": 0.0}, ValueError, r"std: expected numbers > 0 .*std=\[0\.0\]"),
    "std NaN": ({"mean": 0.5, "std": math.nan}, ValueError, r"std: expected numbers > 0 .*std=\[nan\]"),
    "mean infinite": ({"mean": math.inf, "std": 1}, ValueError, r"std: .*finite means, got mean=\[inf\]"),
    "two lengths": ({"mean": MEAN, "std": STD[:2]}, ValueError, r"mean and std: expected as many numbers, got 3 and 2"),
    "dtype": ({"dtype": torch.uint8}, TypeError, r"dtype: expected a floating torch\.dtype, got torch\.uint8"),
    "dtype by name": ({"dtype": "float16"}, TypeError, r"dtype: expected a floating torch\.dtype, got 'float16'"),
    "mean text": ({"mean": "a", "std": 1.0}, TypeError, r"mean: expected a number or one a channel, got 'a'"),
    "std empty": ({"mean": 0.5, "std": []}, TypeError, r"std: expected a number or one a channel, got \[\]"),
}
BAD_IMAGES = {
    "an array": ({}, IMAGES.numpy(), TypeError, r"images: expected a tensor \(B, C, H, W\), got ndarray"),
    "no rows": ({}, IMAGES[:0], ValueError, r"images: expected a batch .*got shape \(0, 3, 4, 4\)"),
    "no axes": ({}, torch.zeros(3), ValueError, r"images: expected a batch .*got shape \(3,\)"),
    "int32": ({}, IMAGES.int(), TypeError, r"images: expected floating or uint8 pixels, got torch\.int32"),
    "channels": (
        {"mean": MEAN, "std": STD},
        UINT8[:, :2],
        ValueError,
        r"images: expected 3 channels .*got shape \(2, 2, 4, 4\)",
    ),
    "NaN": (
        {"check_finite": True},
        IMAGES.index_fill(0, torch.tensor([1]), math.nan),
        ValueError,
        r"images: expected finite .*rows \[1\]",
    ),
    "infinity": (
        {"check_finite": True},
        IMAGES.index_fill(0, torch.tensor([0]), math.inf),
        ValueError,
        r"images: expected finite .*rows \[0\]",
    ),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
@BOTH
def test_bad_settings_are_named(module, case):
    settings, error, message = BAD_SETTINGS[case]
    with pytest.raises(error, match=f"^{message}"):
        module(**settings)


@pytest.mark.parametrize("case", BAD_IMAGES)
@BOTH
def test_bad_images_are_named(module, case):
    settings, images, error, message = BAD_IMAGES[case]
    for m in (module(**settings), module(**settings).eval()):
        with pytest.raises(error, match=f"^{message}"):
            m(images)


@BOTH
def test_a_generator_on_the_wrong_device_or_of_the_wrong_kind_is_named(module):
    with pytest.raises(TypeError, match=r"generator: expected a torch\.Generator or None, got int 0"):
        module()(IMAGES, generator=0)
    if torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"generator: expected one on the CPU .*got one on cuda"):
            module()(IMAGES, generator=torch.Generator("cuda"))


def test_uint8_without_mean_and_std_says_what_to_do():
    with pytest.raises(TypeError, match=r"images: got uint8 but no mean and std\. .*images\.float\(\) / 255"):
        ImageMixup()(UINT8)


def test_cutmix_wants_four_axes():
    for shape in ((3, 4, 4), (2, 3, 2, 4, 4), (2, 3, 0, 4)):
        with pytest.raises(ValueError, match=r"images: expected a batch \(B, C, H, W\).*got shape"):
            CutMix()(torch.zeros(shape))


def test_finite_images_pass_the_check():
    assert ImageMixup(1.0, check_finite=True)(IMAGES)[0].shape == IMAGES.shape
