"""A plausible wrong submission: power and amplitude are confused, and one lam a row does not broadcast."""

import torch


# %% q1
def mix_log_power(log_a, log_b, lam, domain):
    if domain == "log":
        return lam * log_a + (1 - lam) * log_b
    return (lam * log_a.exp() + (1 - lam) * log_b.exp()).log()


# %% q2
def cross_term(x, y, lam):
    return 2 * lam * (1 - lam) * x.abs() * y.abs() * torch.sign((x * y.conj()).real)


# %% q3
def spectrogram_mixup(waveforms, lam, partner, front, domain):
    if domain == "waveform":
        return front(lam * waveforms + (1 - lam) * waveforms[partner])
    spec = front(waveforms)
    return lam * spec + (1 - lam) * spec[partner]


# %% q4
def partner_share(lam, level):
    clip, partner = lam, (1 - lam) * 10 ** (level / 20)
    return partner / (clip + partner)


# %% q5
def gain_aware_weight(lam, a, b):
    return 1 / (1 + a / b * (1 - lam) / lam)


# %% q6
domains = {
    "two people talk in one room, on average over their unrelated phases": "waveform",
    "the mixture can be played through a loudspeaker": "waveform",
    "the mixture is never above the one that mixes power, in any band": "log",
    "a clip mixed with its own copy, turned upside down, may vanish": "power",
    "half a clip and half silence: it drops by 3 dB": "power",
    "half a clip and half silence: it drops half-way to the floor": "log",
}
