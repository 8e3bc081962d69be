"""What the benchmark times: batches of each modality, and all the ways a user could mix them.

The first contender of a case is its yardstick, most often a copy of the batch. Each mixup is looked at with the mixing
matrix before it is timed: speed does not count where the result is wrong.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from mixup_modalities.audit import mixing_matrix
from mixup_modalities.image import ImageMixup
from mixup_modalities.kernels import lerp_rows, lerp_tokens, normalise_and_mix_rows
from mixup_modalities.lab.runtime import stream
from mixup_modalities.mixture import Mixture, draw_mixture
from mixup_modalities.text import EmbeddingMixup, mix_embeddings

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SHAPES = {
    "small": (512, 3, 32, 32),
    "medium": (256, 3, 64, 64),
    "large": (128, 3, 224, 224),
    "huge": (256, 3, 224, 224),
    "vast": (1024, 3, 224, 224),
}


@dataclass(frozen=True)
class Case:
    """A batch and the functions that mix it; the first is the copy that all are measured by."""

    name: str
    contenders: dict[str, Callable[[], object]]
    bytes_moved: int
    result_bytes: int


def peers(num_classes: int) -> dict[str, Callable[[Tensor, Tensor], tuple]]:
    """Mixups of other libraries, where installed, as `(x, y) -> (x_mixed, soft_targets)`, alpha = 1."""
    found: dict[str, Callable[[Tensor, Tensor], tuple]] = {}
    if importlib.util.find_spec("torchvision"):
        from torchvision.transforms import v2

        found["torchvision v2 MixUp"] = v2.MixUp(num_classes=num_classes, alpha=1.0)
    if importlib.util.find_spec("timm"):
        from timm.data import Mixup

        found["timm Mixup"] = Mixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=num_classes)
    if importlib.util.find_spec("kornia"):
        import kornia.augmentation as K

        kornia_mixup = K.RandomMixUpV2(data_keys=["input", "class"])

        def kornia(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            mixed, labels = kornia_mixup(x, y)
            own, partner = (F.one_hot(labels[:, i].long(), num_classes).float() for i in (0, 1))
            return mixed, torch.lerp(own, partner, labels[:, 2:3])

        found["kornia RandomMixUpV2"] = kornia
    if importlib.util.find_spec("keras"):
        os.environ.setdefault("KERAS_BACKEND", "torch")  # read by keras when it is first imported
        import keras

        if keras.backend.backend() == "torch":
            keras_mixup = keras.layers.MixUp(alpha=1.0)

            def keras_3(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
                # It takes (B, H, W, C); each value is mixed alone, so the order of the axes does not matter here.
                mixed = keras_mixup({"images": x, "labels": F.one_hot(y, num_classes).float()}, training=True)
                return mixed["images"], mixed["labels"]

            found["Keras 3 MixUp"] = keras_3
    return found


def compiled_naive(x: Tensor, mixture: Mixture) -> Callable[[], object] | None:
    """The naive line under `torch.compile`; None where there is no compiler."""
    mix = torch.compile(lambda x, lam, partner: lam * x + (1 - lam) * x[partner])
    try:
        mix(x, mixture.lam, mixture.partner)
    except Exception as error:  # inductor raises many kinds; without a C++ compiler there is nothing to measure
        print(f"torch.compile is left out: {type(error).__name__}")
        return None
    return lambda: mix(x, mixture.lam, mixture.partner)


def check(name: str, mixup: Callable) -> None:
    """Raise unless the rows of the mixing matrix sum to one, with two sources at most, and it is not the identity."""
    matrices = torch.stack([mixing_matrix(mixup, 8) for _ in range(4)])
    right = (matrices.sum(2) - 1).abs().max() < 1e-3 and (matrices.abs() > 1e-3).sum(2).max() <= 2
    if not right or (matrices - torch.eye(8)).abs().max() < 1e-3:
        raise AssertionError(f"{name} does not mix: its matrices are {matrices}")


def candidates(device: torch.device) -> ModuleType | None:
    """The kernels that have yet to show that they win, where they can run."""
    if device.type != "cuda" or not importlib.util.find_spec("triton"):
        return None
    from mixup_modalities.lab import triton_kernels

    return triton_kernels


def as_specified(kernel: Callable[[], Tensor], specification: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The kernel, once it has given what its specification gives."""
    torch.testing.assert_close(kernel(), specification(), rtol=1e-4, atol=1e-5)
    return kernel


def image_case(shape: tuple[int, ...], device: torch.device, compiled: bool = False) -> Case:
    """Float images that are already normalised."""
    generator = stream(0, "benchmark")
    x = torch.randn(shape, generator=generator).to(device)
    y = torch.arange(shape[0], device=device) % 10
    contenders: dict[str, Callable[[], object]] = {"clone": x.clone}
    for label, options in {
        "ours, roll": {"pairing": "roll"},
        "ours, flip": {"pairing": "flip"},
        "ours, shuffle": {},
        "ours, shuffle, one lam a row": {"per": "sample"},
    }.items():
        check(label, ImageMixup(1.0, **options))
        mixture = draw_mixture(shape[0], 1.0, generator=generator, device=device, **options)
        contenders[label] = lambda mixture=mixture: mixture.mix(x)
    module = ImageMixup(1.0, pairing="roll")
    contenders["ours, roll, draw included"] = lambda: module(x, generator=generator)
    shuffled = draw_mixture(shape[0], 1.0, generator=generator, device=device)
    contenders["plain torch: gather, then lerp"] = lambda: lerp_rows(x, shuffled.partner, shuffled.lam)
    contenders["naive torch: lam * x + (1 - lam) * x[p]"] = lambda: (
        shuffled.lam * x + (1 - shuffled.lam) * x[shuffled.partner]
    )
    if kernels := candidates(device):
        rolled = draw_mixture(len(x), 1.0, pairing="roll", generator=generator, device=device)
        for label, m in {"roll": rolled, "shuffle": shuffled}.items():
            contenders[f"Triton candidate, {label}"] = as_specified(
                lambda m=m: kernels.mix_rows(x, m.partner, m.lam), lambda m=m: lerp_rows(x, m.partner, m.lam)
            )
    fused = compiled_naive(x, shuffled) if compiled else None
    if fused is not None:
        contenders["torch.compile of the naive line"] = fused
    for name, peer in peers(10).items():
        check(name, peers(8)[name])
        batch = x.clone()  # timm writes into it
        contenders[name] = lambda peer=peer, batch=batch: peer(batch, y)
    size = x.numel() * x.element_size()
    return Case(f"float images {'x'.join(map(str, shape))}", contenders, 2 * size, size)


def uint8_case(shape: tuple[int, ...], device: torch.device) -> Case:
    """uint8 images to normalised float32: the copy moves as many bytes as this must, one read and four written."""
    generator = stream(0, "benchmark")
    x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)
    y = torch.arange(shape[0], device=device) % 10
    ours = ImageMixup(1.0, mean=MEAN, std=STD).to(device)
    contenders: dict[str, Callable[[], object]] = {"clone": lambda: x.to(torch.float32)}
    contenders["ours, uint8 to mixed floats"] = lambda: ours(x, generator=generator)
    if kernels := candidates(device):
        m = draw_mixture(len(x), 1.0, generator=generator, device=device)
        mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
        affine = (m.partner, m.lam, 1 / (255 * std), -mean / std)
        contenders["Triton candidate, uint8 to mixed floats"] = as_specified(
            lambda: kernels.normalise_and_mix_rows(x, *affine, torch.float32),
            lambda: normalise_and_mix_rows(x, *affine, torch.float32),
        )
        contenders["Triton candidate, uint8 to mixed bfloat16"] = lambda: kernels.normalise_and_mix_rows(
            x, *affine, torch.bfloat16
        )
    if importlib.util.find_spec("torchvision"):
        from torchvision.transforms import v2

        normalise = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
        for name, peer in peers(10).items():
            contenders[f"torchvision ToDtype + Normalize, {name}"] = lambda peer=peer: peer(normalise(x), y)
    return Case(f"uint8 images {'x'.join(map(str, shape))}", contenders, 5 * x.numel(), 4 * x.numel())


def gradient_case(shape: tuple[int, ...], device: torch.device) -> Case:
    """Forward and backward of the mixing, the gradient given: two of the copies are the floor."""
    generator = stream(0, "benchmark")
    x = torch.randn(shape, generator=generator).to(device).requires_grad_()
    gradient = torch.randn(shape, generator=generator).to(device)

    def both(mix: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(mix(x), x, gradient)

    contenders: dict[str, Callable[[], object]] = {"clone": lambda: (x.detach().clone(), gradient.clone())}
    for label, options in {"roll": {"pairing": "roll"}, "shuffle": {}}.items():
        m: Mixture = draw_mixture(shape[0], 1.0, generator=generator, device=device, **options)
        contenders[f"ours, {label}"] = both(m.mix)
        contenders[f"plain torch, {label}"] = both(lambda x, m=m: lerp_rows(x, m.partner, m.lam))
        if kernels := candidates(device):
            contenders[f"Triton candidate, {label}"] = as_specified(
                both(lambda x, m=m: kernels.mix_rows(x, m.partner, m.lam)), contenders[f"plain torch, {label}"]
            )
    size = x.numel() * x.element_size()
    return Case(f"forward and backward {'x'.join(map(str, shape))}", contenders, 4 * size, 2 * size)


def text_case(shape: tuple[int, ...], device: torch.device) -> Case:
    """Token embeddings `(B, T, D)` with padding."""
    generator = stream(0, "benchmark")
    x = torch.randn(shape, generator=generator).to(device)
    lengths = torch.randint(shape[1] // 4, shape[1] + 1, (shape[0], 1), generator=generator)
    mask = (torch.arange(shape[1]) < lengths).long().to(device)
    contenders: dict[str, Callable[[], object]] = {"clone": x.clone}
    for label, options in {"roll": {"pairing": "roll"}, "shuffle": {}}.items():
        m = draw_mixture(shape[0], 1.0, generator=generator, device=device, **options)
        contenders[f"ours, {label}, padding zeroed"] = lambda m=m: mix_embeddings(x, mask, m)
        contenders[f"ours, {label}, no padding"] = lambda m=m: mix_embeddings(x, None, m)
        contenders[f"naive torch, {label}, padding mixed in"] = lambda m=m: m.lam * x + (1 - m.lam) * x[m.partner]
    size = x.numel() * x.element_size()
    return Case(f"embeddings {'x'.join(map(str, shape))}", contenders, 2 * size, size)


def lookup_case(shape: tuple[int, ...], device: torch.device) -> Case:
    """Token ids `(B, T)` to mixed embeddings `(B, T, D)`, from a table of 30,522 tokens; the copy is of the result."""
    generator = stream(0, "benchmark")
    embedding = torch.nn.Embedding.from_pretrained(torch.randn(30522, shape[2], generator=generator)).to(device)
    ids = torch.randint(0, 30522, shape[:2], generator=generator).to(device)
    lengths = torch.randint(shape[1] // 4, shape[1] + 1, (shape[0], 1), generator=generator)
    mask = (torch.arange(shape[1]) < lengths).long().to(device)
    mixup = EmbeddingMixup(1.0)
    m = draw_mixture(shape[0], 1.0, generator=generator, device=device)

    def naive() -> Tensor:
        x = embedding(ids) * mask.unsqueeze(-1)
        return m.lam * x + (1 - m.lam) * x[m.partner]

    result = embedding(ids)
    contenders: dict[str, Callable[[], object]] = {
        "clone": result.clone,
        "looking up alone": lambda: embedding(ids),
        "ours, one pass": lambda: mixup.lookup(embedding, ids, mask, generator=generator),
        "ours, look up, then mix": lambda: mixup(embedding(ids), mask, generator=generator),
        "naive torch: look up, mask, mix": naive,
    }
    table = embedding.weight.detach().clone().requires_grad_()
    gradient = torch.randn(shape, generator=generator).to(device)
    kernels = candidates(device)
    if kernels:
        contenders["Triton candidate, one pass"] = as_specified(
            lambda: kernels.mix_lookup(embedding.weight, ids, mask, m.partner, m.lam),
            lambda: lerp_tokens(embedding(ids), mask, m.partner, m.lam),
        )

    def trained(make: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(make(), table, gradient)

    contenders["with gradient: looking up alone"] = trained(lambda: F.embedding(ids, table))
    contenders["with gradient: ours, one pass"] = trained(
        lambda: mixup.lookup(table, ids, mask, generator=generator)[0]
    )
    contenders["with gradient: ours, look up, then mix"] = trained(
        lambda: mixup(F.embedding(ids, table), mask, generator=generator)[0]
    )
    if kernels:
        contenders["with gradient: Triton candidate, one pass"] = trained(
            lambda: kernels.mix_lookup(table, ids, mask, m.partner, m.lam)
        )
    size = result.numel() * result.element_size()
    return Case(f"token ids to mixed embeddings {'x'.join(map(str, shape))}", contenders, 2 * size, size)


def step_case(name: str, rows: int, device: torch.device) -> Case:
    """A training step on 32x32 images, forward to update; the yardstick is the step without mixing.

    Args:
        name: "small conv net" or "PreAct-ResNet-18".
        rows: of a batch.
        device: to train on.
    """
    from mixup_modalities.lab.image_models import PreActResNet
    from mixup_modalities.lab.models import ConvNet
    from mixup_modalities.lab.runtime import seeded
    from mixup_modalities.losses import mixup_cross_entropy

    generator = stream(0, "benchmark")
    x, y = torch.randn(rows, 3, 32, 32, generator=generator).to(device), torch.arange(rows, device=device) % 10
    with seeded(0):
        model = PreActResNet(10) if name == "PreAct-ResNet-18" else ConvNet.for_images(x.cpu(), 10, width=32)
    model = model.to(device)
    optimizer, mixup = torch.optim.SGD(model.parameters(), lr=1e-3), ImageMixup(1.0)

    def step(mixed: bool) -> Callable[[], object]:
        def run() -> None:
            batch, mixture = mixup(x, generator=generator) if mixed else (x, Mixture.identity(rows, device=device))
            optimizer.zero_grad(set_to_none=True)
            mixup_cross_entropy(model(batch), y, mixture).backward()
            optimizer.step()

        return run

    contenders = {"a step without mixing": step(False), "a step with mixing": step(True)}
    contenders["the mixing alone"] = lambda: mixup(x, generator=generator)
    size = x.numel() * x.element_size()
    return Case(f"training step of a {name} {rows}x3x32x32", contenders, 2 * size, size)


def audio_case(clips: int, device: torch.device) -> Case:
    """One-second clips to mixed log-mel; the yardstick is the front end without mixing."""
    from mixup_modalities.audio import LogMel, SpectrogramMixup

    generator = stream(0, "benchmark")
    x = torch.randn(clips, 16000, generator=generator).mul_(0.1).to(device)
    front_end = LogMel(sample_rate=16000).to(device)
    contenders: dict[str, Callable[[], object]] = {"LogMel, no mixing": lambda: front_end(x)}
    for domain in ("waveform", "power", "log"):
        for gain_aware in (False, True):
            mixup = SpectrogramMixup(front_end, alpha=1.0, domain=domain, gain_aware=gain_aware)
            label = f"ours, {domain}" + (", gain-aware" if gain_aware else "")
            contenders[label] = lambda mixup=mixup: mixup(x, generator=generator)
    if kernels := candidates(device):
        m = draw_mixture(clips, 1.0, generator=generator, device=device)
        contenders["Triton candidate, power"] = as_specified(
            lambda: kernels.mix_and_log(front_end.power(x), m.partner, m.lam, front_end.floor),
            lambda: front_end.log(m.mix(front_end.power(x))),
        )
    size = x.numel() * x.element_size()
    return Case(f"audio, {clips} clips of one second", contenders, 2 * size, front_end(x[:1]).numel() * 4 * clips)


def cases(suite: str, device: torch.device, quick: bool) -> Iterator[Case]:
    """The cases of a suite, made one after the other so that only one batch is in memory."""
    sizes = [SHAPES["small"], SHAPES["medium"]] + ([] if quick else [SHAPES["large"]])
    sizes += [SHAPES["huge"], SHAPES["vast"]] if device.type == "cuda" and not quick else []
    if suite in ("images", "all"):
        for shape in sizes:
            yield image_case(shape, device, compiled=not quick)
            yield uint8_case(shape, device)
            yield gradient_case(shape, device)
        yield step_case("small conv net", 64 if quick else 256, device)
        if not quick:
            yield step_case("PreAct-ResNet-18", 256 if device.type == "cuda" else 16, device)
    if suite in ("text", "all"):
        yield text_case((64, 128, 256) if quick else (256, 128, 768), device)
        yield lookup_case((64, 128, 256) if quick else (256, 128, 768), device)
    if suite in ("audio", "all"):
        yield audio_case(32 if quick else 256, device)
