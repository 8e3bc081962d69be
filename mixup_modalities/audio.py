"""Mixup for sound, and the question *where*: samples, mel power, or its logarithm.

Between a waveform and a log-mel spectrogram stand three steps, and mixing commutes with the first alone:

- the short-time Fourier transform is linear: mixing samples is mixing spectra, with their phases (``"waveform"``);
- power is quadratic: ``|a X + b Y|^2 = a^2 |X|^2 + b^2 |Y|^2 + 2 a b Re(X Y*)``. Mixing power leaves out the cross-term
  and weighs with lam instead of lam^2: two sources in one room, up to phase (``"power"``);
- the logarithm is concave: by Jensen, the mixture of logs lies below the log of the mixture (``"log"``).

Either way the short-time Fourier transform, which is the expensive part, is computed once for each clip.
"""

from __future__ import annotations

import math
import warnings
from numbers import Real
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from .mixture import Mixture, MixupModule, Pairing, Per, check_choice, check_generator, values_readable

Domain = Literal["waveform", "power", "log"]
SILENCE = 1e-4  # -80 dB of full scale: below it a clip has no loudness that could be equalised


class LogMel(nn.Module):
    """The log-mel spectrogram: `librosa.feature.melspectrogram` with its defaults, then the natural logarithm.

    >>> spec = LogMel(sample_rate=16000)(waveforms)  # (B, samples) -> (B, n_mels, frames)

    Hann window, frames centred on multiples of ``hop_length`` with zeros beyond the ends, power, triangular filters of
    unit area on Slaney's mel scale (``htk=False, norm="slaney"``). Computed in float32 (or float64, for such input), on
    the device of the input, also under autocast and in a model cast to half precision: squares and logarithms of such
    numbers are useless. Once moved, ``log_mel.to(device)``, its tables are not copied to the device at each call.

    Args:
        sample_rate: of the waveforms, Hz.
        n_fft: samples of one Fourier transform.
        hop_length: samples from one frame to the next.
        win_length: samples of the window, at most ``n_fft``; default ``n_fft``.
        n_mels: number of filters.
        f_min: lower edge of the lowest filter, Hz.
        f_max: upper edge of the highest filter, Hz; default half the sample rate.
        floor: smallest mel power that the logarithm sees, a normal number of float32; librosa's ``amin``. Digital
            silence becomes ``log(floor)``.
        check_finite: look for NaN and infinity first. On a GPU this waits for the device.

    Raises:
        ValueError: a setting that makes no sense, or is not a number; the message names it.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        sample_rate: int = 16_000,
        n_fft: int = 512,
        hop_length: int = 160,
        n_mels: int = 40,
        *,
        win_length: int | None = None,
        f_min: float = 0.0,
        f_max: float | None = None,
        floor: float = 1e-10,
        check_finite: bool = False,
    ):
        super().__init__()
        counts = {"sample_rate": sample_rate, "n_fft": n_fft, "hop_length": hop_length, "n_mels": n_mels}
        counts["win_length"] = n_fft if win_length is None else win_length
        for name, value in counts.items():
            if isinstance(value, bool) or not isinstance(value, Real) or value < 1 or value % 1:  # as inf and nan are
                raise ValueError(f"{name}: expected an integer >= 1, got {value!r}")
        self.sample_rate, self.n_fft, self.hop_length, self.n_mels, self.win_length = map(int, counts.values())
        if self.win_length > self.n_fft:
            raise ValueError(f"win_length: expected at most n_fft = {n_fft}, got {win_length}")
        half = self.sample_rate / 2
        levels = {"f_min": f_min, "f_max": half if f_max is None else f_max, "floor": floor}
        for name, value in levels.items():
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ValueError(f"{name}: expected a number, got {value!r}")
        self.f_min, self.f_max, self.floor = map(float, levels.values())
        if not 0 <= self.f_min < self.f_max <= half:
            raise ValueError(
                f"f_min and f_max: expected 0 <= f_min < f_max <= {half:g} Hz, half the sample rate, got "
                f"{self.f_min:g} and {self.f_max:g}"
            )
        float32 = torch.finfo(torch.float32)
        if not float32.tiny <= self.floor <= float32.max:
            raise ValueError(f"floor: expected a power from {float32.tiny:.3g} to {float32.max:.3g}, got {floor!r}")
        self.check_finite = check_finite
        filters = mel_filters(self.sample_rate, self.n_fft, self.n_mels, self.f_min, self.f_max)
        if empty := int((filters.amax(1) == 0).sum()):
            warnings.warn(
                f"LogMel: {empty} of {n_mels} mel filters fall between two Fourier frequencies and are empty; take "
                f"fewer mels or a larger n_fft than {n_fft}",
                stacklevel=2,
            )
        self._exact = {"window": torch.hann_window(self.win_length, dtype=torch.float64), "filters": filters}
        for name, table in self._exact.items():
            self.register_buffer(name, table.float(), persistent=False)

    def _apply(self, fn, recurse: bool = True):
        """Moves the tables with a model and leaves them in float32: rounded to half precision they are wrong."""
        super()._apply(fn, recurse)
        for name, table in self._exact.items():
            if getattr(self, name).dtype != torch.float32:
                setattr(self, name, table.float().to(getattr(self, name).device))
        return self

    def _table(self, name: str, like: Tensor) -> Tensor:
        """The window or the filters in the precision of the input, on its device."""
        table = getattr(self, name)
        return (table if table.dtype == like.dtype else self._exact[name]).to(like.device, like.dtype)

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The log-mel spectrogram.

        Args:
            waveforms: ``(B, samples)`` floating, full scale 1, at ``sample_rate``. Never changed.
            lengths: int64 ``(B,)``, the samples of each clip; what is stored behind them is ignored.

        Returns:
            ``(B, n_mels, frames)``, at least ``log(floor)``, with ``1 + samples // hop_length`` frames (for odd
            ``n_fft``: ``samples - 1``).

        Raises:
            TypeError: integer samples.
            ValueError: stereo or a single clip, clips shorter than a window, lengths over the end, non-finite samples
                (if checked).
        """
        return self.log(self.power(waveforms, lengths))

    def power(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The mel power, before the logarithm: the same arguments, shapes and errors as the whole."""
        return self.mel(self.stft(waveforms, lengths))

    def stft(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The complex spectra ``(B, n_fft // 2 + 1, frames)``: the linear part."""
        return self._stft(self.checked(waveforms, lengths))

    def _stft(self, waveforms: Tensor) -> Tensor:
        with torch.autocast(waveforms.device.type, enabled=False):
            window = self._table("window", waveforms)
            return torch.stft(
                waveforms,
                self.n_fft,
                self.hop_length,
                self.win_length,
                window,
                pad_mode="constant",
                return_complex=True,
            )

    def mel(self, spectra: Tensor) -> Tensor:
        """Mel power ``(B, n_mels, frames)`` of complex spectra ``(B, n_fft // 2 + 1, frames)``."""
        with torch.autocast(spectra.device.type, enabled=False):
            power = spectra.real.square() + spectra.imag.square()  # not abs().square(): its gradient at 0 is NaN
            return self._table("filters", power) @ power

    def log(self, power: Tensor) -> Tensor:
        """The natural logarithm of mel power, which counts as ``floor`` where it is less."""
        with torch.autocast(power.device.type, enabled=False):
            return power.clamp(min=self.floor).log()

    def num_frames(self, lengths: Tensor | int) -> Tensor | int:
        """How many frames a clip of that many samples has: those centred within it, and one at its end."""
        return 1 + (lengths - self.n_fft % 2) // self.hop_length

    def checked(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Waveforms in float32 or float64, with zeros behind each clip's end; an error where they are unusable."""
        if not isinstance(waveforms, Tensor):
            raise TypeError(f"waveforms: expected a tensor (B, samples), got {type(waveforms).__name__}")
        if not waveforms.is_floating_point():
            raise TypeError(
                f"waveforms: expected floating samples of full scale 1, got {waveforms.dtype}. Convert first "
                "(waveforms.float() / 32768 for int16)"
            )
        if waveforms.ndim != 2:
            hint = "; for stereo, average the channels first (waveforms.mean(1))" if waveforms.ndim == 3 else ""
            hint = "; for one clip, add the batch axis (waveform[None])" if waveforms.ndim == 1 else hint
            raise ValueError(f"waveforms: expected mono clips (B, samples), got shape {tuple(waveforms.shape)}{hint}")
        if waveforms.shape[0] == 0 or waveforms.shape[1] < self.win_length:
            raise ValueError(
                f"waveforms: expected at least one clip of at least one window, {self.win_length} samples, got shape "
                f"{tuple(waveforms.shape)}"
            )
        waveforms = waveforms if waveforms.dtype == torch.float64 else waveforms.float()
        if lengths is not None:
            self._check_lengths(waveforms, lengths)
            inside = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None]
            waveforms = waveforms.masked_fill(~inside, 0)  # not a product: 0 * NaN is NaN
        if self.check_finite and not bool(waveforms.isfinite().all()):
            bad = (~waveforms.isfinite()).any(1).nonzero().flatten().tolist()
            raise ValueError(f"waveforms: expected finite samples, got NaN or infinity in rows {bad[:8]}")
        return waveforms

    def _check_lengths(self, waveforms: Tensor, lengths: Tensor) -> None:
        if not isinstance(lengths, Tensor) or lengths.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"lengths: expected an int64 tensor (B,), got {getattr(lengths, 'dtype', type(lengths))}")
        if lengths.shape != waveforms.shape[:1] or lengths.device != waveforms.device:
            raise ValueError(
                f"lengths: expected shape ({waveforms.shape[0]},) on {waveforms.device} as waveforms have, got "
                f"{tuple(lengths.shape)} on {lengths.device}"
            )
        if values_readable(lengths):
            low, high = int(lengths.min()), int(lengths.max())
            if low < self.win_length or high > waveforms.shape[1]:
                raise ValueError(
                    f"lengths: expected samples from one window, {self.win_length}, to the end of the waveforms, "
                    f"{waveforms.shape[1]}, got {low} to {high}"
                )

    def extra_repr(self) -> str:
        """The settings, for printing."""
        return (
            f"sample_rate={self.sample_rate}, n_fft={self.n_fft}, hop_length={self.hop_length}, "
            f"win_length={self.win_length}, n_mels={self.n_mels}, f_min={self.f_min:g}, f_max={self.f_max:g}"
        )


class SpectrogramMixup(MixupModule):
    """Mixup of sound: log-mel spectrograms of mixed samples, of mixed power, or mixed themselves.

    >>> spec, mixture = SpectrogramMixup(LogMel(sample_rate=16000), alpha=0.2, domain="power")(waveforms)
    >>> loss = mixture.loss(F.cross_entropy, model(spec), labels)

    With ``gain_aware`` the clips are brought to one loudness A before they are mixed, so that lam is a share of what is
    heard: otherwise a clip 20 dB down has 1 % of the energy and still lam of the label. As in between-class learning
    (Tokozume, Ushiku and Harada, 2018, arXiv 1711.10282, section 3.2), the gains go into the weights, and a row
    with lam = 1 or lam = 0 remains the clip it is:

    - waveform: ``(p x + (1 - p) y) / sqrt(p^2 + (1 - p)^2)``, ``p = 1 / (1 + A_x / A_y (1 - lam) / lam)``, the
      paper's equation: amplitudes stand at lam : 1 - lam;
    - power: ``p X + (1 - p) Y``, ``p = 1 / (1 + A_x^2 / A_y^2 (1 - lam) / lam)``: powers stand at lam : 1 - lam;
    - log: both clips at the loudness ``A_x^lam A_y^(1-lam)``, then mixed by lam. Above the floor nothing changes, since
      a gain is a constant in a logarithm; the floor is now equally far from both.

    The loudness is :func:`loudness`; beside a silent clip, which has none, plain mixing is left.

    Args:
        log_mel: the front end.
        alpha: lam ~ Beta(alpha, alpha); 0 switches mixing off.
        domain: ``"waveform"``, ``"power"`` or ``"log"``: what is mixed.
        gain_aware: equalise loudness first.
        per: one lam for the ``"batch"``, each ``"pair"`` or each ``"sample"``.
        pairing: ``"shuffle"``, ``"roll"`` or ``"flip"``; see :func:`~mixup_modalities.draw_mixture`.
    """

    def __init__(
        self,
        log_mel: LogMel,
        alpha: float = 0.2,
        domain: Domain = "power",
        *,
        gain_aware: bool = False,
        per: Per = "batch",
        pairing: Pairing = "shuffle",
    ):
        super().__init__(alpha, per=per, pairing=pairing)
        if not isinstance(log_mel, LogMel):
            raise TypeError(f"log_mel: expected a LogMel front end, got {type(log_mel).__name__}")
        check_choice("domain", domain, Domain)
        self.log_mel, self.domain, self.gain_aware = log_mel, domain, bool(gain_aware)

    def forward(
        self, waveforms: Tensor, lengths: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Mixture]:
        """Mix a batch of clips and return what the model sees.

        Args:
            waveforms: ``(B, samples)`` floating, full scale 1. Never changed.
            lengths: int64 ``(B,)``, the samples of each clip. What is stored behind them is ignored and counts as
                silence; :func:`mixed_lengths` gives the lengths of the mixtures.
            generator: a CPU generator; default torch's global one.

        Returns:
            Log-mel spectrograms ``(B, n_mels, frames)`` and the mixture, which weighs the labels. In evaluation mode,
            or with alpha = 0: the spectrograms of the clips as they are and the identity.

        Raises:
            TypeError, ValueError: as :class:`LogMel` does.
        """
        waveforms = self.log_mel.checked(waveforms, lengths)
        check_generator(generator)
        mixture = self.draw(waveforms.shape[0], waveforms.device, generator)
        if not self.training or self.alpha == 0:
            return self.log_mel.log(self.log_mel.mel(self.log_mel._stft(waveforms))), mixture
        return self._mix(waveforms, mixture, lengths), mixture

    def mix(self, waveforms: Tensor, mixture: Mixture, lengths: Tensor | None = None) -> Tensor:
        """Mix by a given mixture, in training and evaluation mode alike: arguments and spectrograms as in the call.

        Raises:
            ValueError: the mixture is of another number of clips, or on another device, and as in the call.
        """
        return self._mix(self.log_mel.checked(waveforms, lengths), mixture, lengths)

    def _mix(self, x: Tensor, mixture: Mixture, lengths: Tensor | None) -> Tensor:
        mixture.check_rows("waveforms", x)
        front, lam = self.log_mel, mixture.lam
        if self.gain_aware:
            own = loudness(x, lengths, front.sample_rate)
            partners = own.index_select(0, mixture.partner)
            silent = (own < SILENCE) | (partners < SILENCE)
            ratio = torch.where(silent, 1.0, own / partners)
        if self.domain == "waveform":
            if not self.gain_aware:
                return front.log(front.mel(front._stft(mixture.mix(x))))
            p = lam / (lam + ratio * (1 - lam))
            power = front.mel(front._stft(Mixture(p, mixture.partner).mix(x)))
            # The division by sqrt(p^2 + (1 - p)^2), where it costs least: after the filters, squared.
            return front.log(power / torch.where(silent, 1.0, p * p + (1 - p) * (1 - p))[:, None, None])
        power = front.mel(front._stft(x))
        if self.domain == "power":
            if not self.gain_aware:
                return front.log(mixture.mix(power))
            # Not a Mixture: beside a clip thousands of times louder, 1 - p would be what rounding left of it.
            other = ratio.square() * (1 - lam)
            p, q = (w[:, None, None] for w in (lam / (lam + other), other / (lam + other)))
            return front.log(p * power + q * power.index_select(0, mixture.partner))
        if not self.gain_aware:
            return mixture.mix(front.log(power))
        # Both at the loudness A_x^lam A_y^(1 - lam), so that rows with lam = 1 or 0 stay what they are. A gain is a
        # constant in the logarithm, so one logarithm serves both.
        level = 2 * ratio.log()[:, None, None]
        weight = mixture.lam_like(power)
        plain = power.clamp(min=torch.finfo(power.dtype).tiny).log()
        here = (plain + level * (weight - 1)).clamp(min=math.log(front.floor))
        there = (plain.index_select(0, mixture.partner) + level * weight).clamp(min=math.log(front.floor))
        return torch.lerp(there, here, weight.to(here.dtype))

    def mix_features(self, features: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Mixture]:
        """Draw a mixture and mix features of the domain, already of one loudness: the step whose matrix W is audited.

        Args:
            features: ``(B, ...)`` floating or complex: samples, spectra, mel power or its logarithm.
            generator: a CPU generator; default torch's global one.

        Returns:
            The mixed features and the mixture; in evaluation mode the input and the identity.
        """
        check_generator(generator)
        mixture = self.draw(features.shape[0], features.device, generator)
        return (mixture.mix(features) if self.training and self.alpha > 0 else features), mixture

    def extra_repr(self) -> str:
        """The settings, for printing."""
        return f"{super().extra_repr()}, domain={self.domain!r}, gain_aware={self.gain_aware}"


def loudness(waveforms: Tensor, lengths: Tensor | None = None, sample_rate: int = 16_000) -> Tensor:
    """How loud clips are: the largest root mean square over windows of 0.1 s, every 0.05 s.

    The largest, not the mean, for a short word in a long pause is no quieter than a long one (Tokozume et al., 2018,
    take it too, after A-weighting). A constant for the gradient.

    Args:
        waveforms: ``(B, samples)`` floating, full scale 1, zeros behind each clip's end.
        lengths: int64 ``(B,)``; a clip shorter than a window is averaged over its own length.
        sample_rate: Hz.

    Returns:
        ``(B,)``, 1 at full scale; see `SILENCE`.
    """
    with torch.no_grad():
        half = max(1, round(0.05 * sample_rate))
        samples = waveforms.shape[1]
        whole = nn.functional.pad(waveforms, (0, -samples % half)) if samples % half else waveforms
        energy = torch.linalg.vector_norm(whole.unflatten(1, (-1, half)), dim=2).square()
        energy = energy[:, :-1] + energy[:, 1:] if energy.shape[1] > 1 else energy
        window = min(2 * half, samples) if lengths is None else lengths.clamp(max=2 * half)
        return (energy.amax(1) / window).sqrt()


def mixed_lengths(lengths: Tensor, mixture: Mixture) -> Tensor:
    """The lengths of mixtures: the longer of the two clips, of those that have weight.

    Args:
        lengths: int64 ``(B,)``, samples (or frames) of the unmixed clips.
        mixture: of B rows.

    Returns:
        int64 ``(B,)``.

    Raises:
        TypeError, ValueError: ``lengths`` is not a tensor of B rows on the device of the mixture.
    """
    mixture.check_rows("lengths", lengths)
    own = lengths * (mixture.lam > 0)
    return torch.maximum(own, lengths.index_select(0, mixture.partner) * (mixture.lam < 1))


def mel_filters(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """Triangular filters of unit area, centred at equal steps of Slaney's mel scale.

    The scale is linear below 1 kHz, 15 mels, and logarithmic above, 27 mels for a factor of 6.4 (Slaney, *Auditory
    Toolbox*, 1998); librosa's default.

    Args:
        sample_rate: Hz.
        n_fft: samples of the Fourier transform.
        n_mels: number of filters.
        f_min: lower edge of the lowest filter, Hz.
        f_max: upper edge of the highest filter, Hz.

    Returns:
        float64 ``(n_mels, n_fft // 2 + 1)``, in 1 / Hz.
    """
    step = np.log(6.4) / 27

    def to_mel(f: float) -> float:
        return 15 + np.log(f / 1000) / step if f >= 1000 else f * 0.015

    mel = np.linspace(to_mel(f_min), to_mel(f_max), n_mels + 2)
    edges = np.where(mel >= 15, 1000 * np.exp(step * (mel - 15)), mel / 0.015)
    frequency = np.linspace(0, n_fft // 2 * sample_rate / n_fft, n_fft // 2 + 1)  # half the rate, unless n_fft is odd
    rise = (frequency - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - frequency) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rise, fall))
    return torch.from_numpy(triangles * (2 / (edges[2:] - edges[:-2]))[:, None])
