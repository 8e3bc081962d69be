"""PreAct-ResNets: the published shape and size, stages that can be entered anywhere, manifold mixup by hand."""

import pytest
import torch

from mixup_modalities import ImageMixup
from mixup_modalities.lab.cifar_recipes import SMALL
from mixup_modalities.lab.image_models import STEMS, PreActResNet, mix_at_random_stage
from mixup_modalities.lab.runtime import seeded
from mixup_modalities.lab.splits import Split
from mixup_modalities.lab.training import evaluate, fit


def small(**settings) -> PreActResNet:
    with seeded(0):
        return PreActResNet(4, **{"width": 8, "blocks": (1, 1, 1), "strides": (1, 2, 2)} | settings)


def images(n: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_preact_resnet_18_has_the_size_of_the_published_one():
    model = PreActResNet()
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sum(m.kernel_size == (3, 3) for m in convolutions) == 17  # and one linear layer make 18
    assert sum(p.numel() for p in model.parameters()) == 11_172_170
    assert model.head.in_features == 512


@pytest.mark.parametrize(("stem", "side"), [("cifar", 16), ("imagenet", 4)])
def test_the_stem_keeps_or_quarters_the_pixels(stem, side):
    model = small(stem=stem).eval()
    assert model.hidden(images(), 1).shape[2:] == (side, side)
    assert model(images()).shape == (6, 4)


@pytest.mark.parametrize("stem", STEMS)
def test_a_net_may_be_entered_after_any_stage(device, stem):
    model, x = small(stem=stem).to(device).eval(), images().to(device)
    for k in range(4):
        torch.testing.assert_close(model.classify(model.hidden(x, k), start=k), model(x))
    assert torch.equal(model.hidden(x, 0), model.embed(x))
    assert model.embed(x).is_contiguous(memory_format=torch.channels_last)


def test_manifold_mixup_mixes_after_a_random_stage():
    """By hand: of the same draws, hidden features of both rows, averaged, and the rest of the net."""
    model, x, mixup = small().eval(), images(), ImageMixup(2.0)
    seen = set()
    for seed in range(12):
        logits, mixture = mix_at_random_stage(model, x, mixup, torch.Generator().manual_seed(seed))
        k = int(torch.randint(3, (), generator=torch.Generator().manual_seed(seed)))
        h = model.hidden(x, k)
        mixed = torch.stack([mixture.lam * h[i] + (1 - mixture.lam) * h[j] for i, j in enumerate(mixture.partner)])
        torch.testing.assert_close(logits, model.classify(mixed, start=k))
        seen.add(k)
    assert seen == {0, 1, 2}
    logits, mixture = mix_at_random_stage(model, x, None, torch.Generator())
    torch.testing.assert_close(logits, model(x))
    assert torch.equal(mixture.matrix(), torch.eye(6))


def test_a_small_one_learns(device):
    def task(seed):
        y = torch.arange(80) % 2
        return Split((images(80, seed) // 2 + (100 * y).to(torch.uint8)[:, None, None, None]), y)

    with seeded(0):
        model = PreActResNet.for_images(task(0).x, 2, **SMALL)
    options = {"mixup": ImageMixup(1.0), "forward": mix_at_random_stage, "progress": False, "device": device}
    fit(model, task(0), epochs=6, batch_size=20, **options)
    assert evaluate(model, task(1)).accuracy > 0.95


def test_a_compiled_run_computes_the_same():
    """With the backend that only traces: a compiler needs a minute, and belongs to a GPU."""

    def run(**options):
        with seeded(0):
            model = small()
        data = Split(images(20), torch.arange(20) % 4)
        return fit(model, data, epochs=1, batch_size=10, progress=False, device="cpu", **options).final, model

    (plain, _), (compiled, model) = run(), run(compiler="eager")
    assert compiled["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert "classify" not in vars(model)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"stem must be one of .* got 'vgg'"):
        small(stem="vgg")
    with pytest.raises(ValueError, match="width must be at least 8, got 4"):
        small(width=4)
    with pytest.raises(ValueError, match="blocks and strides must have one number"):
        small(blocks=(1, 1))
