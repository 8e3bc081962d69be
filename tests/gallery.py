"""Ways to get mixup wrong, each a callable ``(x, y) -> (x_mixed, soft_targets)``, and the check that must say so.

Rows numbered 1 .. 35 are the errors gathered for the book's gallery; rows without a number come from issue threads.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn.functional import one_hot


@dataclass(frozen=True)
class Bug:
    """A planted bug: what it is, the mixup, the checks that must fail (or be noted), and words of the evidence."""

    what: str
    mixup: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    check: str
    evidence: str
    also: tuple[str, ...] = ()  # other checks that fail for the same reason
    alpha: float = 1.0
    verdict: str = "fail"
    row: int | None = None

    def __str__(self) -> str:
        return re.sub(r"\W+", "-", f"{self.row or 'x'} {self.what}")


BUGS: list[Bug] = []
LAW, MEAN, SIZES = "lam ~ Beta(1, 1)", "E[lam] = 1/2", ("odd batch", "batch of one")
EVERYTHING = ("one weight a row", "two sources at most", "W_x equals W_y", LAW, MEAN)


def bug(what: str, check: str, evidence: str, row: int | None = None, **more) -> Callable:
    """Enter a mixup into BUGS."""

    def enter(mixup):
        BUGS.append(Bug(what, mixup() if isinstance(mixup, type) else mixup, check, evidence, row=row, **more))
        return mixup

    return enter


def beta(a: float = 1.0, b: float = 1.0) -> float:
    return Beta(a, b, validate_args=True).sample().item()  # something imported may have turned the check off


def rows_of(y: Tensor) -> Tensor:
    return one_hot(y, 16).float()


def right(x: Tensor, y: Tensor, lam: float | Tensor | None = None, partner: Tensor | None = None):
    """Nothing wrong here: what the bugs below differ from."""
    lam = beta() if lam is None else lam
    partner = torch.randperm(len(x)) if partner is None else partner
    t = rows_of(y)
    own = lam.view(-1, 1, 1, 1).to(x.dtype) if isinstance(lam, Tensor) and lam.ndim == 1 else lam
    lam = lam.view(-1, 1) if isinstance(lam, Tensor) else lam
    return own * x + (1 - own) * x[partner], lam * t + (1 - lam) * t[partner]


@bug("two images are mixed and the rest is lost", "batch size kept", "16 rows in, 1 row out", 2, also=SIZES)
def two_indices(x, y):
    i, j = random.sample(range(len(x)), 2)
    lam, t = beta(), rows_of(y)
    return (lam * x[i] + (1 - lam) * x[j])[None], (lam * t[i] + (1 - lam) * t[j])[None]


@bug("class numbers are averaged", "labels are soft rows", r"\(16, 16\), got \(16,\): class numbers were averaged", 3)
def average_of_class_numbers(x, y):
    lam, partner = beta(), torch.randperm(len(x))
    return right(x, y, lam, partner)[0], lam * y + (1 - lam) * y[partner]


@bug("the partner is always the next row", "pairing changes", "same partners in every call", 4, verdict="note")
def next_row(x, y):
    return right(x, y, partner=torch.arange(len(x)).roll(-1))


@bug("lam is between 0.3 and 0.5", LAW, "Kolmogorov-Smirnov distance 0.[45]", 5, also=(MEAN,))
def narrow_lam(x, y):
    return right(x, y, random.uniform(0.3, 0.5))


@bug("lam is uniform on 0.1 to 0.9", LAW, r"distance 0\.1", 5)
def clipped_uniform_lam(x, y):
    return right(x, y, random.uniform(0.1, 0.9))


@bug("lam is Beta(1, alpha)", "lam ~ Beta(4, 4)", "distance 0.[56]", 6, also=(MEAN,), alpha=4.0)
def one_sided_beta(x, y):
    return right(x, y, beta(1.0, 4.0))


@bug("lam is Gamma(alpha)", "lam in [0, 1]", r"to \d\.\d+", 7, also=("labels in [0, 1]", LAW, MEAN))
def gamma_lam(x, y):
    return right(x, y, np.random.gamma(1.0))  # noqa: NPY002


@bug("x is mixed with itself", "not the identity", "W is the identity in every call", 8)
def mixed_with_itself(x, y):
    lam, t = beta(), rows_of(y)
    return lam * x + (1 - lam) * x, lam * t + (1 - lam) * t


@bug("mixed once, before training", "lam varies", "lam is 0.3 in every call", 9, also=(LAW, MEAN))
def mixed_once(x, y):
    return right(x, y, 0.3, torch.arange(len(x)).flip(0))


@bug("each row keeps one lam", "lam varies", "lam of each row, or 1 - lam, is the same in every call", 9, also=(LAW,))
def fixed_by_row(x, y):
    return right(x, y, (torch.arange(len(x)) + 0.37) / len(x))


@bug("virtual samples are added to the batch", "batch size kept", "16 rows in, 32 rows out", 10, also=SIZES)
def appended(x, y):
    mixed, targets = right(x, y)
    return torch.cat([x, mixed]), torch.cat([rows_of(y), targets])


@bug("labels weighted the other way round", "W_x equals W_y", "lam and 1 - lam swapped", 14)
def swapped_labels(x, y):
    lam, partner = beta(), torch.randperm(len(x))
    return right(x, y, lam, partner)[0], right(x, y, 1 - lam, partner)[1]


@bug(
    "label weights carry a factor 1/lam",
    "labels in [0, 1]",
    r"label weights from 0 to \d",
    15,
    also=("W_x equals W_y",),
)
def over_lam(x, y):
    lam = beta()
    mixed, targets = right(x, y, lam)
    return mixed, targets / lam


@bug("the partner slice is one row short", "runs", "RuntimeError: The size of tensor a", 16)
def short_slice(x, y):
    lam, t = beta(), rows_of(y)
    return lam * x + (1 - lam) * x[1:], lam * t + (1 - lam) * t[1:]


@bug(
    "lam of shape (B, 1) runs along the image's height",
    "one weight a row",
    "lam broadcast along an axis of the image",
    17,
    also=("W_x equals W_y", LAW),
)
def lam_along_height(x, y):
    lam, partner = torch.rand(len(x), dtype=x.dtype), torch.randperm(len(x))
    return lam[:, None] * x + (1 - lam[:, None]) * x[partner], right(x, y, lam, partner)[1]


@bug(
    "lam of shape (B, 1, 1) runs along the channels",
    "rows sum to one",
    "weights of a row sum to between 0",
    17,
    also=("W_x equals W_y", "dtype and device kept"),  # drawn in the dtype of the images
)
def lam_along_channels(x, y):
    lam, partner = torch.rand(len(x), dtype=x.dtype), torch.randperm(len(x))
    broad = lam[:, None, None]
    return broad * x + (1 - broad) * x[partner], right(x, y, lam, partner)[1]


@bug("alpha is overwritten by a random number", LAW, "Kolmogorov-Smirnov distance", 18)
def random_alpha(x, y):
    alpha = random.random() + 1e-3
    return right(x, y, beta(alpha, alpha))


@bug("mixed inside an image, before batching", "not the identity", "nothing is mixed", 19, also=("W_x equals W_y",))
def rows_of_one_image(x, y):
    lam, t = beta(), rows_of(y)
    return lam * x + (1 - lam) * x[:, :, torch.randperm(x.shape[2])], lam * t + (1 - lam) * t[:, torch.randperm(16)]


@bug("two halves concatenated, never added", "batch size kept", "16 rows in, 32 rows out", 20, also=SIZES)
def concatenated(x, y):
    lam, partner, t = beta(), torch.randperm(len(x)), rows_of(y)
    return torch.cat([lam * x, (1 - lam) * x[partner]]), torch.cat([lam * t, (1 - lam) * t[partner]])


@bug("validation data are mixed too", "nothing mixed in eval", "mixes in evaluation mode", 21)
class MixesAlways(nn.Module):
    def forward(self, x, y):
        return right(x, y)


@bug("validation labels are mixed", "nothing mixed in eval", "mixes the labels in evaluation mode", 21)
class MixesLabelsAlways(nn.Module):
    def forward(self, x, y):
        mixed, targets = right(x, y)
        return mixed if self.training else x, targets


@bug("soft labels truncated by .long()", "labels in [0, 1]", "miss one by up to 1", 22, also=("W_x equals W_y",))
def truncated_labels(x, y):
    mixed, targets = right(x, y)
    return mixed, targets.long()


@bug(
    "the partner is noise of zeros and ones",
    "rows sum to one",
    "sum to between",
    23,
    also=EVERYTHING,
)
def noise_partner(x, y):
    lam = beta()
    return lam * x + (1 - lam) * torch.randint(0, 2, x.shape).to(x), right(x, y, lam)[1]


@bug("the partner's label is drawn apart", "W_x equals W_y", "the weights agree but the partners differ", 24)
def other_partner_label(x, y):
    lam = beta()
    return right(x, y, lam)[0], right(x, y, lam)[1]


@bug("labels always weighted 0.8 and 0.2", "W_x equals W_y", "weights differ by up to 0.[78]", 25)
def fixed_label_weight(x, y):
    partner = torch.randperm(len(x))
    return right(x, y, partner=partner)[0], right(x, y, 0.8, partner)[1]


@bug("alpha = 0 goes into Beta(0, 0)", "runs", "ValueError: Expected parameter concentration", 27)
def alpha_zero(x, y):
    return right(x, y, beta(0.0, 0.0))


@bug("labels are not mixed at all", "W_x equals W_y", "each row's labels are not mixed at all")
def labels_left_alone(x, y):
    return right(x, y)[0], rows_of(y)


@bug("lam folded to max(lam, 1 - lam)", MEAN, "lam never falls below 1/2", also=(LAW,))
def folded_lam(x, y):
    lam = beta()
    return right(x, y, max(lam, 1 - lam))


@bug("torch's Beta at alpha = 0.001 puts an atom on 1/2", "lam ~ Beta(0.001, 0.001)", "distance 0.[345]", alpha=0.001)
def atom_at_a_half(x, y):
    return right(x, y, beta(0.001, 0.001))


@bug("the slice is a copy, so shuffling it does nothing", "not the identity", "nothing is mixed")
def shuffled_copy(x, y):
    index = np.arange(len(x))
    np.random.shuffle(index[list(range(len(x)))])  # noqa: NPY002
    return right(x, y, partner=torch.from_numpy(index))


@bug("the probability is inverted", "not the identity", "nothing is mixed")
def inverted_probability(x, y, p=1.0):
    return right(x, y) if random.random() > p else (x.clone(), rows_of(y))


@bug("rows are shuffled, never mixed", LAW, "0 of 1000 draws of lam lie between 0 and 1")
def shuffled_rows(x, y):
    return right(x, y, 0.0)


@bug("the caller's batch is changed", "caller's tensors untouched", "x changed in place")
def in_place(x, y):
    mixed, targets = right(x, y)
    return x.copy_(mixed), targets


@bug("now and then the caller's batch is changed", "caller's tensors untouched", "x changed in place")
def sometimes_in_place(x, y):
    return in_place(x, y) if random.random() < 0.1 else right(x, y)


@bug("labels take the dtype of bfloat16 images", "dtype and device kept", "labels rounded to torch.bfloat16")
def labels_in_half_precision(x, y):
    mixed, targets = right(x, y)
    return mixed.to(x.dtype), targets.to(x.dtype)


@bug("lam passes through the dtype of the images", "dtype and device kept", "labels rounded to torch.bfloat16")
def lam_in_half_precision(x, y):
    lam, partner = torch.tensor([beta()]).to(x.dtype), torch.randperm(len(x))
    return right(x, y, lam, partner)


@bug("lam is rounded, the labels are float32", "dtype and device kept", "labels rounded to torch.bfloat16")
def rounded_lam(x, y):
    lam, partner = torch.rand(len(x)).to(x.dtype), torch.randperm(len(x))
    return right(x, y, lam, partner)[0], right(x, y, lam.float(), partner)[1]


@bug("images come back in another dtype", "dtype and device kept", "torch.float64 features came back as torch.float32")
def always_float32(x, y):
    return right(x.float(), y)


@bug("odd batches are refused", "odd batch", "B = 15: AssertionError", also=("batch of one",))
def even_only(x, y):
    assert len(x) % 2 == 0, "even batches only"
    return right(x, y, partner=torch.arange(len(x)).flip(0).roll(random.randrange(2)))


@bug("a squeeze loses the batch of one", "batch of one", r"B = 1: \w+Error")
def squeezed(x, y):
    mixed, targets = right(x, y)
    return mixed.squeeze(0), targets


@bug("the last row of an odd batch is lost", "odd batch", "B = 15: weights of a row sum to between 0 and 1")
def odd_row_lost(x, y):
    mixed, targets = right(x, y)
    return torch.cat([mixed[:-1], torch.zeros_like(x[:1])]) if len(x) % 2 and len(x) > 1 else mixed, targets


@bug("a third row comes into odd batches", "odd batch", "B = 15: a row has [34] sources")
def odd_three_sources(x, y):
    mixed, targets = three_sources(x, y)
    return (mixed, targets) if len(x) == 15 else right(x, y)


@bug("odd batches have their labels swapped", "odd batch", "B = 15: features and labels differ by up to 0")
def odd_labels_swapped(x, y):
    return swapped_labels(x, y) if len(x) % 2 else right(x, y)


@bug("a batch of one is divided by its deviation", "batch of one", "B = 1: weights of a row sum to between nan and nan")
def nan_alone(x, y):
    mixed, targets = right(x, y)
    return mixed * (1 if len(x) > 1 else float("nan")), targets


@bug("the label of a batch of one loses its row", "batch of one", r"B = 1: labels of shape \(16,\) came back")
def label_squeezed(x, y):
    mixed, targets = right(x, y)
    return mixed, targets.squeeze(0)


@bug("an unseeded generator of its own", "reproducible when seeded", "mixtures differ although")
def own_entropy(x, y):
    rng = np.random.default_rng()
    return right(x, y, rng.beta(1, 1), torch.from_numpy(rng.permutation(len(x))))


@bug("channels are turned round, not the batch", "W_x equals W_y", "are channels mixed instead of rows")
def along_channels(x, y):
    lam, t = beta(), rows_of(y)
    return lam * x + (1 - lam) * x.flip(1), lam * t + (1 - lam) * t.flip(0)


@bug(
    "three rows are mixed, labels of two", "two sources at most", "a row has [34] sources", also=("W_x equals W_y", LAW)
)
def three_sources(x, y):
    lam, partner = beta(), torch.randperm(len(x))
    mixed, targets = right(x, y, lam, partner)
    return 0.8 * mixed + 0.2 * mixed.roll(1, 0), targets
