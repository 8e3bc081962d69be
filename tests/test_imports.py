"""The arrows of the package: who may import whom. Imports are read from the source, so one inside a function counts."""

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGE = "mixup_modalities"
ROOT = Path(importlib.util.find_spec(PACKAGE).origin).parent

# A module may import those that stand before it here, and no others. A folder counts as one module.
LIBRARY = ["kernels", "mixture", "losses", "image", "text", "audio", "report", "audit"]  # mixture.mix calls kernels
LAB = [
    *("errors", "runtime", "quadrature", "announce", "questions", "synth", "drawn", "schedules"),
    *("storage", "splits", "text_data", "samples", "download", "datasets", "source_*"),
    *("models", "stacked", "metrics", "augment", "robustness", "processes", "training", "*_models", "cifar_recipes"),
    *("audio_recipes", "text_recipes", "question_recipes", "recipes", "checkpoints", "tracking", "ledger"),
    *("triton_kernels", "benchmark_cases", "benchmark"),
    *("figures", "*_command"),
]
# "" is the package itself: it shows the library and knows nothing of the lab.
ORDER = [*LIBRARY, "", "lab", *(f"lab.{name}" for name in LAB), "__main__"]

# What the library needs besides the standard library; `kernels` also triton, which torch brings where it exists.
THIRD_PARTY = {"torch", "numpy"}
THIRD_PARTY_ALSO = {"kernels": {"triton"}}
PLOTTING = {"matplotlib", "plotly", "seaborn"}


def unit_of(name: str) -> str:
    """What the order lists: "image" for "image.cutmix", "lab.figures" for "lab.figures.style"."""
    return ".".join(name.split(".")[: 2 if name.startswith("lab.") else 1])


def position_of(name: str) -> int | None:
    """Place of a module in the order; None if it has none."""
    return next((n for n, entry in enumerate(ORDER) if fnmatchcase(unit_of(name), entry)), None)


def imports_of(path: Path) -> set[str]:
    """Every dotted name that a file of the package imports, relative ones resolved from the package's own folder."""
    package = next(folder for folder in path.parents if not (folder.parent / "__init__.py").exists())
    here = [PACKAGE, *path.relative_to(package).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) + 1 - node.level] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def package_of(root: Path) -> dict[str, set[str]]:
    """Every module below a folder, by its name inside the package ("" for its __init__), with what it imports."""
    named = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = imports_of(path)
    return named


def third_party(imports: set[str]) -> set[str]:
    """Top-level names of imports that are neither ours nor of the standard library."""
    return {name.partition(".")[0] for name in imports} - {PACKAGE} - set(sys.stdlib_module_names)


def faults(root: Path) -> list[str]:
    """Every arrow below `root` that the house forbids, as "importer -> imported"."""
    modules, found = package_of(root), []
    for name, imports in modules.items():
        position = position_of(name)
        if position is None:
            found.append(f"{name} has no place in ORDER")
            continue
        for target in sorted(imports):
            top, _, rest = target.partition(".")
            if top == PACKAGE:
                while rest and rest not in modules:  # "mixture.Mixture" is the module "mixture"
                    rest = rest.rpartition(".")[0]
                there = position_of(rest)
                if unit_of(rest) != unit_of(name) and (there is None or there >= position):
                    found.append(f"{name or PACKAGE} -> {rest or PACKAGE}")
        others = third_party(imports)
        if position <= ORDER.index(""):
            others -= THIRD_PARTY | THIRD_PARTY_ALSO.get(unit_of(name), set())
        else:
            others &= set() if unit_of(name) == "lab.figures" else PLOTTING
        found += [f"{name or PACKAGE} -> {other}" for other in sorted(others)]
    return found


def test_every_arrow_points_the_right_way():
    assert faults(ROOT) == []


@pytest.mark.parametrize(
    ("module", "line", "arrow"),
    [
        ("image", "from mixup_modalities.lab.datasets import load", "image -> lab.datasets"),
        ("losses", "from .image import ImageMixup", "losses -> image"),
        ("mixture", "import mixup_modalities.losses", "mixture -> losses"),
        ("mixture", "def late():\n    from . import image", "mixture -> image"),
        ("image", "from mixup_modalities import Mixture", f"image -> {PACKAGE}"),
        ("__init__", "from .lab import datasets", f"{PACKAGE} -> lab.datasets"),
        ("lab/metrics", "from .training import fit", "lab.metrics -> lab.training"),
        ("lab/storage", "from ..lab import datasets", "lab.storage -> lab.datasets"),
        ("lab/training", "import matplotlib.pyplot as plt", "lab.training -> matplotlib"),
        ("losses", "import scipy.special", "losses -> scipy"),
        ("audio", "import torchaudio", "audio -> torchaudio"),
        ("helpers", "x = 1", "helpers has no place in ORDER"),
    ],
)
def test_a_wrong_arrow_is_found(tmp_path, module, line, arrow):
    copy = shutil.copytree(ROOT, tmp_path / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / f"{module}.py"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(f"{before}\n\n{line}\n", encoding="utf-8")
    assert set(faults(copy)) - set(faults(ROOT)) == {arrow}


def test_importing_the_library_loads_torch_and_numpy_alone():
    """Nor what torch itself loads late: its compiler takes longer to import than torch."""
    code = f"""
import json, sys, warnings
import numpy, torch
tops = lambda: {{name.partition(".")[0] for name in sys.modules}}
before = tops()
warnings.simplefilter("error")
import {PACKAGE}
print(json.dumps(sorted(tops() - before)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(result.stdout)) - set(sys.stdlib_module_names)
    assert loaded == {PACKAGE}
    assert not result.stderr


def test_everything_imported_is_declared():
    """`pip install mixup-modalities[book]` brings all that the package imports, on its own account."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["book"]]
    declared = {canonicalize_name(Requirement(line).name) for line in required}
    owners = metadata.packages_distributions()
    undeclared = {}
    for module, imports in package_of(ROOT).items():
        for name in third_party(imports) - {"triton"}:  # torch brings it where it exists
            distributions = {canonicalize_name(owner) for owner in owners.get(name, [name])}
            if not distributions & declared:
                undeclared.setdefault(name, []).append(module)
    assert undeclared == {}
