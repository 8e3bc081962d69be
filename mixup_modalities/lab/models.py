"""Reference models, all with the same three methods, so that one training loop serves every modality.

`embed(x)`
    raw batch -> what is mixed: a tensor, or a tuple such as `(embeddings, attention_mask)`.
`classify(*features)`
    mixed features -> logits `(B, C)`.
`forward(x)`
    the evaluation path, without mixing.

Build a model inside `with seeded(seed):` (from lab.runtime): its initial weights then depend on the seed alone, and the
global RNG is left as it was.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

# Mean and standard deviation of MNIST's training pixels, in units of 1; what most published code normalises with.
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081


class ImageModel(nn.Module):
    """What the image models share: `embed` makes normalised float images of raw ones.

    Args:
        mean: mean of each channel in units of 1, a number or `(C,)`.
        std: standard deviation of each channel, likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | list[float] = MNIST_MEAN, std: float | list[float] = MNIST_STD):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).reshape(-1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).reshape(-1, 1, 1))

    def embed(self, x: Tensor) -> Tensor:
        """Normalise images.

        Args:
            x: `(B, C, H, W)`, uint8 in 0..255 or floating point in 0..1.

        Returns:
            Float images `(B, C, H, W)` of mean about 0 and standard deviation about 1.
        """
        if x.dtype == torch.uint8:
            x = x / 255
        return (x - self.mean) / self.std

    def classify(self, h: Tensor) -> Tensor:
        """Return the logits `(B, num_classes)` of normalised, perhaps mixed, images `(B, C, H, W)`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `(B, num_classes)` of raw images `(B, C, H, W)`."""
        return self.classify(self.embed(x))


class ConvNet(ImageModel):
    """A small strided conv net: three 3x3 convolutions of stride 2, then one linear layer.

    No dropout and no batch statistics, so that mixup is the only regulariser in the room. Striding instead of pooling
    keeps a step cheap.

    Args:
        num_classes: classes to tell apart.
        channels: channels of the images.
        size: height and width of the images, in pixels.
        width: channels after the first convolution; the next two have twice and four times as many.
        mean: see `ImageModel`.
        std: see `ImageModel`.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        channels: int = 1,
        size: int = 28,
        width: int = 16,
        mean: float | list[float] = MNIST_MEAN,
        std: float | list[float] = MNIST_STD,
    ):
        super().__init__(mean, std)
        widths = [channels, width, 2 * width, 4 * width]
        blocks = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)]
        for _ in blocks:
            size = (size + 1) // 2
        layers = [layer for block in blocks for layer in (block, nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * size * size, num_classes))
        self.to(memory_format=torch.channels_last)  # a sixth to a quarter faster on CPUs, and what GPUs like

    @classmethod
    def for_images(cls, x: Tensor, num_classes: int, *, width: int = 16) -> "ConvNet":
        """Return an untrained net for images like these: their channels, size, and the mean and spread of their pixels.

        Args:
            x: training images, uint8 `(N, C, H, W)`, H = W; the pixel statistics are those of the first 10,000.
            num_classes: classes to tell apart.
            width: channels after the first convolution.
        """
        std, mean = torch.std_mean(x[:10_000] / 255, dim=(0, 2, 3))
        shape = {"channels": x.shape[1], "size": x.shape[2]}
        return cls(num_classes, width=width, mean=mean.tolist(), std=std.tolist(), **shape)

    def classify(self, h: Tensor) -> Tensor:
        """Return the logits `(B, num_classes)` of normalised, perhaps mixed, images `(B, C, H, W)`."""
        return self.layers(h)


class MLP(nn.Module):
    """Fully connected layers with ReLU between them, for points in the plane and for images taken as vectors.

    Args:
        sizes: width of the input, of each hidden layer, and number of classes: `[2, 64, 64, 2]`.
        mean: subtracted from the input.
        std: divides the input afterwards.
    """

    def __init__(self, sizes: list[int], *, mean: float = 0.0, std: float = 1.0):
        super().__init__()
        if len(sizes) < 2:
            raise ValueError(f"sizes must name at least the input and the output width, got {sizes}")
        self.mean, self.std = mean, std
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def embed(self, x: Tensor) -> Tensor:
        """Return normalised float vectors `(B, sizes[0])` of uint8 (0..255) or floating-point rows `(B, ...)`."""
        x = x.flatten(1) / 255 if x.dtype == torch.uint8 else x.flatten(1)
        return (x - self.mean) / self.std

    def classify(self, h: Tensor) -> Tensor:
        """Return the logits `(B, sizes[-1])` of vectors `(B, sizes[0])`."""
        return self.layers(h)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `(B, sizes[-1])` of raw rows `(B, ...)`."""
        return self.classify(self.embed(x))
