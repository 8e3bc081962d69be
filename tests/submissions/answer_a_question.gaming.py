"""Answers made to pass the visible checks and nothing else: no run was made."""


# %% q1
def interval(values, level=0.95):
    return 3.0, 1.0367568, 4.9632432


# %% q2
def paired_interval(first, second, level=0.95):
    return 0.02, 0.01, 0.03


# %% q3
def verdict(low, high):
    return "first"


# %% q4
arms = {"first": {"alpha": 1.0}, "second": {"alpha": 0.0}}
seeds = [0, 1, 2, 3, 4]
results = {"first": [0.95, 0.96, 0.95, 0.97, 0.96], "second": [0.90, 0.91, 0.90, 0.89, 0.92]}

# %% q5
report = {"n": 5, "mean": 0.05, "low": 0.04, "high": 0.06, "verdict": "first"}
