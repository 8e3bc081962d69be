"""Ten spoken words from a formant synthesiser: the offline sample of the audio chapters.

Speech is a *source* (a pulse train for the voice, noise for breath and friction) shaped by a *filter* (the resonances,
or formants, of the vocal tract). A word is a list of phones; each phone sets formants and source strengths, and the
tracks glide from one phone to the next. Speakers differ in pitch, vocal-tract length, accent, tempo, breathiness,
microphone and background noise. Every step is a tensor operation over all clips at once: a thousand clips take seconds.

Sources: the source-filter model and its cascade of resonators follow Klatt, "Software for a cascade/parallel formant
synthesizer", J. Acoust. Soc. Am. 67 (1980); vowel formants are rounded averages of Hillenbrand et al., "Acoustic
characteristics of American English vowels", J. Acoust. Soc. Am. 97 (1995).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLE_RATE = 16_000  # Hz
NUM_SAMPLES = 16_000  # one second, as in Speech Commands
WINDOW, HOP, N_FFT = 320, 160, 512  # samples; N_FFT leaves 12 ms for the ringing of the filter
CHUNK = 32  # clips synthesised at a time: what fits in the cache of the processor is three times as fast


class Phone(NamedTuple):
    """What the vocal tract does during one speech sound (values for a grown man; speakers rescale them)."""

    formants: tuple[float, float, float]  # F1, F2, F3 in Hz
    voice: float = 0.0  # amplitude of the pulse train; 1 is a full vowel
    breath: float = 0.0  # noise through the formants (aspiration)
    friction: float = 0.0  # noise made at a constriction, past the formants
    centre: float = 4000.0  # where the friction is strongest, Hz
    width: float = 3000.0  # and how broad, Hz (standard deviation)
    nasal: float = 0.0  # 1: the nose is open and the mouth is shut
    glide: float = 50.0  # ms over which the formants arrive from the phone before
    attack: float = 14.0  # ms over which the source strengths arrive
    optional: bool = False  # a final release that half of all speakers swallow


PHONES = {
    "ɛ": Phone((570, 1780, 2520), voice=1.0, glide=60),
    "ʌ": Phone((640, 1210, 2450), voice=1.0),
    "ɑ": Phone((750, 1140, 2480), voice=1.0),
    "ɔ": Phone((660, 980, 2450), voice=1.0),
    "o": Phone((510, 980, 2420), voice=1.0, glide=70),
    "ə": Phone((580, 1400, 2500), voice=1.0, glide=90),  # how the vowel of "no" begins, after the nasal
    "ʊ": Phone((390, 830, 2300), voice=0.8, glide=140),  # the end of the diphthongs in "no" and "go"
    "a": Phone((760, 1450, 2500), voice=1.0, glide=60),
    "w": Phone((560, 1060, 2450), voice=0.9, glide=150),  # the end of the diphthong in "down"
    "ɪ": Phone((400, 2050, 2650), voice=0.85, glide=150),  # the end of the diphthong in "right"
    "j": Phone((290, 2250, 3000), voice=0.65, glide=60),
    "l": Phone((350, 1080, 2750), voice=0.55, glide=45),
    "r": Phone((340, 1130, 1600), voice=0.65, glide=60),
    "n": Phone((250, 1800, 2800), voice=1.1, nasal=1.0, glide=60, attack=40),
    "s": Phone((330, 1500, 2600), friction=0.16, centre=6300, width=1300, attack=30),
    "f": Phone((340, 1050, 2250), friction=0.045, centre=5000, width=4500, attack=30),
    "p-": Phone((260, 900, 2200), glide=45),  # lips shut
    "t-": Phone((300, 1800, 2700), glide=45),  # tongue shut behind the teeth
    "d-": Phone((260, 1750, 2700), voice=0.08, glide=45),  # shut, the voice already humming
    "g-": Phone((260, 1200, 2050), voice=0.08, glide=45),
    "p": Phone((300, 950, 2200), breath=0.02, friction=0.12, centre=900, width=900, attack=3, optional=True),
    "t": Phone((320, 1800, 2700), breath=0.01, friction=0.22, centre=4300, width=1500, attack=3),
    "t.": Phone((320, 1800, 2700), breath=0.02, friction=0.16, centre=4500, width=1700, attack=3, optional=True),
    "d": Phone((300, 1750, 2700), voice=0.1, friction=0.3, centre=3900, width=1400, attack=3),
    "g": Phone((300, 1250, 2050), voice=0.15, friction=0.16, centre=1500, width=500, attack=3),
    "h": Phone((500, 1500, 2500), breath=0.03, friction=0.01, centre=4000, width=3000, attack=10, optional=True),
}
# Every word: its phones and their typical lengths in ms.
WORDS = {
    "yes": (("j", 80), ("ɛ", 150), ("s", 190)),
    "no": (("n", 95), ("ə", 70), ("o", 80), ("ʊ", 150)),
    "up": (("ʌ", 140), ("p-", 85), ("p", 10), ("h", 50)),
    "down": (("d-", 25), ("d", 14), ("a", 120), ("w", 110), ("n", 170)),
    "left": (("l", 75), ("ɛ", 130), ("f", 95), ("t-", 50), ("t.", 14), ("h", 45)),
    "right": (("r", 85), ("a", 110), ("ɪ", 100), ("t-", 70), ("t.", 14), ("h", 50)),
    "on": (("ɑ", 200), ("n", 160)),
    "off": (("ɔ", 190), ("f", 180)),
    "stop": (("s", 140), ("t-", 55), ("t", 10), ("ɑ", 150), ("p-", 85), ("p", 10), ("h", 45)),
    "go": (("g-", 25), ("g", 16), ("o", 150), ("ʊ", 150)),
}


class SpokenWords(NamedTuple):
    """Synthetic clips: `waveforms` (N, 16000) int16, `labels` (N,) int64 into `WORDS`, `speakers` (N,) int64."""

    waveforms: Tensor
    labels: Tensor
    speakers: Tensor


def spoken_words(num_clips: int, num_speakers: int, generator: torch.Generator) -> SpokenWords:
    """Synthesise clips of ten spoken words, one second each at 16 kHz.

    Words are balanced (their counts differ by one at most) and in random order; each clip's speaker is drawn at random.

    Args:
        num_clips: how many clips, N >= 1.
        num_speakers: how many different speakers say them, >= 1.
        generator: the only source of randomness; a CPU generator.

    Returns:
        Waveforms (N, 16000) int16, labels (N,) int64 in the order of `WORDS`, speakers (N,) int64.

    Raises:
        ValueError: if num_clips or num_speakers is below one.
    """
    for name, value in (("num_clips", num_clips), ("num_speakers", num_speakers)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    labels = torch.arange(num_clips)[torch.randperm(num_clips, generator=generator)] % len(WORDS)
    speakers = torch.randint(num_speakers, (num_clips,), generator=generator)
    voices = draw_voices(num_speakers, generator)
    # Many small steps: a second thread brings little, and on a busy machine its waiting takes ten times as long.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        chunks = [
            speak(labels[rows], {name: value[speakers[rows]] for name, value in voices.items()}, generator)
            for rows in (slice(start, start + CHUNK) for start in range(0, num_clips, CHUNK))
        ]
    finally:
        torch.set_num_threads(threads)
    return SpokenWords(torch.cat(chunks), labels, speakers)


def draw_voices(num_speakers: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw speakers at random.

    Args:
        num_speakers: how many.
        generator: a CPU generator.

    Returns:
        A dict of float tensors whose first axis is the speaker: pitch and filter edges in Hz, levels in dB of full
        scale, `fall` in semitones, the rest factors around one.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(num_speakers, generator=generator)

    def normal(std: float, *shape: int) -> Tensor:
        return std * torch.randn(num_speakers, *shape, generator=generator)

    # Pitch and the length of the vocal tract go together, loosely: men, women, children.
    kind = torch.multinomial(torch.tensor([0.5, 0.35, 0.15]), num_speakers, replacement=True, generator=generator)
    return {
        "tract": torch.tensor([1.0, 1.15, 1.3])[kind] * normal(0.04).exp(),
        "pitch": torch.tensor([118.0, 205.0, 260.0])[kind] * normal(0.14).exp(),
        "fall": uniform(-8.0, 2.0),  # semitones from the start of a word to its end
        "accent": normal(0.08, len(PHONES), 3).exp(),  # one's own F1, F2, F3 for every phone
        "tempo": normal(0.22).exp(),
        "breathiness": 0.06 * uniform(0.0, 1.0) ** 2,
        "tilt": uniform(250.0, 1000.0),  # where the spectrum of the voice starts to fall, Hz
        "sibilance": normal(0.5).exp(),
        "bandwidth": normal(0.15).exp(),
        "low_cut": uniform(20.0, 200.0),  # the microphone's band, Hz
        "high_cut": uniform(3500.0, 12000.0),
        "noise": -54.0 + normal(12.0),  # background, dB of full scale
        "noise_colour": uniform(0.0, 1.5),  # 0 white, 1 pink
        "level": -24.0 + normal(4.5),  # speech, dB of full scale
    }


def speak(labels: Tensor, voices: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """Let each voice say its word.

    Args:
        labels: (B,) int64, the words.
        voices: as `draw_voices` returns them, one row for each clip.
        generator: draws timing, intonation and noise.

    Returns:
        (B, 16000) int16.
    """
    size = len(labels)

    def normal(std: float, *shape: int) -> Tensor:
        return std * torch.randn(size, *shape, generator=generator)

    phones = _PHONES[labels]  # (B, K)
    lengths = _SECONDS[labels] * voices["tempo"][:, None] * normal(0.2, phones.shape[1]).exp()
    total = lengths.sum(1)
    start = (1 - total) * (0.45 + normal(0.17)).clamp(-0.02, 1.02)
    edges = start[:, None] + lengths.cumsum(1)[:, :-1]  # (B, K - 1)

    formants = _FORMANTS[labels] * voices["tract"][:, None, None] * normal(0.05, phones.shape[1], 3).exp()
    formants = formants * voices["accent"][torch.arange(size)[:, None], phones]
    shapes = torch.cat([formants, _SHAPES[labels]], 2)
    released = torch.rand(size, 1, 1, generator=generator) < 0.7
    sources = _SOURCES[labels] * (~_OPTIONAL[labels][..., None] | released)

    frame_times = torch.arange(NUM_SAMPLES // HOP + 1) * (HOP / SAMPLE_RATE)
    point_times = (torch.arange(500) + 0.5) / 500
    shapes = _tracks(shapes, edges, _GLIDE[labels], frame_times)
    sources = _tracks(sources, edges, _ATTACK[labels], point_times)
    progress = ((point_times - start[:, None]) / total[:, None]).clamp(0, 1)
    sources[:, 0] *= 1 - 0.5 * progress  # the voice tires towards the end of a word
    semitones = normal(1.0, 1) + voices["fall"][:, None] * (progress - 0.3)
    pitch = voices["pitch"][:, None] * 2 ** (semitones / 12)

    spoken = _overlap_add(_filtered(_excitation(sources, pitch, voices, generator), shapes, voices))
    spoken = spoken * (10 ** (voices["level"] / 20) / spoken.square().mean(1).sqrt())[:, None]
    noise = torch.fft.rfft(torch.randn(size, NUM_SAMPLES, generator=generator))
    frequency = torch.fft.rfftfreq(NUM_SAMPLES, 1 / SAMPLE_RATE).clamp(min=20.0)
    noise = torch.fft.irfft(noise * frequency ** (-0.5 * voices["noise_colour"][:, None]))
    noise = noise * (10 ** (voices["noise"] / 20) / noise.square().mean(1).sqrt())[:, None]
    return (spoken + noise).mul(32768).round().clamp(-32768, 32767).to(torch.int16)


def _tracks(targets: Tensor, edges: Tensor, widths: Tensor, times: Tensor) -> Tensor:
    """Glide from target to target: (B, K, P), edges (B, K - 1), widths (B, K) -> (B, P, times)."""
    steps = ((times - edges[..., None]) / widths[:, 1:, None] + 0.5).clamp(0, 1)
    steps = steps * steps * (3 - 2 * steps)
    return targets[:, 0, :, None] + torch.einsum("bkt,bkp->bpt", steps, targets.diff(dim=1))


def _excitation(sources: Tensor, pitch: Tensor, voices: dict, generator: torch.Generator) -> Tensor:
    """Voice pulses, breath noise and friction noise, sample by sample: (B, 3, 500), (B, 500) -> (B, 3, 16000)."""
    voice, breath, friction = F.interpolate(sources, NUM_SAMPLES, mode="linear").unbind(1)
    cycles_per_sample = F.interpolate(pitch[:, None], NUM_SAMPLES, mode="linear")[:, 0] / SAMPLE_RATE
    wobble = torch.randn(len(pitch), 1, 100, generator=generator)
    wobble = F.interpolate(wobble, NUM_SAMPLES, mode="linear")[:, 0]
    cycles_per_sample = cycles_per_sample * (1 + 0.01 * wobble)
    phase = cycles_per_sample.double().cumsum(1) + torch.rand(len(pitch), 1, generator=generator)
    # A pulse falls between two samples: share it, or the pitch would be quantised to whole samples and sound rough.
    pulse = phase.floor().diff(dim=1, prepend=phase[:, :1].floor()) * cycles_per_sample.rsqrt()
    late = (phase.frac() / cycles_per_sample).float().clamp(max=1)
    pulse = (pulse * (1 - late) + (pulse * late).roll(-1, 1)).float()
    noise = torch.randn(2, *phase.shape, generator=generator)
    flow = 1 + 0.6 * torch.cos(2 * torch.pi * phase.frac().float())  # breath comes in puffs while the voice sounds
    breath = breath + voices["breathiness"][:, None] * voice * flow
    return torch.stack([voice * pulse, breath * noise[0], friction * noise[1]], 1)


def _filtered(excitation: Tensor, shapes: Tensor, voices: dict[str, Tensor]) -> Tensor:
    """Shape the sources in short frames: (B, 3, 16000), (B, 6, frames) -> (B, frames, N_FFT) samples."""
    frames = F.pad(excitation, (WINDOW // 2, WINDOW // 2)).unfold(-1, WINDOW, HOP)  # (B, 3, frames, WINDOW)
    voice, breath, friction = torch.fft.rfft(frames * torch.hann_window(WINDOW), N_FFT).unbind(1)
    frequency = torch.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE)
    tilt = 1 / (1 + (frequency / voices["tilt"][:, None]) ** 2).sqrt()

    width = voices["bandwidth"] * voices["tract"]
    nasal = shapes[:, 5]
    moving = [(shapes[:, i], (w * width)[:, None] * (1 + 0.4 * nasal)) for i, w in enumerate((70.0, 100.0, 150.0))]
    denominator, gain = _resonators([*moving, ((1000 * voices["tract"])[:, None].expand_as(nasal), 100.0)])
    # In a vowel the nasal zero sits on the nasal pole and cancels it; as the nose opens it moves away.
    numerator, loss = _resonators([(voices["tract"][:, None] * (1000 + 500 * nasal), 100.0)])
    fixed = [(f * voices["tract"], 0.06 * f * width) for f in (3500.0, 4500.0, 5500.0, 6500.0, 7500.0)]
    upper, upper_gain = _resonators([(f, w.where(f < 7800, 1e5)) for f, w in fixed])  # past the band: no resonance
    tract = (gain / loss)[..., None] * numerator / denominator * (upper_gain[:, None] / upper)[:, None]

    centre = (shapes[:, 3] * voices["sibilance"][:, None] ** 0.2).clamp(max=7600.0)[..., None]
    hiss = 0.03 + torch.exp(-0.5 * ((frequency - centre) / shapes[:, 4, :, None]) ** 2)
    hiss = hiss * (voices["sibilance"][:, None, None] / hiss.square().mean(-1, keepdim=True).sqrt())

    low, high = voices["low_cut"][:, None], voices["high_cut"][:, None]
    microphone = 1 / ((1 + (low / frequency.clamp(min=1.0)) ** 4) * (1 + (frequency / high) ** 4)).sqrt()
    spectrum = (voice * tilt[:, None] + breath) * tract + friction * hiss
    return torch.fft.irfft(spectrum * microphone[:, None], N_FFT)


def _resonators(poles: list[tuple[Tensor, Tensor | float]]) -> tuple[Tensor, Tensor]:
    """The denominators of a cascade of two-pole resonators and its gain at 0 Hz.

    Args:
        poles: (frequency, bandwidth) in Hz of each resonator, tensors of one shape.

    Returns:
        The response of the denominator, shape + (N_FFT // 2 + 1,) complex, and its value at 0 Hz, of that shape.
    """
    angle = 2 * torch.pi * torch.arange(N_FFT // 2 + 1) / N_FFT
    delays = torch.view_as_real(torch.polar(torch.ones(3, 1), -torch.arange(3)[:, None] * angle)).flatten(1)
    response, at_zero = 1.0, 1.0
    for frequency, bandwidth in poles:
        radius = torch.exp(-torch.pi * torch.as_tensor(bandwidth) / SAMPLE_RATE)
        middle = -2 * radius * torch.cos(2 * torch.pi * frequency / SAMPLE_RATE)
        taps = torch.stack([torch.ones_like(middle), middle, (radius * radius).expand_as(middle)], -1)
        response = response * torch.view_as_complex((taps @ delays).unflatten(-1, (-1, 2)))
        at_zero = at_zero * taps.sum(-1)
    return response, at_zero


def _overlap_add(frames: Tensor) -> Tensor:
    """(B, frames, N_FFT) -> (B, 16000)."""
    count = frames.shape[1]
    length = (count - 1) * HOP + N_FFT
    total = F.fold(frames.transpose(1, 2), (1, length), (1, N_FFT), stride=(1, HOP))[:, 0, 0]
    return total[:, WINDOW // 2 : WINDOW // 2 + NUM_SAMPLES]


def _word_tables() -> tuple[Tensor, ...]:
    """The words as tensors: silence before, phones, silence after (where the tract keeps its last position)."""
    names = list(PHONES)
    length = max(map(len, WORDS.values())) + 2
    ids, seconds = torch.zeros(len(WORDS), length, dtype=torch.int64), torch.zeros(len(WORDS), length)
    silent = torch.ones(len(WORDS), length, dtype=torch.bool)
    for row, word in enumerate(WORDS.values()):
        said = [names.index(phone) for phone, _ in word]
        ids[row] = torch.tensor([said[0], *said] + [said[-1]] * (length - len(said) - 1))
        seconds[row, 1 : len(said) + 1] = torch.tensor([ms / 1000 for _, ms in word])
        silent[row, 1 : len(said) + 1] = False
    phones = list(PHONES.values())
    sources = torch.tensor([[p.voice, p.breath, p.friction] for p in phones])[ids] * ~silent[..., None]
    attack = torch.tensor([p.attack / 1000 for p in phones])[ids].masked_fill(silent, 0.06)
    return (
        ids,
        seconds,
        torch.tensor([p.formants for p in phones])[ids],
        torch.tensor([[p.centre, p.width, p.nasal] for p in phones])[ids],
        sources,
        torch.tensor([p.glide / 1000 for p in phones])[ids],
        attack,
        torch.tensor([p.optional for p in phones])[ids] & ~silent,
    )


_PHONES, _SECONDS, _FORMANTS, _SHAPES, _SOURCES, _GLIDE, _ATTACK, _OPTIONAL = _word_tables()
