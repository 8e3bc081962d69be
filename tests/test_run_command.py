"""`run` as a user meets it: what it refuses, what it says, what it goes on with."""

import re

import pytest
import torch

from mixup_modalities.__main__ import main
from mixup_modalities.lab import checkpoints, ledger, recipes
from mixup_modalities.lab.recipes import RECIPES


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.setenv("MIXUP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("MIXUP_CHECKPOINTS", str(tmp_path / "checkpoints"))


def run(*arguments: str) -> int:
    return main(["run", *arguments, "--quiet", *([] if "--device" in arguments else ["--device", "cpu"])])


def no_training(*args, **kwargs):
    pytest.fail("it began to train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["cifar10-preact18-mixupp"],
            "no recipe named 'cifar10-preact18-mixupp': did you mean cifar10-preact18-mixup ",
        ),
        (["cifar10-small-erm", "--real"], "cifar10 is not prepared in"),
        (["mnist-500-0", "--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["mnist-500-0", "--epochs", "0"], "--epochs must be at least 1, got 0"),
        ([], "name a recipe; `run --list` shows them"),
        (["mnist-500-0", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["mnist-500-0", "--threads", "-1"], "--threads must be at least 1, got -1"),
        (["mnist-500-0", "--save-every", "nan"], "--save-every must be at least 0, got nan"),
        (["mnist-500-0", "--save-every", "-1"], "--save-every must be at least 0, got -1"),
        (["mnist-500-0", "--device", "banana"], "cannot compute on device 'banana' here (Expected one of cpu, cuda"),
        (["mnist-500-0", "--device", "cuda:99"], "cannot compute on device 'cuda:99' here ("),
        (["mnist-500-0", "--device", "meta"], "cannot compute on device 'meta' here ("),
    ],
)
def test_what_is_refused(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.setattr(recipes, "run", no_training)
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("option", ["--dry-run", "--again"])
def test_a_ledger_that_cannot_be_written_stops_the_run_before_it_starts(capsys, monkeypatch, tmp_path, option):
    monkeypatch.setattr(recipes, "run", no_training)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MIXUP_RESULTS", str(tmp_path / "file" / "x"))
    assert run("mnist-500-0", option) == 1
    out, err = capsys.readouterr()
    assert out == "" and "mnist.csv cannot be written (Not a directory): " in err and err.count("\n") == 1


@pytest.mark.parametrize("option", ["--dry-run", "--again"])
def test_a_damaged_ledger_stops_the_run_before_any_recipe_starts(capsys, monkeypatch, tmp_path, option):
    monkeypatch.setattr(recipes, "run", no_training)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "cifar10.csv").write_text("damaged")
    assert run("mnist-500-0", "cifar10-small-erm", option) == 1
    out, err = capsys.readouterr()
    assert out == "" and "cifar10.csv is damaged" in err and err.count("\n") == 1


def test_a_dry_run_of_everything_writes_nothing(capsys, tmp_path):
    assert run("--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" seed ")[0] for line in lines] == list(RECIPES)
    assert all("(offline sample) -> " in line for line in lines)
    assert not (tmp_path / "results").exists() and not (tmp_path / "checkpoints").exists()


def test_too_little_memory_says_which_batch_size_to_try(capsys, monkeypatch, tmp_path):
    def allocate(*args, **kwargs):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(recipes, "fit", allocate)
    assert run("cifar10-preact18-mixup") == 1
    err = capsys.readouterr().err
    assert "cifar10-preact18-mixup with batches of 128 does not fit into the memory" in err
    assert "try --batch-size 64" in err and "Traceback" not in err
    assert not (tmp_path / "results").exists()
    assert run("cifar10-preact18-mixup", "--batch-size", "1") == 1
    assert "use one with more memory" in capsys.readouterr().err


def test_another_batch_size_is_another_recipe_in_the_ledger(capsys, tmp_path):
    assert run("mnist-500-0", "--epochs", "1") == 0
    assert run("mnist-500-0", "--epochs", "1", "--batch-size", "100") == 0
    rows = ledger.read(tmp_path / "results" / "mnist.csv")
    assert list(rows["recipe"]) == ["mnist-500-0", "mnist-500-0@100"]
    capsys.readouterr()
    assert run("mnist-500-0", "mnist-500-0", "--epochs", "1", "--batch-size", "100") == 0
    assert capsys.readouterr().out == "mnist-500-0@100 seed 0: in the ledger already\n"


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_works(capsys, tmp_path, monkeypatch):
    """A run that stops in its last epoch leaves two checkpoints; the ledger gets a row only when it is whole."""
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append", lambda *args, **options: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            run("mnist-500-0", "--epochs", "4", "--save-every", "0")
    first, second = sorted((tmp_path / "checkpoints").glob("*/epoch-*.safetensors"))
    second.write_bytes(second.read_bytes()[:-1])
    command = ["mnist-500-0", "--epochs", "4", "--save-every", "0"]
    capsys.readouterr()
    assert run(*command, "--resume") == 1
    err = capsys.readouterr().err
    assert re.search(rf"{second.name} is damaged .* --resume previous goes on from .*{first.name}", err)
    assert not (tmp_path / "results").exists()
    assert run(*command, "--resume", "previous") == 0
    resumed = ledger.read(tmp_path / "results" / "mnist.csv")
    assert run(*command, "--again") == 0
    both = ledger.read(tmp_path / "results" / "mnist.csv").drop(columns=["seconds", "commit"])
    assert both.iloc[0].equals(both.iloc[1]) and len(resumed) == 1
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_forgotten_resume_is_pointed_out(capsys, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append", lambda *args, **options: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            run("mnist-500-0", "--epochs", "2", "--save-every", "0")
    assert run("mnist-500-0", "--epochs", "2") == 0
    assert "starts at the beginning; --resume would go on from a checkpoint" in capsys.readouterr().out


def test_a_seed_that_another_process_runs_is_left_to_it(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(recipes, "run", no_training)
    folder = tmp_path / "checkpoints" / "mnist-500-0-epochs-1-seed-0"
    with checkpoints.claimed(folder, "it"):
        assert run("mnist-500-0", "--epochs", "1") == 1
    assert "error: seed 0 of mnist-500-0 is being run by another process" in capsys.readouterr().err
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("option", ["--quiet", "--again"])
def test_a_row_that_another_process_wrote_meanwhile_is_doubled_only_if_asked(capsys, monkeypatch, tmp_path, option):
    path, original = tmp_path / "results" / "mnist.csv", recipes.run

    def run_beside_another(*args, **kwargs):
        row = original(*args, **kwargs)
        ledger.append(row, path)
        return row

    monkeypatch.setattr(recipes, "run", run_beside_another)
    assert run("mnist-500-0", "--epochs", "1", option) == 0
    assert len(ledger.read(path)) == (2 if option == "--again" else 1)
    note = "mnist-500-0 seed 0: another process has written it to the ledger meanwhile"
    assert (note in capsys.readouterr().out) == (option != "--again")


def test_checkpoints_of_a_run_that_repeats_another_are_not_taken_from_it(capsys, tmp_path):
    command = ["mnist-500-0", "--epochs", "1"]
    assert run(*command) == 0
    checkpoint = tmp_path / "checkpoints" / "mnist-500-0-epochs-1-seed-0" / "epoch-000001.safetensors"
    with checkpoints.claimed(checkpoint.parent, "it, with --again"):
        checkpoint.parent.mkdir()
        checkpoint.touch()
        assert run(*command) == 0
        assert checkpoint.exists()
    assert run(*command) == 0
    assert not list((tmp_path / "checkpoints").iterdir())
    assert capsys.readouterr().out.count("in the ledger already") == 2
