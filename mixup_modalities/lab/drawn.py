"""Drawn pictures: ten shapes, filled with and put before ten textures, in random colours. The stand-in for CIFAR.

Everything is computed from formulas: a shape is a signed distance d(u, v), negative inside, in a coordinate system that
is shifted, turned and scaled for each picture; a texture is a number between 0 and 1 that blends two colours.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

SIZE = 32


def _box(u: Tensor, v: Tensor, width: float, height: float) -> Tensor:
    return torch.maximum(u.abs() - width, v.abs() - height)


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    return torch.stack([v, u * 0.866 - v / 2, -u * 0.866 - v / 2]).amax(0) - 0.55


def _star(u: Tensor, v: Tensor) -> Tensor:
    return torch.hypot(u, v) - 0.68 - 0.32 * torch.cos(5 * torch.atan2(v, u))


def _dumbbell(u: Tensor, v: Tensor) -> Tensor:
    return torch.minimum(torch.hypot(u.abs() - 0.65, v) - 0.38, _box(u, v, 0.65, 0.14))


SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "disc": lambda u, v: torch.hypot(u, v) - 0.9,
    "ring": lambda u, v: (torch.hypot(u, v) - 0.72).abs() - 0.2,
    "square": lambda u, v: _box(u, v, 0.75, 0.75),
    "frame": lambda u, v: _box(u, v, 0.65, 0.65).abs() - 0.18,
    "triangle": _triangle,
    "cross": lambda u, v: torch.minimum(_box(u, v, 0.95, 0.24), _box(u, v, 0.24, 0.95)),
    "star": _star,
    "crescent": lambda u, v: torch.maximum(torch.hypot(u, v) - 0.95, 0.8 - torch.hypot(u - 0.5, v)),
    "ellipse": lambda u, v: (torch.hypot(u, v / 0.45) - 1.0) * 0.6,
    "dumbbell": _dumbbell,
}


def _soft(x: Tensor) -> Tensor:
    return torch.sigmoid(6 * x)


# u and v are in units in which one period is about 2 pi; grain is smooth noise in [0, 1].
TEXTURES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "plain": lambda u, v, grain: torch.zeros_like(u),
    "striped": lambda u, v, grain: _soft(torch.sin(u)),
    "checked": lambda u, v, grain: _soft(torch.sin(u) * torch.sin(v) * 2),
    "dotted": lambda u, v, grain: _soft(torch.cos(u) + torch.cos(v) - 0.8),
    "ringed": lambda u, v, grain: _soft(torch.sin(torch.hypot(u, v))),
    "wavy": lambda u, v, grain: _soft(torch.sin(u + 1.5 * torch.sin(v))),
    "shaded": lambda u, v, grain: torch.sigmoid(u / 3),
    "grained": lambda u, v, grain: grain,
    "gridded": lambda u, v, grain: _soft(torch.maximum(torch.cos(u), torch.cos(v)) * 2 - 1.4),
    "zigzag": lambda u, v, grain: _soft(torch.sin(u + 2 * torch.asin(torch.sin(v).clamp(-0.999, 0.999)))),
}


def draw(shape: Tensor, texture: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one picture for each row.

    Args:
        shape: int64 `(N,)`, index into `SHAPES`.
        texture: int64 `(N,)`, index into `TEXTURES`, of the shape; that of the background is drawn at random.
        generator: the source of place, size, direction, colours and noise.

    Returns:
        uint8 `(N, 3, 32, 32)`.
    """
    count = len(shape)

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return torch.rand(count, *(size or (1, 1)), generator=generator) * (high - low) + low

    ticks = torch.arange(SIZE) / (SIZE / 2) - 1 + 1 / SIZE
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")

    u, v = _turned(x - uniform(-0.2, 0.2), y - uniform(-0.2, 0.2), uniform(-math.pi, math.pi))
    scale = uniform(0.5, 0.85)
    distance = _by_index(list(SHAPES.values()), shape, u / scale, v / scale / uniform(0.85, 1.15)) * scale
    inside = (0.5 - distance * SIZE / 2).clamp(0, 1)[:, None]  # the edge is one pixel wide

    layers = []
    for kind in (texture, torch.randint(len(TEXTURES), (count,), generator=generator)):
        u, v = _turned(x, y, uniform(-math.pi, math.pi))
        rate = uniform(7, 11)
        noise = torch.rand(count, 1, 9, 9, generator=generator)
        grain = functional.interpolate(noise, (SIZE, SIZE), mode="bicubic", align_corners=False)[:, 0].clamp(0, 1)
        u, v = u * rate + uniform(-math.pi, math.pi), v * rate + uniform(-math.pi, math.pi)
        layers.append(_by_index(list(TEXTURES.values()), kind, u, v, grain)[:, None])

    # The colours say nothing about the class. The background varies less than the shape, and differs from it.
    back, front = uniform(0, 1, 3, 1, 1), uniform(0, 1, 3, 1, 1)
    front = torch.where((front - back).abs().sum(1, keepdim=True) < 0.9, (back + 0.5) % 1, front)
    others = [(base + uniform(-reach, reach, 3, 1, 1)).clamp(0, 1) for base, reach in ((front, 0.5), (back, 0.3))]
    front, back = (torch.lerp(*args) for args in zip((front, back), others, layers))
    picture = torch.lerp(back, front, inside) * uniform(0.7, 1.0, 1, 1, 1)
    picture = picture + torch.randn(picture.shape, generator=generator) * uniform(0.0, 0.08, 1, 1, 1)
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)


def _turned(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    return x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()


def _by_index(functions: list[Callable], index: Tensor, *fields: Tensor) -> Tensor:
    """Apply to the rows of each field the function that `index` names for them."""
    result = torch.empty_like(fields[0])
    for number, function in enumerate(functions):
        rows = index == number
        result[rows] = function(*(field[rows] for field in fields))
    return result
