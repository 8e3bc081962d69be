"""A plausible wrong submission: batch means are weighted, so one lam a row goes wrong."""

import torch
import torch.nn.functional as F


# %% q1
def two_losses(logits, y_a, y_b, lam):
    return (lam * F.cross_entropy(logits, y_a) + (1 - lam) * F.cross_entropy(logits, y_b)).mean()


# %% q2
def soft_targets(y_a, y_b, lam, num_classes):
    return lam * F.one_hot(y_a, num_classes) + (1 - lam) * F.one_hot(y_b, num_classes)


def soft_target_loss(logits, targets):
    return -(targets * logits.softmax(1).log()).sum(1).mean()


# %% q3
def loss_gradient(logits, y_a, y_b, lam):
    return logits.softmax(1) - (lam * F.one_hot(y_a, 3) + (1 - lam) * F.one_hot(y_b, 3))


# %% q4
def squared_gap(t_a, t_b, lam):
    return lam * (1 - lam) * (t_a - t_b).square().sum()[None]


# %% q5
def loss_floor(y_a, y_b, lam):
    return -(lam * torch.log(lam) + (1 - lam) * torch.log(1 - lam)).mean()


# %% q6
agree = {
    "cross-entropy with class weights": True,
    "absolute error": True,
    "focal loss": False,
    "cross-entropy with label smoothing": False,
    "binary cross-entropy of each class": True,
    "squared error": False,
}
