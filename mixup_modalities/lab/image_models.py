"""Pre-activation residual networks for images, with a stem for small pictures and one for large ones.

`classify` may start anywhere: `classify(h, start=k)` takes what `hidden(x, k)` gives, so that features can be mixed
after any stage (`mix_at_random_stage`).
"""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixup_modalities.lab.models import ImageModel
from mixup_modalities.mixture import Mixture

STEMS = ("cifar", "imagenet")


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each after batch norm and ReLU, beside a shortcut (He et al., 2016, figure 1b).

    Where shape changes, the shortcut is a 1x1 convolution of the first pre-activation.

    Args:
        inputs: channels that come in.
        width: channels that go out.
        stride: of the first convolution.
    """

    def __init__(self, inputs: int, width: int, stride: int = 1):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        changes = stride != 1 or inputs != width
        self.shortcut = nn.Conv2d(inputs, width, 1, stride=stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Return features `(B, width, H / stride, W / stride)` of features `(B, inputs, H, W)`."""
        h = F.relu(self.norm1(x))
        skip = x if self.shortcut is None else self.shortcut(h)
        return self.conv2(F.relu(self.norm2(self.conv1(h)))) + skip


class PreActResNet(ImageModel):
    """A pre-activation ResNet (He et al., 2016, arXiv 1603.05027); the defaults are PreAct-ResNet-18.

    Args:
        num_classes: classes to tell apart.
        width: channels of the first stage, at least 8; each further stage has twice as many.
        blocks: residual blocks of each stage.
        strides: of each stage's first block.
        stem: "cifar", one 3x3 convolution that keeps every pixel; or "imagenet", a 7x7 convolution of stride 2 and a
            3x3 max pool of stride 2, which leaves 8x8 of 32x32 pixels.
        channels: of the images.
        mean: see `ImageModel`.
        std: see `ImageModel`.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        width: int = 64,
        blocks: tuple[int, ...] = (2, 2, 2, 2),
        strides: tuple[int, ...] = (1, 2, 2, 2),
        stem: str = "cifar",
        channels: int = 3,
        mean: float | list[float] = 0.5,
        std: float | list[float] = 0.25,
    ):
        super().__init__(mean, std)
        if stem not in STEMS:
            raise ValueError(f"stem must be one of {STEMS}, got {stem!r}")
        if width < 8:
            # torch 2.14 on CPUs writes past its memory in the backward pass of a channels-last 1x1 convolution of
            # stride 2 with 4 input channels.
            raise ValueError(f"width must be at least 8, got {width}")
        if len(blocks) != len(strides) or not blocks or min(blocks) < 1:
            raise ValueError(f"blocks and strides must have one number >= 1 a stage, got {blocks} and {strides}")
        if stem == "cifar":
            self.stem: nn.Module = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        else:
            first = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
            self.stem = nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))
        widths, stages = [width, *(width << k for k in range(len(blocks)))], []
        for (inputs, outputs), count, stride in zip(pairwise(widths), blocks, strides):
            rest = [PreActBlock(outputs, outputs) for _ in range(count - 1)]
            stages.append(nn.Sequential(PreActBlock(inputs, outputs, stride), *rest))
        self.stages = nn.ModuleList(stages)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as in He et al. (2015), the variance of a ReLU network is kept
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)

    @classmethod
    def for_images(cls, x: Tensor, num_classes: int, **settings) -> "PreActResNet":
        """Return an untrained net for images like these, see `ConvNet.for_images`.

        Args:
            x: training images, uint8 `(N, C, H, W)`; the pixel statistics are those of the first 10,000.
            num_classes: classes to tell apart.
            **settings: `width`, `blocks`, `strides`, `stem`.
        """
        std, mean = torch.std_mean(x[:10_000] / 255, dim=(0, 2, 3))
        return cls(num_classes, channels=x.shape[1], mean=mean.tolist(), std=std.tolist(), **settings)

    def embed(self, x: Tensor) -> Tensor:
        """Normalise images `(B, C, H, W)`, uint8 in 0..255 or floating point in 0..1; the result is channels-last."""
        return super().embed(x).contiguous(memory_format=torch.channels_last)

    def stage(self, h: Tensor, number: int) -> Tensor:
        """Pass features through stage `number`, 1, 2, ...; the first takes normalised images and has the stem in it."""
        return self.stages[number - 1](self.stem(h) if number == 1 else h)

    def hidden(self, x: Tensor, stop: int) -> Tensor:
        """Return what raw images `(B, C, H, W)` are after stage `stop`; 0 means after `embed`."""
        h = self.embed(x)
        for number in range(1, stop + 1):
            h = self.stage(h, number)
        return h

    def classify(self, h: Tensor, start: int = 0) -> Tensor:
        """Return the logits `(B, num_classes)` of what `hidden(x, start)` gave, perhaps mixed."""
        for number in range(start + 1, len(self.stages) + 1):
            h = self.stage(h, number)
        return self.head(F.relu(self.norm(h)).mean((2, 3)))


def mix_at_random_stage(
    model: PreActResNet, x: Tensor, mixup: Callable | None, generator: torch.Generator, depth: int = 2
) -> tuple[Tensor, Mixture]:
    """Embed, pass through k stages, mix, classify: Manifold Mixup (Verma et al., 2019, section 3), for `fit(forward=)`.

    Args:
        model: a network of stages.
        x: raw images `(B, C, H, W)`.
        mixup: `ImageMixup(alpha)`; `None` for no mixing.
        generator: the CPU stream that k and the mixture are drawn from.
        depth: k is uniform over 0, ..., depth, new for each batch; 0 is input mixup. The authors' code for
            PreAct-ResNet-18 has 2.

    Returns:
        Logits `(B, num_classes)` and the `Mixture`.
    """
    if mixup is None:
        return model(x), Mixture.identity(len(x), device=x.device)
    k = int(torch.randint(min(depth, len(model.stages)) + 1, (), generator=generator))
    mixed, mixture = mixup(model.hidden(x, k), generator=generator)
    return model.classify(mixed, start=k), mixture
