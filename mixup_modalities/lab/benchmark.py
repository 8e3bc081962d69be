"""What mixing costs, measured against everything a user would pick instead, in one run.

The yardstick is a copy of the batch, `x.clone()`: two passes over memory, one to read and one to write. Contenders
take turns, one call each, so that whatever else the machine does hits them all; a contender's time is its median, and
what is reported is the ratio to the copy. Each contender is looked at with the mixing matrix before it is timed: speed
does not count where the result is wrong. Where the C library allows it, freed memory is kept: otherwise whoever happens
to get new pages from the operating system pays for them, several times the cost of the mixing.
"""

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from mixup_modalities.audit import mixing_matrix
from mixup_modalities.image import ImageMixup
from mixup_modalities.kernels import lerp_rows
from mixup_modalities.lab.errors import LabError
from mixup_modalities.lab.runtime import device_name, pick_device, stream
from mixup_modalities.mixture import Mixture, draw_mixture
from mixup_modalities.text import EmbeddingMixup, mix_embeddings

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SHAPES = {
    "small": (512, 3, 32, 32),
    "medium": (256, 3, 64, 64),
    "large": (128, 3, 224, 224),
    "huge": (256, 3, 224, 224),
    "vast": (1024, 3, 224, 224),
}


@dataclass(frozen=True)
class Row:
    """One contender in one case.

    Attributes:
        case: such as "float images 256x3x64x64".
        contender: such as "ours, roll".
        milliseconds: median time of a call.
        ratio: to a copy of the same batch in the same run; of several rounds, the median.
        gigabytes_per_second: bytes of the batch read and of the result written, each once, by the median time.
        extra_bytes: largest memory held beyond the arguments during a call, in units of the result; None on a device
            that does not tell.
        repeats: calls that were timed, in each round.
        low: least ratio of a round.
        high: largest ratio of a round.
    """

    case: str
    contender: str
    milliseconds: float
    ratio: float
    gigabytes_per_second: float
    extra_bytes: float | None
    repeats: int
    low: float
    high: float


@dataclass(frozen=True)
class Case:
    """A batch and the functions that mix it; the first is the copy that all are measured by."""

    name: str
    contenders: dict[str, Callable[[], object]]
    bytes_moved: int
    result_bytes: int


def keep_freed_memory() -> bool:
    """Ask glibc to serve every size from its heap and to return nothing to the system; False with another C library."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        no_mmap, no_trim = libc.mallopt(-4, 0), libc.mallopt(-1, -1)  # M_MMAP_MAX, M_TRIM_THRESHOLD
        return bool(no_mmap and no_trim)
    return False


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peers(num_classes: int) -> dict[str, Callable[[Tensor, Tensor], tuple]]:
    """Mixups of other libraries, where installed, as `(x, y) -> (x_mixed, soft_targets)`, alpha = 1."""
    found: dict[str, Callable[[Tensor, Tensor], tuple]] = {}
    if importlib.util.find_spec("torchvision"):
        from torchvision.transforms import v2

        found["torchvision v2 MixUp"] = v2.MixUp(num_classes=num_classes, alpha=1.0)
    if importlib.util.find_spec("timm"):
        from timm.data import Mixup

        found["timm Mixup"] = Mixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=num_classes)
    if importlib.util.find_spec("kornia"):
        import kornia.augmentation as K

        kornia_mixup = K.RandomMixUpV2(data_keys=["input", "class"])

        def kornia(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            mixed, labels = kornia_mixup(x, y)
            own, partner = (F.one_hot(labels[:, i].long(), num_classes).float() for i in (0, 1))
            return mixed, torch.lerp(own, partner, labels[:, 2:3])

        found["kornia RandomMixUpV2"] = kornia
    if importlib.util.find_spec("keras"):
        os.environ.setdefault("KERAS_BACKEND", "torch")  # read by keras when it is first imported
        import keras

        if keras.backend.backend() == "torch":
            keras_mixup = keras.layers.MixUp(alpha=1.0)

            def keras_3(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
                # It takes (B, H, W, C); each value is mixed alone, so the order of the axes does not matter here.
                mixed = keras_mixup({"images": x, "labels": F.one_hot(y, num_classes).float()}, training=True)
                return mixed["images"], mixed["labels"]

            found["Keras 3 MixUp"] = keras_3
    return found


def compiled_naive(x: Tensor, mixture: Mixture) -> Callable[[], object] | None:
    """The naive line under `torch.compile`; None where there is no compiler."""
    mix = torch.compile(lambda x, lam, partner: lam * x + (1 - lam) * x[partner])
    try:
        mix(x, mixture.lam, mixture.partner)
    except Exception as error:  # inductor raises many kinds; without a C++ compiler there is nothing to measure
        print(f"torch.compile is left out: {type(error).__name__}")
        return None
    return lambda: mix(x, mixture.lam, mixture.partner)


def check(name: str, mixup: Callable) -> None:
    """Raise unless the rows of the mixing matrix sum to one, with two sources at most, and it is not the identity."""
    matrices = torch.stack([mixing_matrix(mixup, 8) for _ in range(4)])
    right = (matrices.sum(2) - 1).abs().max() < 1e-3 and (matrices.abs() > 1e-3).sum(2).max() <= 2
    if not right or (matrices - torch.eye(8)).abs().max() < 1e-3:
        raise AssertionError(f"{name} does not mix: its matrices are {matrices}")


def image_case(shape: tuple[int, ...], device: torch.device, compiled: bool = False) -> Case:
    """Float images that are already normalised."""
    generator = stream(0, "benchmark")
    x = torch.randn(shape, generator=generator).to(device)
    y = torch.arange(shape[0], device=device) % 10
    contenders: dict[str, Callable[[], object]] = {"clone": x.clone}
    for label, options in {
        "ours, roll": {"pairing": "roll"},
        "ours, flip": {"pairing": "flip"},
        "ours, shuffle": {},
        "ours, shuffle, one lam a row": {"per": "sample"},
    }.items():
        check(label, ImageMixup(1.0, **options))
        mixture = draw_mixture(shape[0], 1.0, generator=generator, device=device, **options)
        contenders[label] = lambda mixture=mixture: mixture.mix(x)
    module = ImageMixup(1.0, pairing="roll")
    contenders["ours, roll, draw included"] = lambda: module(x, generator=generator)
    shuffled = draw_mixture(shape[0], 1.0, generator=generator, device=device)
    contenders["plain torch: gather, then lerp"] = lambda: lerp_rows(x, shuffled.partner, shuffled.lam)
    contenders["naive torch: lam * x + (1 - lam) * x[p]"] = lambda: (
        shuffled.lam * x + (1 - shuffled.lam) * x[shuffled.partner]
    )
    fused = compiled_naive(x, shuffled) if compiled else None
    if fused is not None:
        contenders["torch.compile of the naive line"] = fused
    for name, peer in peers(10).items():
        check(name, peers(8)[name])
        batch = x.clone()  # timm writes into it
        contenders[name] = lambda peer=peer, batch=batch: peer(batch, y)
    size = x.numel() * x.element_size()
    return Case(f"float images {'x'.join(map(str, shape))}", contenders, 2 * size, size)


def uint8_case(shape: tuple[int, ...], device: torch.device) -> Case:
    """uint8 images to normalised float32: the copy moves as many bytes as this must, one read and four written."""
    generator = stream(0, "benchmark")
    x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)
    y = torch.arange(shape[0], device=device) % 10
    ours = ImageMixup(1.0, mean=MEAN, std=STD).to(device)
    contenders: dict[str, Callable[[], object]] = {"clone": lambda: x.to(torch.float32)}
    contenders["ours, uint8 to mixed floats"] = lambda: ours(x, generator=generator)
    if importlib.util.find_spec("torchvision"):
        from torchvision.transforms import v2

        normalise = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
        for name, peer in peers(10).items():
            contenders[f"torchvision ToDtype + Normalize, {name}"] = lambda peer=peer: peer(normalise(x), y)
    return Case(f"uint8 images {'x'.join(map(str, shape))}", contenders, 5 * x.numel(), 4 * x.numel())


def gradient_case(shape: tuple[int, ...], device: torch.device) -> Case:
    """Forward and backward of the mixing, the gradient given: two of the copies are the floor."""
    generator = stream(0, "benchmark")
    x = torch.randn(shape, generator=generator).to(device).requires_grad_()
    gradient = torch.randn(shape, generator=generator).to(device)

    def both(mix: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(mix(x), x, gradient)

    contenders: dict[str, Callable[[], object]] = {"clone": lambda: (x.detach().clone(), gradient.clone())}
    for label, options in {"roll": {"pairing": "roll"}, "shuffle": {}}.items():
        m: Mixture = draw_mixture(shape[0], 1.0, generator=generator, device=device, **options)
        contenders[f"ours, {label}"] = both(m.mix)
        contenders[f"plain torch, {label}"] = both(lambda x, m=m: lerp_rows(x, m.partner, m.lam))
    size = x.numel() * x.element_size()
    return Case(f"forward and backward {'x'.join(map(str, shape))}", contenders, 4 * size, 2 * size)


def text_case(shape: tuple[int, ...], device: torch.device) -> Case:
    """Token embeddings `(B, T, D)` with padding."""
    generator = stream(0, "benchmark")
    x = torch.randn(shape, generator=generator).to(device)
    lengths = torch.randint(shape[1] // 4, shape[1] + 1, (shape[0], 1), generator=generator)
    mask = (torch.arange(shape[1]) < lengths).long().to(device)
    contenders: dict[str, Callable[[], object]] = {"clone": x.clone}
    for label, options in {"roll": {"pairing": "roll"}, "shuffle": {}}.items():
        m = draw_mixture(shape[0], 1.0, generator=generator, device=device, **options)
        contenders[f"ours, {label}, padding zeroed"] = lambda m=m: mix_embeddings(x, mask, m)
        contenders[f"ours, {label}, no padding"] = lambda m=m: mix_embeddings(x, None, m)
        contenders[f"naive torch, {label}, padding mixed in"] = lambda m=m: m.lam * x + (1 - m.lam) * x[m.partner]
    size = x.numel() * x.element_size()
    return Case(f"embeddings {'x'.join(map(str, shape))}", contenders, 2 * size, size)


def lookup_case(shape: tuple[int, ...], device: torch.device) -> Case:
    """Token ids `(B, T)` to mixed embeddings `(B, T, D)`, from a table of 30,522 tokens; the copy is of the result."""
    generator = stream(0, "benchmark")
    embedding = torch.nn.Embedding.from_pretrained(torch.randn(30522, shape[2], generator=generator)).to(device)
    ids = torch.randint(0, 30522, shape[:2], generator=generator).to(device)
    lengths = torch.randint(shape[1] // 4, shape[1] + 1, (shape[0], 1), generator=generator)
    mask = (torch.arange(shape[1]) < lengths).long().to(device)
    mixup = EmbeddingMixup(1.0)
    m = draw_mixture(shape[0], 1.0, generator=generator, device=device)

    def naive() -> Tensor:
        x = embedding(ids) * mask.unsqueeze(-1)
        return m.lam * x + (1 - m.lam) * x[m.partner]

    result = embedding(ids)
    contenders: dict[str, Callable[[], object]] = {
        "clone": result.clone,
        "looking up alone": lambda: embedding(ids),
        "ours, one pass": lambda: mixup.lookup(embedding, ids, mask, generator=generator),
        "ours, look up, then mix": lambda: mixup(embedding(ids), mask, generator=generator),
        "naive torch: look up, mask, mix": naive,
    }
    table = embedding.weight.detach().clone().requires_grad_()
    gradient = torch.randn(shape, generator=generator).to(device)

    def trained(make: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(make(), table, gradient)

    contenders["with gradient: looking up alone"] = trained(lambda: F.embedding(ids, table))
    contenders["with gradient: ours, one pass"] = trained(
        lambda: mixup.lookup(table, ids, mask, generator=generator)[0]
    )
    contenders["with gradient: ours, look up, then mix"] = trained(
        lambda: mixup(F.embedding(ids, table), mask, generator=generator)[0]
    )
    size = result.numel() * result.element_size()
    return Case(f"token ids to mixed embeddings {'x'.join(map(str, shape))}", contenders, 2 * size, size)


def step_case(name: str, rows: int, device: torch.device) -> Case:
    """A training step on 32x32 images, forward to update; the yardstick is the step without mixing.

    Args:
        name: "small conv net" or "PreAct-ResNet-18".
        rows: of a batch.
        device: to train on.
    """
    from mixup_modalities.lab.image_models import PreActResNet
    from mixup_modalities.lab.models import ConvNet
    from mixup_modalities.lab.runtime import seeded
    from mixup_modalities.losses import mixup_cross_entropy

    generator = stream(0, "benchmark")
    x, y = torch.randn(rows, 3, 32, 32, generator=generator).to(device), torch.arange(rows, device=device) % 10
    with seeded(0):
        model = PreActResNet(10) if name == "PreAct-ResNet-18" else ConvNet.for_images(x.cpu(), 10, width=32)
    model = model.to(device)
    optimizer, mixup = torch.optim.SGD(model.parameters(), lr=1e-3), ImageMixup(1.0)

    def step(mixed: bool) -> Callable[[], object]:
        def run() -> None:
            batch, mixture = mixup(x, generator=generator) if mixed else (x, Mixture.identity(rows, device=device))
            optimizer.zero_grad(set_to_none=True)
            mixup_cross_entropy(model(batch), y, mixture).backward()
            optimizer.step()

        return run

    contenders = {"a step without mixing": step(False), "a step with mixing": step(True)}
    contenders["the mixing alone"] = lambda: mixup(x, generator=generator)
    size = x.numel() * x.element_size()
    return Case(f"training step of a {name} {rows}x3x32x32", contenders, 2 * size, size)


def audio_case(clips: int, device: torch.device) -> Case:
    """One-second clips to mixed log-mel; the yardstick is the front end without mixing."""
    from mixup_modalities.audio import LogMel, SpectrogramMixup

    generator = stream(0, "benchmark")
    x = torch.randn(clips, 16000, generator=generator).mul_(0.1).to(device)
    front_end = LogMel(sample_rate=16000).to(device)
    contenders: dict[str, Callable[[], object]] = {"LogMel, no mixing": lambda: front_end(x)}
    for domain in ("waveform", "power", "log"):
        for gain_aware in (False, True):
            mixup = SpectrogramMixup(front_end, alpha=1.0, domain=domain, gain_aware=gain_aware)
            label = f"ours, {domain}" + (", gain-aware" if gain_aware else "")
            contenders[label] = lambda mixup=mixup: mixup(x, generator=generator)
    size = x.numel() * x.element_size()
    return Case(f"audio, {clips} clips of one second", contenders, 2 * size, front_end(x[:1]).numel() * 4 * clips)


def cases(suite: str, device: torch.device, quick: bool) -> Iterator[Case]:
    """The cases of a suite, made one after the other so that only one batch is in memory."""
    sizes = [SHAPES["small"], SHAPES["medium"]] + ([] if quick else [SHAPES["large"]])
    sizes += [SHAPES["huge"], SHAPES["vast"]] if device.type == "cuda" and not quick else []
    if suite in ("images", "all"):
        for shape in sizes:
            yield image_case(shape, device, compiled=not quick)
            yield uint8_case(shape, device)
            yield gradient_case(shape, device)
        yield step_case("small conv net", 64 if quick else 256, device)
        if not quick:
            yield step_case("PreAct-ResNet-18", 256 if device.type == "cuda" else 16, device)
    if suite in ("text", "all"):
        yield text_case((64, 128, 256) if quick else (256, 128, 768), device)
        yield lookup_case((64, 128, 256) if quick else (256, 128, 768), device)
    if suite in ("audio", "all"):
        yield audio_case(32 if quick else 256, device)


def measure(case: Case, device: torch.device, repeats: int) -> list[Row]:
    """Time the contenders of a case in turns."""
    times: dict[str, list[float]] = {name: [] for name in case.contenders}
    for turn in range(repeats + 2):
        for name, contender in case.contenders.items():
            synchronise(device)
            start = time.perf_counter()
            result = contender()
            synchronise(device)
            if turn >= 2:  # the first two turns warm up
                times[name].append(time.perf_counter() - start)
            del result
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    yardstick = next(iter(medians.values()))
    return [
        Row(
            case.name,
            name,
            1e3 * seconds,
            seconds / yardstick,
            case.bytes_moved / seconds / 1e9,
            peak_memory(case.contenders[name], device) / case.result_bytes,
            repeats,
            low=seconds / yardstick,
            high=seconds / yardstick,
        )
        for name, seconds in medians.items()
    ]


def peak_memory(function: Callable[[], object], device: torch.device) -> float:
    """Largest number of bytes that a call holds at once beyond what was there before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler announces itself on stderr otherwise
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def provenance(device: torch.device) -> dict[str, object]:
    """What the numbers were measured on."""
    versions = {"torch": torch.__version__}
    for name in ("torchvision", "torchaudio", "timm", "kornia", "keras"):
        if importlib.util.find_spec(name):
            versions[name] = importlib.metadata.version(name)
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return {
        "device": device_name(device),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": versions,
        "commit": commit or "unknown",
    }


def benchmark(
    suite: str = "all", *, device: str | None = None, repeats: int = 25, quick: bool = False, progress: bool = True
) -> dict[str, object]:
    """Run a suite.

    Args:
        suite: "images", "text", "audio" or "all".
        device: default: cuda, then mps, then cpu.
        repeats: timed calls of each contender.
        quick: smaller batches.
        progress: show a bar.

    Returns:
        `provenance` and `rows`, ready for JSON.
    """
    where = pick_device(device)
    keep_freed_memory()
    rows = []
    for case in tqdm(cases(suite, where, quick), disable=not progress, unit="case"):
        rows += measure(case, where, repeats)
    return {"provenance": provenance(where), "rows": [asdict(row) for row in rows]}


def in_new_process(args) -> dict[str, object]:
    """One round, as `benchmark` returns it, from an interpreter of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "round.json"
        command = [sys.executable, "-m", "mixup_modalities", "bench", "--suite", args.suite, "--json", str(path)]
        command += ["--repeats", str(args.repeats)] + ["--quick"] * args.quick
        command += ["--device", args.device] if args.device else []
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise LabError(f"a round of the benchmark failed: {done.stderr.strip().splitlines()[-1]}")
        return json.loads(path.read_text(encoding="utf-8"))


def pooled(rounds: list[dict]) -> dict[str, object]:
    """Medians over rounds, each from a process of its own: where memory happens to lie differs between processes.

    Args:
        rounds: reports of `benchmark` on one machine, with the same cases.

    Returns:
        A report; `low` and `high` of a row are the least and the largest ratio of a round.

    Raises:
        ValueError: the rounds differ in their provenance or in their rows.
    """
    keys = [[(row["case"], row["contender"]) for row in report["rows"]] for report in rounds]
    if any(report["provenance"] != rounds[0]["provenance"] for report in rounds) or any(k != keys[0] for k in keys):
        raise ValueError("rounds: expected the same provenance and rows in each")
    rows = []
    for same in zip(*(report["rows"] for report in rounds)):
        middle = {key: statistics.median(row[key] for row in same) for key in ("milliseconds", "ratio")}
        middle["gigabytes_per_second"] = statistics.median(row["gigabytes_per_second"] for row in same)
        ends = {"low": min(row["low"] for row in same), "high": max(row["high"] for row in same)}
        rows.append(same[0] | middle | ends)
    return {"provenance": rounds[0]["provenance"], "rounds": len(rounds), "rows": rows}


def configure(parser) -> None:
    """Add the arguments of `bench`."""
    parser.add_argument("--suite", choices=["images", "text", "audio", "all"], default="all")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    parser.add_argument("--repeats", type=int, default=25, metavar="N", help="timed calls of each contender")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="processes to measure in, one after another")
    parser.add_argument("--quick", action="store_true", help="smaller batches, for a first look")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the numbers and what they were measured on")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Measure, print a table, write the file."""
    if args.rounds < 1 or args.repeats < 1:
        raise LabError(f"--rounds and --repeats: expected 1 or more, got {args.rounds} and {args.repeats}")
    if args.rounds > 1:
        report = pooled([in_new_process(args) for _ in tqdm(range(args.rounds), unit="round")])
    else:
        report = benchmark(args.suite, device=args.device, repeats=args.repeats, quick=args.quick)
    case = None
    for row in report["rows"]:
        if row["case"] != case:
            case = row["case"]
            print(f"\n{case}\n  {'ratio':>6}  {'(rounds)':>13}  {'ms':>9}  {'GB/s':>6}  {'memory':>6}")
        rounds = f"{row['low']:5.2f} - {row['high']:5.2f}"
        print(
            f"  {row['ratio']:6.2f}  {rounds}  {row['milliseconds']:9.2f}  {row['gigabytes_per_second']:6.1f}  "
            f"{row['extra_bytes']:6.2f}  {row['contender']}"
        )
    print("\nratio: to the first line of each case; memory: the most held at once, in units of the result")
    if args.json:
        made = args.json.with_suffix(args.json.suffix + ".tmp")
        made.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        made.replace(args.json)
        print(f"written to {args.json}")
