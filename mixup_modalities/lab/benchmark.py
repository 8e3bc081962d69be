"""What mixing costs, measured against everything a user would pick instead, in one run.

The yardstick is a copy of the batch, `x.clone()`: two passes over memory, one to read and one to write. Contenders
take turns, one call each, so that whatever else the machine does hits them all. Their order is drawn anew for each
turn, and before each call a buffer larger than a cache is written, so that none finds the batch where another has left
it. A contender's time is its median, and what is reported is the ratio to the copy. Where the C library allows it,
freed memory is kept: otherwise whoever happens to get new pages from the operating system pays for them, several times
the cost of the mixing.
"""

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from mixup_modalities.lab.benchmark_cases import Case, cases
from mixup_modalities.lab.errors import LabError
from mixup_modalities.lab.runtime import device_name, pick_device

SUITES = ("images", "text", "audio")
EVICTED = 1 << 27  # bytes written before each call: should be more than the last cache holds


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


def measure(case: Case, device: torch.device, repeats: int) -> list[Row]:
    """Time the contenders of a case in turns."""
    times: dict[str, list[float]] = {name: [] for name in case.contenders}
    order, elsewhere = list(case.contenders), torch.empty(EVICTED, dtype=torch.uint8, device=device)
    shuffle = random.Random(0).shuffle
    for turn in range(repeats + 2):
        shuffle(order)
        for name in order:
            elsewhere.fill_(turn % 256)
            synchronise(device)
            start = time.perf_counter()
            result = case.contenders[name]()
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

    Raises:
        LabError: nothing can be computed on the device.
    """
    where = pick_device(device)
    keep_freed_memory()
    rows = []
    for case in tqdm(cases(suite, where, quick), disable=not progress, unit="case"):
        rows += measure(case, where, repeats)
    return {"provenance": provenance(where), "rows": [asdict(row) for row in rows]}


def one_round(args) -> dict[str, object]:
    """A report as `benchmark` returns it, each suite from a process of its own: none finds the memory another left."""
    reports = [in_new_process(args, suite) for suite in (SUITES if args.suite == "all" else [args.suite])]
    return reports[0] | {"rows": [row for report in reports for row in report["rows"]]}


def in_new_process(args, suite: str) -> dict[str, object]:
    """The report of a suite from an interpreter of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "round.json"
        command = [sys.executable, "-m", "mixup_modalities", "bench", "--suite", suite, "--json", str(path)]
        command += ["--repeats", str(args.repeats)] + ["--quick"] * args.quick
        command += ["--device", args.device] if args.device else []
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise LabError(f"a round of the benchmark failed: {done.stderr.strip().splitlines()[-1]}")
        return json.loads(path.read_text(encoding="utf-8"))


def pooled(rounds: list[dict]) -> dict[str, object]:
    """Medians over rounds, each from processes of its own: where memory happens to lie differs between processes.

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
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="all")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    parser.add_argument("--repeats", type=int, default=25, metavar="N", help="timed calls of each contender")
    parser.add_argument(
        "--rounds", type=int, default=1, metavar="N", help="times to measure in new processes, one for each suite"
    )
    parser.add_argument("--quick", action="store_true", help="smaller batches, for a first look")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the numbers and what they were measured on")
    parser.set_defaults(run=run)


def check_writable(path: Path) -> None:
    """Raise a `LabError` unless the file can be written: better now than after the benchmark."""
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(b"0")
    except OSError as error:
        raise LabError(f"--json: {path} cannot be written ({error.strerror or error})") from error


def run(args) -> None:
    """Measure, print a table, write the file."""
    if args.rounds < 1 or args.repeats < 1:
        raise LabError(f"--rounds and --repeats: expected 1 or more, got {args.rounds} and {args.repeats}")
    if args.json:
        check_writable(args.json)
    if args.rounds > 1:
        report = pooled([one_round(args) for _ in tqdm(range(args.rounds), unit="round")])
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
