"""The candidates for CUDA equal their specifications under Triton's interpreter, and its compiler accepts them."""

import importlib
import sys

import pytest
import torch
import torch.nn.functional as F
from oracles import random_mixture

from mixup_modalities.kernels import lerp_rows, lerp_tokens
from mixup_modalities.kernels import normalise_and_mix_rows as plain_bytes
from mixup_modalities.lab import benchmark_cases

triton = pytest.importorskip("triton", reason="comes with torch's CUDA builds on Linux (until 2027-06)")
NAME = "mixup_modalities.lab.triton_kernels"
ROUNDING = {torch.float64: 1e-7, torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
GRANULARITIES = ["batch", "pair", "sample"]


@pytest.fixture(scope="module")
def candidates():
    """The module as the interpreter runs it: the decorator looks at the variable when the module is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.delitem(sys.modules, NAME, raising=False)
        yield importlib.import_module(NAME)
    sys.modules.pop(NAME, None)


def both_ways(function, x, gradient):
    x = x.clone().requires_grad_()
    y = function(x)
    return y.detach(), torch.autograd.grad(y, x, gradient)[0]


def batch(shape, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g).to(dtype), torch.randn(shape, generator=g).to(dtype)


@pytest.mark.parametrize("per", GRANULARITIES)
@pytest.mark.parametrize("dtype", list(ROUNDING), ids=str)
def test_rows_forward_and_backward(candidates, dtype, per, monkeypatch):
    monkeypatch.setattr(candidates, "BLOCK_BYTES", 64)  # several blocks a row, the last of them not full
    x, gradient = batch((5, 3, 15), dtype)
    m = random_mixture(5, per, seed=1)  # partners with repetitions, lam exactly 0 and 1 among them
    got = both_ways(lambda v: candidates.mix_rows(v, m.partner, m.lam), x, gradient)
    for kernel, plain in zip(got, both_ways(lambda v: lerp_rows(v, m.partner, m.lam), x, gradient)):
        assert kernel.dtype == plain.dtype and kernel.stride() == plain.stride()
        torch.testing.assert_close(kernel, plain, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


@pytest.mark.filterwarnings("ignore:invalid value")  # of numpy, which stands in for the device
@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_a_row_of_weight_0_is_not_read(candidates, lam):
    x = torch.tensor([[1.0, 2.0], [float("inf"), float("nan")]])
    partner = torch.tensor([0, 0]) if lam == 0 else torch.tensor([1, 1])
    mixed = candidates.mix_rows(x, partner, torch.tensor(lam))
    assert torch.equal(mixed[0], x[0])


def test_channels_last_stays_so(candidates):
    x, gradient = (v.to(memory_format=torch.channels_last) for v in batch((4, 3, 5, 7)))
    m = random_mixture(4, "sample", seed=2)
    got = both_ways(lambda v: candidates.mix_rows(v, m.partner, m.lam), x, gradient)
    for kernel, plain in zip(got, both_ways(lambda v: lerp_rows(v, m.partner, m.lam), x, gradient)):
        assert kernel.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(kernel, plain)


@pytest.mark.parametrize("make", [lambda x: x.transpose(1, 2), lambda x: x.to(torch.complex64)])
def test_what_no_kernel_takes_is_mixed_in_plain_torch(candidates, make):
    x = make(batch((4, 3, 5))[0])
    m = random_mixture(4, "pair", seed=3)
    assert torch.equal(candidates.mix_rows(x, m.partner, m.lam), lerp_rows(x, m.partner, m.lam))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_are_normalised_and_mixed(candidates, channels, last, dtype):
    g = torch.Generator().manual_seed(4)
    images = torch.randint(0, 256, (4, 3, 5, 7), dtype=torch.uint8, generator=g)
    images = images.to(memory_format=torch.channels_last) if last else images
    scale, shift = torch.rand(channels, generator=g) / 255, torch.randn(channels, generator=g)
    m = random_mixture(4, "sample", seed=4)
    got = candidates.normalise_and_mix_rows(images, m.partner, m.lam, scale, shift, dtype)
    want = plain_bytes(images, m.partner, m.lam, scale, shift, dtype)
    assert got.dtype == dtype and got.stride() == want.stride()
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("per", GRANULARITIES)
@pytest.mark.parametrize("padded", [False, True])
def test_looking_up_and_mixing_in_one(candidates, padded, per):
    g = torch.Generator().manual_seed(5)
    ids = torch.randint(0, 11, (4, 6), generator=g)
    mask = torch.rand(4, 6, generator=g) < 0.6 if padded else None
    table, gradient = torch.randn(11, 5, generator=g), torch.randn(4, 6, 5, generator=g)
    m = random_mixture(4, per, seed=5)

    def two_steps(weight):
        x = F.embedding(ids, weight)
        return lerp_rows(x, m.partner, m.lam) if mask is None else lerp_tokens(x, mask, m.partner, m.lam)

    got = both_ways(lambda weight: candidates.mix_lookup(weight, ids, mask, m.partner, m.lam), table, gradient)
    for kernel, plain in zip(got, both_ways(two_steps, table, gradient)):
        torch.testing.assert_close(kernel, plain, rtol=1e-5, atol=1e-6)


def test_power_is_mixed_before_its_logarithm(candidates):
    g = torch.Generator().manual_seed(6)
    power = torch.rand(4, 3, 10, generator=g).pow(30)  # most of it below the floor
    gradient, floor = torch.randn(4, 3, 10, generator=g), 1e-4
    m = random_mixture(4, "sample", seed=6)
    got = both_ways(lambda p: candidates.mix_and_log(p, m.partner, m.lam, floor), power, gradient)
    plain = both_ways(lambda p: lerp_rows(p, m.partner, m.lam).clamp(min=floor).log(), power, gradient)
    assert 0 < (got[0] == got[0].min()).float().mean() < 1
    for kernel, expected in zip(got, plain):
        torch.testing.assert_close(kernel, expected, rtol=1e-4, atol=1e-5)


CASES = {
    "image_case": ((4, 3, 4, 4), 2),
    "uint8_case": ((4, 3, 4, 4), 2),
    "gradient_case": ((4, 3, 4, 4), 2),
    "lookup_case": ((2, 4, 8), 2),
    "audio_case": (2, 1),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_benchmark_looks_at_them_before_it_times_them(candidates, case, monkeypatch):
    size, number = CASES[case]
    monkeypatch.setattr(benchmark_cases, "candidates", lambda device: candidates)
    contenders = getattr(benchmark_cases, case)(size, torch.device("cpu")).contenders
    found = [contender for name, contender in contenders.items() if "Triton candidate" in name]
    assert len(found) == number
    for contender in found:
        contender()
    with monkeypatch.context() as patch, pytest.raises(AssertionError, match="not close"):
        for name in ("mix_rows", "normalise_and_mix_rows", "mix_lookup", "mix_and_log"):
            right = getattr(candidates, name)
            patch.setattr(candidates, name, lambda *given, right=right: right(*given) * 1.01)
        getattr(benchmark_cases, case)(size, torch.device("cpu"))


POINTERS = {"partner": "*i64", "lam": "*fp32", "ids": "*i64", "mask": "*u8", "order": "*i64", "first": "*i64"}
POINTERS |= {"scale": "*fp32", "shift": "*fp32", "u": "*u8", "floor": "fp32"}
KERNELS = {
    "mix_kernel": {"LOG": True, "WIDE": triton.language.float32, "BLOCK": 2048},
    "adjoint_kernel": {"WIDE": triton.language.float32, "BLOCK": 2048},
    "bytes_kernel": {"LAST": True, "CHANNELS": 3, "BLOCK": 1024},
    "lookup_kernel": {"MASKED": True, "BACKWARD": True, "BLOCK": 1024},
}


@pytest.mark.parametrize("name", list(KERNELS))
@pytest.mark.parametrize("capability", [80, 90])
def test_the_compiler_accepts_them(name, capability, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    kernel = getattr(importlib.import_module(NAME), name)
    data = "*bf16" if name in ("mix_kernel", "adjoint_kernel") else "*fp32"
    numbers = {"rows", "columns", "planes", "length", "width", "lam_stride", "affine_stride"}
    kinds = {n: "i32" if n in numbers else POINTERS.get(n, data) for n in kernel.arg_names if n not in KERNELS[name]}
    source = triton.compiler.ASTSource(
        fn=kernel, signature=kinds | dict.fromkeys(KERNELS[name], "constexpr"), constexprs=KERNELS[name]
    )
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    assert triton.compile(source, target=target).asm["cubin"]
