"""Small fully connected networks, one for each seed, trained side by side: a weight is a stack of matrices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mixup_modalities.mixture import draw_mixture

Step = Callable[["StackedMLP", Tensor, Tensor, list[torch.Generator]], Tensor]


class StackedMLP(nn.Module):
    """As many networks as there are seeds, each with weights of its own; a network does not depend on its neighbours.

    Args:
        sizes: width of the input, of each hidden layer, and of the output.
        seeds: one for each network.
        dtype: of the weights.
        activation: between the layers.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        seeds: Sequence[int],
        dtype: torch.dtype = torch.float32,
        activation: Callable[[Tensor], Tensor] = torch.relu,
    ):
        super().__init__()
        if len(sizes) < 2 or not len(seeds):
            raise ValueError(f"sizes and seeds: expected two widths and a seed at least, got {sizes} and {seeds}")
        self.seeds, self.activation = list(seeds), activation
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            draws = [torch.randn(fan_in, fan_out, dtype=torch.float64, generator=g) for g in generators]
            self.weights.append(nn.Parameter((torch.stack(draws) * (2 / fan_in) ** 0.5).to(dtype)))
            self.biases.append(nn.Parameter(torch.zeros(len(generators), 1, fan_out, dtype=dtype)))

    def forward(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Run the layers from `start` up to `stop`.

        Args:
            x: `(N, D)`, the same rows for every network, or `(S, N, D)`, rows for each.
            start: first layer.
            stop: layer before which to stop; by default all run, and the last is not followed by an activation.

        Returns:
            `(S, N, C)`.
        """
        last = len(self.weights)
        x = x.expand(len(self.seeds), *x.shape) if x.ndim == 2 else x
        for k in range(start, last if stop is None else stop):
            x = torch.baddbmm(self.biases[k], x, self.weights[k])
            x = self.activation(x) if k < last - 1 else x
        return x


def take(x: Tensor, rows: Tensor) -> Tensor:
    """Rows of each network's own data: `x` `(S, N, ...)` and `rows` `(S, B)` -> `(S, B, ...)`."""
    return x[torch.arange(len(x))[:, None], rows]


def draw_stacked(
    generators: Sequence[torch.Generator], batch_size: int, alpha: float, per: str = "batch"
) -> tuple[Tensor, Tensor]:
    """One `draw_mixture` for each network: lam `(S, B, 1)` float32 and partner `(S, B)`."""
    drawn = [draw_mixture(batch_size, alpha, per=per, generator=g) for g in generators]
    lam = torch.stack([mixture.lam.expand(batch_size) for mixture in drawn])
    return lam[..., None], torch.stack([mixture.partner for mixture in drawn])


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of each network `(S,)`; logits and soft targets `(S, B, C)`."""
    return -(targets * logits.log_softmax(-1)).sum(-1).mean(-1)


def mixup_step(alpha: float, per: str = "batch") -> Step:
    """The training step of input mixup; `alpha = 0` is ERM."""

    def step(model: StackedMLP, x: Tensor, y: Tensor, generators: list[torch.Generator]) -> Tensor:
        if alpha == 0:
            return cross_entropy(model(x), y)
        lam, partner = draw_stacked(generators, x.shape[1], alpha, per)
        lam = lam.to(x.dtype)
        mixed, target = (torch.lerp(take(z, partner), z, lam) for z in (x, y))
        return cross_entropy(model(mixed), target)

    return step


def train(
    model: StackedMLP,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    epochs: int,
    batch_size: int = 50,
    learning_rate: float = 3e-3,
    after_epoch: Callable[[int], None] | None = None,
) -> StackedMLP:
    """Train every network on its own rows, in its own order, with Adam.

    Args:
        model: S networks, changed in place.
        x: `(S, N, D)`.
        y: soft labels `(S, N, C)`.
        step: `step(model, x, y, generators) -> (S,)` losses of one batch; everything random in it, and the order of the
            rows, comes from the generators, one for each network, seeded by `model.seeds`.
        epochs: passes over the rows.
        batch_size: rows of each network in a step.
        learning_rate: Adam's.
        after_epoch: called with the number of the epoch, from 1.

    Returns:
        The same model.
    """
    generators = [torch.Generator().manual_seed(1_000_003 + seed) for seed in model.seeds]
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    for epoch in range(1, epochs + 1):
        order = torch.stack([torch.randperm(x.shape[1], generator=g) for g in generators])
        for rows in order.split(batch_size, dim=1):
            optimizer.zero_grad()
            step(model, take(x, rows), take(y, rows), generators).sum().backward()
            optimizer.step()
        if after_epoch is not None:
            after_epoch(epoch)
    return model


@dataclass(frozen=True)
class DigitDraws:
    """Small handwritten digits, pixels 0..1 as float32, drawn anew for each seed; the test rows are common.

    Attributes:
        x, y: training rows of each seed, `(S, N, 64)` and int64 `(S, N)`.
        validation_x, validation_y: other rows of the same pool, `(S, M, 64)` and `(S, M)`.
        test_x, test_y: 500 rows, `(500, 64)` and `(500,)`.
    """

    x: Tensor
    y: Tensor
    validation_x: Tensor
    validation_y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def one_hot(self) -> Tensor:
        """The training labels as `(S, N, 10)` float32."""
        return functional.one_hot(self.y, 10).float()


def draw_digits(seeds: Sequence[int], num_train: int, num_validation: int = 0) -> DigitDraws:
    """Draw training and validation rows for each seed from scikit-learn's 8 x 8 digits, which need no download.

    The last 50 images of each class are the test set, as in `samples.digits`; the 1,297 others are the pool.

    Raises:
        ValueError: more rows than the pool has.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = torch.from_numpy(bunch.data).float() / 16, torch.from_numpy(bunch.target).long()
    test = torch.cat([(y == digit).nonzero().flatten()[-50:] for digit in range(10)]).sort().values
    kept = torch.ones(len(y), dtype=torch.bool)
    kept[test] = False
    pool = kept.nonzero().flatten()
    if not 0 < num_train <= len(pool) - num_validation or num_validation < 0:
        raise ValueError(
            f"num_train and num_validation: expected at most {len(pool)} together, got {num_train} and {num_validation}"
        )
    orders = [torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    rows = pool[torch.stack(orders)]
    first, second = rows[:, :num_train], rows[:, num_train : num_train + num_validation]
    return DigitDraws(x[first], y[first], x[second], y[second], x[test], y[test])
