"""A plausible wrong submission: symptoms are mended, causes are not."""

import torch
import torch.nn.functional as F

from mixup_modalities import audit, draw_mixture


def draw(size, alpha, generator, per="batch"):
    mixture = draw_mixture(size, alpha, per=per, generator=generator)
    return mixture.lam, mixture.partner


def mixed(v, lam, partner):
    return lam * v + (1 - lam) * v[partner]


# %% q1
def swap(x, y, num_classes, alpha, generator=None):
    lam, partner = draw(len(x), alpha, generator)
    return mixed(x, lam, partner), mixed(F.one_hot(y, num_classes).float(), lam, partner)


# %% q2
def two_shuffles(x, y, num_classes, alpha, generator=None):
    lam, partner = draw(len(x), alpha, generator)
    partner = torch.randperm(len(x))  # one shuffle, but not the generator's
    return mixed(x, lam, partner), mixed(F.one_hot(y, num_classes).float(), lam, partner)


# %% q3
def folded(x, y, num_classes, alpha, generator=None):
    lam, partner = draw(len(x), alpha, generator)
    lam = max(lam, 1 - lam)
    lam = 1 - lam if torch.rand(()) < 0.5 else lam
    return mixed(x, lam, partner), mixed(F.one_hot(y, num_classes).float(), lam, partner)


# %% q4
def striped(x, y, num_classes, alpha, generator=None):
    lam, partner = draw(len(x), alpha, generator, per="sample")
    return mixed(x, lam[:, None, None, None], partner), mixed(F.one_hot(y, num_classes).float(), lam[:, None], partner)


# %% q5
def thrifty(x, y, num_classes, alpha, generator=None):
    lam, partner = draw(len(x), alpha, generator)
    x = x.clone().mul_(lam)
    return x.add_((1 - lam) * x[partner]), mixed(F.one_hot(y, num_classes).float(), lam, partner)


# %% q7
def rounded(x, y, num_classes, alpha, generator=None):
    lam, partner = draw(len(x), alpha, generator)
    lam = lam.to(x.dtype)
    return mixed(x, lam, partner), mixed(F.one_hot(y, num_classes).float(), lam, partner)


# %% q8
def uniform(x, y, num_classes, alpha, generator=None):
    lam, partner = draw(len(x), 0.2, generator)
    return mixed(x, lam, partner), mixed(F.one_hot(y, num_classes).float(), lam, partner)


# %% q9
def halves(x, y, num_classes, alpha, generator=None):
    lam, partner = draw(len(x), alpha, generator)
    x, y, partner = x[: len(x) // 2 * 2], y[: len(x) // 2 * 2], partner[: len(x) // 2 * 2]
    return mixed(x, lam, partner), mixed(F.one_hot(y, num_classes).float(), lam, partner)


# %% q10
def moody(x, y, num_classes, alpha, generator=None):
    lam, partner = draw(len(x), alpha, generator)
    targets = mixed(F.one_hot(y, num_classes).float(), lam, partner)
    return mixed(x, lam, partner), targets.flip(0) if partner[0] == 0 else targets


# %% q11
def diagnose(mixup, num_classes, alpha):
    failed = audit(mixup, alpha=alpha, batch_size=num_classes).failed
    words = {"W_x equals W_y": "labels", "one weight a row": "axis", "odd batch": "size"}
    return words.get(failed[0], "lam") if failed else "nothing"
