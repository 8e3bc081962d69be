"""The command line as a user meets it: what it prints, where, and its exit status."""

import re
import subprocess
import sys

import pytest

from mixup_modalities import __main__ as cli
from mixup_modalities.__main__ import main
from mixup_modalities.lab import datasets
from mixup_modalities.lab.datasets import DataCard, DataError, Dataset, Source, Split


def dataset(lossy=False) -> Dataset:
    import torch

    split = Split(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.arange(3))
    return Dataset("toy", split, None, split, ("a", "b", "c"), DataCard("Toy", "a toy", "CC0", lossy=lossy))


def read(path, progress):
    kind = (path / "kind").read_text()
    if kind == "fault":
        raise ZeroDivisionError("a fault of ours")
    return dataset(lossy=kind == "lossy")


@pytest.fixture(autouse=True)
def toy(monkeypatch, tmp_path):
    def offline(folder, progress):
        raise DataError("toy.bin could not be downloaded (no network)")

    monkeypatch.setattr(datasets, "_registered", {})
    datasets.register(Source("toy", "Toy", "image", "CC0", offline, read, dataset, download_bytes=1_234_567))
    monkeypatch.setenv("MIXUP_DATA", str(tmp_path / "data"))
    for kind in ("exact", "lossy", "fault"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "kind").write_text(kind)


def table(text: str) -> dict[str, str]:
    return {line.split()[0]: line for line in text.splitlines()}


def test_prepare_then_list(capsys, tmp_path):
    assert main(["data", "list"]) == 0
    assert "not prepared  1 MB to download" in table(capsys.readouterr().out)["toy"]

    assert main(["data", "prepare", "toy", "--from", str(tmp_path / "exact")]) == 0
    out, err = capsys.readouterr()
    path = tmp_path / "data" / "toy.safetensors"
    assert out == f"toy: 3 train, 3 test ({path.stat().st_size} B) in {path}\n"
    assert err == ""

    assert main(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert table(out)["toy"].split()[1] == "prepared"
    assert table(out)["toy"].endswith(str(path))
    assert set(table(out)) == {"name", *datasets.names()}


def test_a_lossy_copy_is_flagged(capsys, tmp_path):
    main(["data", "prepare", "toy", "--from", str(tmp_path / "lossy")])
    assert "lossy" in capsys.readouterr().out
    main(["data", "list"])
    name, state, _, _, licence, lossy, _ = table(capsys.readouterr().out)["toy"].split()
    assert (name, state, licence, lossy) == ("toy", "prepared", "CC0", "yes")


def test_a_root_can_be_given(capsys, tmp_path):
    assert main(["data", "prepare", "toy", "--from", str(tmp_path / "exact"), "--root", str(tmp_path / "else")]) == 0
    assert (tmp_path / "else" / "toy.safetensors").exists()
    main(["data", "list", "--root", str(tmp_path / "else")])
    assert " prepared " in table(capsys.readouterr().out)["toy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "prepare", "tooy"], "no data set named 'tooy': did you mean toy?"),
        (["data", "prepare", "toy", "tooy"], "did you mean toy?"),
        (["data", "prepare", "toy"], "could not be downloaded"),
        (["data", "prepare", "toy", "--from", "/does/not/exist"], "there is nothing at /does/not/exist"),
        (["data", "prepare", "toy", "mnist", "--from", "."], "--from belongs to one data set"),
    ],
)
def test_failures_are_one_line_and_exit_with_one(capsys, arguments, message):
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["data"], ["data", "prepare"], ["nonsense"], ["data", "list", "--nonsense"]])
def test_wrong_usage_exits_with_two_and_shows_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m mixup_modalities")


def test_faults_of_ours_keep_their_traceback(tmp_path):
    with pytest.raises(ZeroDivisionError):
        main(["data", "prepare", "toy", "--from", str(tmp_path / "fault")])


@pytest.mark.parametrize("arguments", [["data", "list"], ["run", "--help"], ["bench"], ["results", "show"]])
def test_without_the_extra_each_command_says_in_one_line_what_to_install(arguments):
    """As after `pip install mixup-modalities`: only torch and numpy are there, and what they bring."""
    absent = ("filelock", "pandas", "safetensors", "tqdm", "transformers", "matplotlib")
    code = f"import sys\nsys.modules.update(dict.fromkeys({absent}))\n"
    code += "from mixup_modalities.__main__ import main\nsys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    message = r'error: this needs (\w+), which is not installed: pip install "mixup-modalities\[book\]"\n'
    assert re.fullmatch(message, done.stderr)[1] in absent


def test_a_module_of_ours_that_is_missing_keeps_its_traceback(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "run", ("mixup_modalities.lab.nowhere", ""))
    with pytest.raises(ModuleNotFoundError):
        main(["run"])


def test_an_interrupt_exits_with_130(capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "prepare", interrupt)
    assert main(["data", "prepare", "toy"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "mixup_modalities", *arguments], capture_output=True, text=True)


def test_as_a_process():
    result = run("data", "prepare", "mnits")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: there is no data set named 'mnits': did you mean mnist?\n"


def test_help_imports_no_command(capsys, monkeypatch):
    monkeypatch.setattr(cli, "import_module", lambda name: pytest.fail(f"imported {name}"))
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(capsys, name):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m mixup_modalities {name}")


def test_a_reader_that_goes_away_is_no_traceback():
    command = f"{sys.executable} -m mixup_modalities data list | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.stderr == ""
