"""The reference models: three methods that agree, weights that follow from the seed, a global RNG left alone."""

import pytest
import torch

from mixup_modalities.lab.models import MLP, ConvNet
from mixup_modalities.lab.runtime import autocast, pick_device, pick_precision, seeded, stream

MODELS = {
    "conv": (lambda: ConvNet(), (1, 28, 28)),
    "conv-colour": (lambda: ConvNet(7, channels=3, size=32, width=4, mean=[0.5] * 3, std=[0.2] * 3), (3, 32, 32)),
    "conv-odd": (lambda: ConvNet(3, size=9, width=2), (1, 9, 9)),
    "mlp": (lambda: MLP([784, 32, 10]), (1, 28, 28)),
}


@pytest.fixture(params=MODELS)
def model_and_shape(request):
    build, shape = MODELS[request.param]
    with seeded(0):
        return build(), shape


def test_forward_is_classify_after_embed(model_and_shape, device):
    model, shape = model_and_shape
    model.to(device)
    x = torch.randint(256, (5, *shape), dtype=torch.uint8, device=device)
    h = model.embed(x)
    assert h.is_floating_point() and len(h) == 5
    torch.testing.assert_close(model.classify(h), model(x))
    assert model(x).shape == (5, model.layers[-1].out_features)


def test_uint8_and_unit_floats_are_the_same_image(model_and_shape):
    model, shape = model_and_shape
    x = torch.randint(256, (4, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.embed(x), model.embed(x.float() / 255))


def test_embed_normalises_each_channel():
    model = ConvNet(channels=3, size=8, mean=[0.1, 0.2, 0.3], std=[1.0, 2.0, 4.0])
    x = torch.full((1, 3, 8, 8), 0.5)
    torch.testing.assert_close(model.embed(x)[0, :, 0, 0], torch.tensor([0.4, 0.15, 0.05]))


def test_a_net_for_images_normalises_them():
    x = torch.randint(30, 90, (50, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x[:, 1] += 100
    model = ConvNet.for_images(x, 4, width=2)
    h = model.embed(x)
    torch.testing.assert_close(h.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(h.std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    assert model(x).shape == (50, 4)


def test_every_weight_gets_a_gradient(model_and_shape):
    model, shape = model_and_shape
    model(torch.rand(6, *shape)).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_an_mlp_needs_two_widths():
    with pytest.raises(ValueError, match="sizes must name at least"):
        MLP([3])


def test_weights_follow_from_the_seed_alone():
    def weights(seed):
        with seeded(seed):
            return ConvNet(width=2).layers[0].weight

    torch.manual_seed(5)
    first = weights(1)
    torch.manual_seed(6)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))


def test_seeded_leaves_the_global_rng_as_it_was(device):
    before = torch.get_rng_state()
    there = torch.cuda.get_rng_state() if device.type == "cuda" else None
    with pytest.raises(KeyError), seeded(0, device):
        torch.randn(3)
        torch.randn(3, device=device)
        raise KeyError
    assert torch.equal(before, torch.get_rng_state())
    assert there is None or torch.equal(there, torch.cuda.get_rng_state())


def test_seeded_repeats_what_is_drawn_on_the_device(device):
    if device.type == "mps":
        pytest.skip("seeded sets CPU and CUDA streams apart, mps has no per-device generator to fork (until 2027-06)")
    draws = []
    for _ in range(2):
        with seeded(3, device):
            draws.append(torch.randn(4, device=device))
        torch.randn(4, device=device)
    assert torch.equal(*draws)


def test_streams_differ_by_seed_purpose_and_rank():
    keys = [(0, "order", 0), (1, "order", 0), (0, "mixup", 0), (0, "order", 1)]
    draws = [torch.rand(3, generator=stream(*key)) for key in keys]
    assert len({tuple(d.tolist()) for d in draws}) == 4
    assert torch.equal(draws[0], torch.rand(3, generator=stream(0, "order")))
    with pytest.raises(ValueError, match="must not be negative"):
        stream(-1, "order")


def test_device_and_precision():
    assert pick_device("cpu") == torch.device("cpu")
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device().type == best
    assert pick_precision(torch.device("cpu")) == "fp32"
    with pytest.raises(ValueError, match="precision must be"):
        pick_precision(torch.device("cpu"), "fp16")
    layer = torch.nn.Linear(2, 2)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with autocast(torch.device("cpu"), precision):
            assert layer(torch.ones(1, 2)).dtype == dtype
