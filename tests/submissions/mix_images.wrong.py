"""A plausible wrong submission: one lam for the batch works, one lam a row runs along the width of the image."""

import torch
import torch.nn.functional as F
from torch import nn

from mixup_modalities import draw_mixture


# %% q1
def mix(x, lam, partner):
    return lam * x + (1 - lam) * x[partner]


# %% q2
def mix_labels(y, lam, partner, num_classes):
    rows = F.one_hot(y, num_classes).float()
    return lam * rows + (1 - lam) * rows[partner]


# %% q3
def matrix(lam, partner):
    w = torch.diag(lam.expand(len(partner)).clone())
    w[torch.arange(len(partner)), partner] = 1 - lam
    return w


# %% q4
def image_mixup(x, y, num_classes, alpha, per="batch", generator=None):
    lam = torch.distributions.Beta(alpha, alpha).sample((len(x),) if per == "sample" else ())
    partner = torch.randperm(len(x), generator=generator)
    rows = F.one_hot(y, num_classes).float()
    wide = lam.reshape(-1, 1, 1, 1)[: len(x)] if per == "sample" else lam
    rows_lam = lam[:, None] if per == "sample" else lam
    return wide * x + (1 - wide) * x[partner], rows_lam * rows + (1 - rows_lam) * rows[partner]


# %% q5
class MyMixup(nn.Module):
    def __init__(self, num_classes, alpha):
        super().__init__()
        self.num_classes, self.alpha = num_classes, alpha

    def forward(self, x, y):
        if not self.training:
            return x, F.one_hot(y, self.num_classes).float()
        lam = draw_mixture(1, self.alpha).lam
        x += (1 - lam) * (x[torch.randperm(len(x))] - x)
        return x, lam * F.one_hot(y, self.num_classes)
