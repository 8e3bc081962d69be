"""A plausible wrong submission: a normal interval, n in the denominator, arms taken as independent, three seeds."""

import numpy as np


# %% q1
def interval(values, level=0.95):
    x = np.asarray(values, dtype=float)
    half = 1.96 * x.std() / np.sqrt(len(x))
    return x.mean(), x.mean() - half, x.mean() + half


# %% q2
def paired_interval(first, second, level=0.95):
    first, second = np.asarray(first), np.asarray(second)
    half = 1.96 * np.sqrt(first.var() / len(first) + second.var() / len(second))
    mean = first.mean() - second.mean()
    return mean, mean - half, mean + half


# %% q3
def verdict(low, high):
    return "first" if low >= 0 else "second"


# %% q4
arms = {"first": {"per": "sample"}, "second": {"per": "batch"}}
seeds = [0, 1, 2]
results = {"first": [0.801, 0.795, 0.822], "second": [0.79, 0.81, 0.80]}

# %% q5
d = np.subtract(results["first"], results["second"])
half = 1.96 * d.std() / np.sqrt(3)
report = {"n": 5, "mean": d.mean(), "low": d.mean() - half, "high": d.mean() + half, "verdict": "first"}
