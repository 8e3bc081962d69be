"""Sound classifiers, what they are compared with (SpecAugment, SpecMix), and a test in noise.

    int16 clips -> embed -> float waveforms -> front (LogMel) -> spectrogram -> classify -> logits

`SpectrogramMixup`, `SpecAugment` and `SpecMix` stand in the place of the front end while training: each takes waveforms
and returns spectrograms with a `Mixture`. `front()` is the one front end that all of them share.
"""

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn

from mixup_modalities.audio import LogMel, loudness
from mixup_modalities.lab.runtime import seeded, stream
from mixup_modalities.mixture import Mixture

FULL_SCALE = 32_768  # of int16 samples
SNRS = (20, 10, 0)  # dB


def front() -> LogMel:
    """Return the front end of the book: 40 mels, 51 frames a second, nothing below -60 dB of full scale."""
    return LogMel(sample_rate=16_000, n_fft=512, hop_length=320, n_mels=40, f_min=20.0, floor=1e-6)


class SoundNet(nn.Module):
    """A conv net on log-mel spectrograms: four 3x3 convolutions of stride 2, then one linear layer.

    Each spectrogram loses its mean first, so that the level of a recording does not matter.

    Args:
        num_classes: classes to tell apart.
        widths: channels after each convolution.
        batch_norm: normalise after each convolution.
        log_mel: the front end; default `front()`.
        seconds: length of the clips, at 16 kHz.
    """

    def __init__(
        self,
        num_classes: int = 10,
        widths: tuple[int, ...] = (8, 16, 32, 32),
        *,
        batch_norm: bool = False,
        log_mel: LogMel | None = None,
        seconds: float = 1.0,
    ):
        super().__init__()
        self.front = front() if log_mel is None else log_mel
        size = [self.front.n_mels, self.front.num_frames(round(seconds * self.front.sample_rate))]
        layers: list[nn.Module] = []
        for a, b in pairwise((1, *widths)):
            layers += [nn.Conv2d(a, b, 3, stride=2, padding=1, bias=not batch_norm)]
            layers += [nn.BatchNorm2d(b), nn.ReLU()] if batch_norm else [nn.ReLU()]
            size = [(n + 1) // 2 for n in size]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * size[0] * size[1], num_classes))

    def embed(self, x: Tensor) -> Tensor:
        """Return float waveforms `(B, samples)` of full scale 1, of int16 or floating ones."""
        return x / FULL_SCALE if x.dtype == torch.int16 else x

    def classify(self, h: Tensor) -> Tensor:
        """Return the logits `(B, num_classes)` of log-mel spectrograms `(B, n_mels, frames)`, perhaps mixed."""
        centred = (h - h.mean((1, 2), keepdim=True)) / 4  # 4: about the standard deviation of log power
        return self.layers(centred.unsqueeze(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `(B, num_classes)` of clips `(B, samples)`."""
        return self.classify(self.front(self.embed(x)))


class SpecAugment(nn.Module):
    """Mask a band of mels and a stretch of time in each spectrogram (Park et al., 2019, arXiv 1904.08779).

    The masks are torchaudio's; masked cells take the spectrogram's mean. Nothing is mixed: the mixture is the identity.

    Args:
        log_mel: the front end.
        mels: the largest width of the masked band.
        frames: the largest length of the masked stretch.
    """

    def __init__(self, log_mel: LogMel, *, mels: int = 8, frames: int = 10):
        super().__init__()
        self.log_mel, self.mels, self.frames = log_mel, mels, frames

    def forward(self, waveforms: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Mixture]:
        """Return masked spectrograms `(B, n_mels, frames)` of waveforms `(B, samples)`, and the identity."""
        spec, identity = self.log_mel(waveforms), Mixture.identity(len(waveforms), waveforms.device)
        if not self.training:
            return spec, identity
        from torchaudio.functional import mask_along_axis_iid

        mean = spec.mean((1, 2), keepdim=True)
        spec = (spec - mean).unsqueeze(1)
        with seeded(
            int(torch.randint(2**31, (), generator=generator)), spec.device
        ):  # torchaudio draws from the global RNG
            for axis, width in ((2, self.mels), (3, self.frames)):
                spec = mask_along_axis_iid(spec, width, 0.0, axis)
        return spec.squeeze(1) + mean, identity


class SpecMix(nn.Module):
    """Replace bands of mels and stretches of time by the partner's (Kim, Han and Ko, 2021, arXiv 2108.03020).

    Up to `bands` of each, every one `share` of the axis wide and anywhere on it, the same for the whole batch. The
    label weight is the exact share of cells kept.

    Args:
        log_mel: the front end.
        bands: the largest number of bands along each axis.
        share: width of a band, as a share of the axis.
    """

    def __init__(self, log_mel: LogMel, *, bands: int = 2, share: float = 0.2):
        super().__init__()
        self.log_mel, self.bands, self.share = log_mel, bands, share

    def forward(self, waveforms: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Mixture]:
        """Return spectrograms `(B, n_mels, frames)` of waveforms `(B, samples)`, and the mixture of their labels."""
        spec = self.log_mel(waveforms)
        if not self.training:
            return spec, Mixture.identity(len(waveforms), waveforms.device)
        inside = torch.zeros(spec.shape[1:], dtype=torch.bool)
        for axis in (0, 1):
            size = inside.shape[axis]
            width = round(self.share * size)
            for _ in range(int(torch.randint(self.bands + 1, (), generator=generator))):
                start = int(torch.randint(size - width + 1, (), generator=generator))
                inside.narrow(axis, start, width).fill_(True)
        partner = torch.randperm(len(spec), generator=generator).to(spec.device)
        mixed = torch.where(inside.to(spec.device), spec[partner], spec)
        return mixed, Mixture(1 - inside.float().mean().to(spec.device), partner)


def add_noise(x: Tensor, snr: float, generator: torch.Generator) -> Tensor:
    """Add white noise to clips.

    Args:
        x: int16 or floating `(B, samples)`.
        snr: how far the noise lies below the loudest tenth of a second of each clip, dB.
        generator: a CPU generator.

    Returns:
        Floating waveforms `(B, samples)` of full scale 1.
    """
    x = x / FULL_SCALE if x.dtype == torch.int16 else x
    noise = torch.randn(x.shape, generator=generator).to(x.device)
    return x + noise * (loudness(x) * 10 ** (-snr / 20))[:, None]


@torch.no_grad()
def noise_accuracies(model: nn.Module, x: Tensor, y: Tensor, snrs: Iterable[float] = SNRS) -> dict[str, float]:
    """Test a model in white noise, the same noise for every model.

    Args:
        model: takes clips `(B, samples)`; in eval mode.
        x: int16 clips `(N, samples)`.
        y: int64 labels `(N,)`.
        snrs: signal-to-noise ratios, dB; see `add_noise`.

    Returns:
        `{"accuracy_20db": ...}` for each.
    """
    device, found = next(model.parameters()).device, {}
    for snr in snrs:
        generator, right = stream(0, "noise"), 0
        for clips, labels in zip(x.split(256), y.split(256)):
            guess = model(add_noise(clips.to(device), snr, generator)).argmax(1)
            right += int((guess.cpu() == labels.cpu()).sum())
        found[f"accuracy_{snr:g}db"] = right / len(y)
    return found
