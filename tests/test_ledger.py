"""The ledger: nothing without provenance, nothing lost or half-written, seeds averaged once; and its two commands."""

import math
import multiprocessing
import os
import re
import shutil
import subprocess
import tempfile

import numpy as np
import pytest

from mixup_modalities.__main__ import main
from mixup_modalities.lab import ledger, run_command
from mixup_modalities.lab.ledger import (
    LedgerError,
    append,
    beside_published,
    caption,
    published,
    read,
    summarise,
    table,
)
from mixup_modalities.lab.metrics import mean_interval


def row(**changes):
    made = {
        "recipe": "toy-1", "seed": 0, "accuracy": 0.5, "nll": 1.25, "epochs": 2, "seconds": 0.1, "device": "cpu",
        "precision": "fp32", "dataset": "toy", "dataset_sha256": "ab", "lossy": False, "data": "real",
        "commit": "c" * 40, "versions": "torch 2",
    }  # fmt: skip
    return made | changes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "toy.csv"


def test_what_was_appended_is_read_back(path):
    accuracy = 0.1 + 0.2
    append(row(accuracy=accuracy), path)
    append(row(seed=1, accuracy=np.float64(accuracy), versions='torch 2, numpy 2; "quoted"'), path)
    frame = read(path)
    assert frame["accuracy"].tolist() == [accuracy, accuracy]
    assert frame["seed"].tolist() == [0, 1] and frame["lossy"].tolist() == [False, False]
    assert frame["versions"][1] == 'torch 2, numpy 2; "quoted"'
    assert path.read_text(encoding="utf-8").splitlines()[0].startswith("recipe,seed,accuracy,nll")


def test_commit_and_versions_are_filled_in(path):
    bare = row()
    del bare["commit"], bare["versions"]
    append(bare, path)
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", read(path)["commit"][0])
    assert re.match(r"python 3\.\d+\.\d+; torch \d+\.\d+.*; numpy \d", read(path)["versions"][0])


@pytest.mark.parametrize("key", ledger.REQUIRED)
@pytest.mark.parametrize("nothing", [None, "", math.nan])
def test_a_row_without_provenance_cannot_be_written(path, key, nothing):
    append(row(), path)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=f"without its provenance is not written; missing: {key}"):
        append(row(**{key: nothing}), path)
    assert path.read_bytes() == before


def test_the_commit_is_that_of_the_code(tmp_path, monkeypatch):
    """From a clone: its HEAD, marked if the package was changed since; from a bare copy of the files: an error."""
    clone = tmp_path / "clone" / "mixup_modalities"
    shutil.copytree(os.path.dirname(os.path.dirname(ledger.__file__)), clone,
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    monkeypatch.setattr(ledger, "__file__", str(clone / "lab" / "ledger.py"))
    monkeypatch.setattr(ledger, "distribution", lambda name: type("D", (), {"read_text": lambda self, name: None})())
    with pytest.raises(LedgerError, match="the code's commit is unknown"):
        ledger._commit()

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", "-C", clone.parent, *who, *arguments], check=True, capture_output=True, text=True)

    git("init", "-q")
    with pytest.raises(LedgerError, match="unknown"):  # installed inside a repository that does not hold it
        ledger._commit()
    git("add", ".")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD").stdout.strip()
    assert ledger._commit() == head
    (clone / "mixture.py").write_text("changed")
    assert ledger._commit() == f"{head}+changes"
    installed = '{"url": "u", "vcs_info": {"vcs": "git", "commit_id": "abc"}}'
    shutil.rmtree(clone.parent / ".git")
    monkeypatch.setattr(ledger, "distribution", lambda name: type("D", (), {"read_text": lambda self, n: installed})())
    assert ledger._commit() == "abc"


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_diverged_run_is_not_written(path, value):
    with pytest.raises(LedgerError, match=r"nll is .*: a run that diverged is not written"):
        append(row(nll=value), path)
    assert not path.exists()


def test_a_line_break_is_refused(path):
    with pytest.raises(LedgerError, match="device holds a line break"):
        append(row(device="cpu\nx"), path)


def test_new_columns_are_added_and_old_rows_kept(path):
    append(row(), path)
    append(row(seed=1, robust_accuracy=0.3), path)
    append(row(seed=2), path)
    frame = read(path)
    assert frame["robust_accuracy"][1] == 0.3
    assert frame["robust_accuracy"].isna().tolist() == [True, False, True]
    assert summarise(frame, ["robust_accuracy"])["n"].tolist() == [1]


def test_a_damaged_file_is_refused_and_left_alone(path):
    append(row(), path)
    path.write_text(path.read_text(encoding="utf-8") + "toy-1,1,0.5\n", encoding="utf-8")
    before = path.read_bytes()
    for act in (lambda: append(row(seed=1), path), lambda: read(path)):
        with pytest.raises(LedgerError, match=r"is damaged: line 3 does not fit the header"):
            act()
    assert path.read_bytes() == before


HEADER = ",".join(row()).encode()
LINE = ",".join(map(str, row().values())).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEADER + b"\n\xff\xfe\n", "'utf-8' codec can't decode byte 0xff"),
        (HEADER + b"\n" + LINE + b"\0\n", "it holds a NUL"),
        (HEADER + b",x\n" + LINE + b"," + b"x" * 140_000 + b"\n", "field larger than field limit"),
        (HEADER + b",accuracy\n" + LINE + b",1\n", "it has two columns accuracy"),
        (b"recipe,seed\na,1\n", "it has no column epochs, seconds, device, precision, dataset, .* versions"),
    ],
)
def test_other_damage_is_named_and_the_file_left_alone(path, data, message):
    path.parent.mkdir()
    path.write_bytes(data)
    for act in (lambda: append(row(seed=1), path), lambda: read(path)):
        with pytest.raises(LedgerError, match=f"is damaged: {message}"):
            act()
    assert path.read_bytes() == data


def test_an_empty_file_has_no_results(folder, capsys):
    (folder / "mnist.csv").touch()
    assert read(folder / "mnist.csv").empty
    assert main(["run", "mnist-500-0", "--dry-run"]) == 0 and main(["run", "--list"]) == 0
    capsys.readouterr()
    assert main(["results", "show"]) == 1
    assert capsys.readouterr().err == "error: there are no results in mnist\n"
    append(row(), folder / "mnist.csv")
    assert len(read(folder / "mnist.csv")) == 1


def test_a_text_is_no_metric(path):
    append(row(weights="bert"), path)
    append(row(seed=1, accuracy="abc"), path)
    for metric, value in {"device": "cpu", "weights": "bert", "accuracy": "abc"}.items():
        with pytest.raises(LedgerError, match=f"{metric} cannot be averaged: it holds '{value}', which is no number"):
            summarise(read(path), [metric])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "No columns to parse"),
        (b"x\n1\n", "it has no column recipe, metric, value, experiment, source, url"),
        (b"recipe,metric,value,experiment,source,url\na,accuracy,high,e,s,u\n", "could not convert .*'high'"),
        (b"recipe,metric\na,b\nc,d,e,f\n", "Expected 2 fields in line 3"),
        (b"recipe\n\xff\n", "codec can't decode"),
    ],
)
def test_damaged_published_figures_are_refused_in_one_line(folder, capsys, data, message):
    append(row(), folder / "mnist.csv")
    (folder / "published.csv").write_bytes(data)
    assert main(["results", "show"]) == 1
    err = capsys.readouterr().err
    assert re.search(f"published.csv is damaged: .*{message}", err) and err.count("\n") == 1


def test_a_failed_write_leaves_the_file_as_it_was(path, monkeypatch):
    append(row(), path)
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        LedgerError, match=r"cannot be written .*No space left.*'seed': 1"
    ):  # the row is not lost either
        append(row(seed=1), path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def write_many(path, first):
    tempfile.tempdir = str(path.parent / f"temporary-{first}")  # of its own, as batch systems give each job
    for seed in range(first, first + 15):
        append(row(seed=seed), path)


def test_several_writers_lose_nothing(path):
    for n in range(3):
        (path.parent / f"temporary-{100 * n}").mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(path, 100 * n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert sorted(read(path)["seed"]) == [100 * n + s for n in range(3) for s in range(15)]


def test_what_is_to_stand_there_once_is_not_written_twice(path):
    assert append(row(), path, once=True)
    before = path.read_bytes()
    assert not append(row(accuracy=0.9, commit="d" * 40), path, once=True)
    assert path.read_bytes() == before
    for other in ({"seed": 1}, {"epochs": 3}, {"dataset_sha256": "cd"}, {"recipe": "toy-2"}):
        assert append(row(**other), path, once=True)
    assert append(row(), path)
    assert len(read(path)) == 6


def test_summary_is_mean_interval_and_n_of_each_experiment(path):
    values = [0.5, 0.6, 0.8]
    for seed, value in enumerate(values):
        append(row(seed=seed, accuracy=value), path)
        append(row(recipe="toy-2", seed=seed, accuracy=value / 2, commit="d" * 40), path)
    append(row(seed=0, data="sample", dataset_sha256="cd", accuracy=0.1), path)
    append(row(seed=0, epochs=9, accuracy=0.9), path)
    made = summarise(read(path), ["accuracy"])
    assert made["recipe"].tolist() == ["toy-1", "toy-2", "toy-1", "toy-1"]
    assert made["n"].tolist() == [3, 3, 1, 1]
    first = made.iloc[0]
    assert (first["mean"], first["low"], first["high"], first["n"]) == pytest.approx(mean_interval(values))
    assert made["data"].tolist() == ["real", "real", "sample", "real"] and made["epochs"].tolist() == [2, 2, 2, 9]
    assert made["commits"].tolist()[:2] == ["ccccccc", "ddddddd"]
    assert math.isnan(made["low"][2])


def test_a_seed_that_was_run_twice_counts_once(path):
    for value in (0.1, 0.7):
        append(row(accuracy=value), path)
    append(row(seed=1, accuracy=0.7), path)
    made = summarise(read(path), ["accuracy"])
    assert made["n"][0] == 2 and made["mean"][0] == 0.7


def test_summary_of_all_metrics_leaves_provenance_out(path):
    append(row(), path)
    assert summarise(read(path))["metric"].tolist() == ["accuracy", "nll"]
    with pytest.raises(LedgerError, match="there is no metric f1; there are recipe, seed"):
        summarise(read(path), ["f1"])


def test_a_table_has_a_row_for_each_family_and_a_column_for_each_variant(path):
    for recipe, seed, value in [("a-b-erm", 0, 0.5), ("a-b-erm", 1, 0.7), ("a-b-0.2", 0, 0.25), ("c-0.2", 0, 0.125)]:
        append(row(recipe=recipe, seed=seed, accuracy=value), path)
    made = table(read(path), "accuracy", digits=2)
    interval = mean_interval([0.5, 0.7])
    assert made.index.tolist() == ["a-b", "c"] and made.columns.tolist() == ["erm", "0.2"]
    assert made.loc["a-b", "erm"] == f"0.60 ± {interval.high - 0.6:.2f}"
    assert made.loc["a-b", "0.2"] == "0.25" and made.loc["c", "erm"] == "" and made.loc["c", "0.2"] == "0.12"
    append(row(recipe="c-0.2", epochs=7), path)
    with pytest.raises(
        LedgerError, match=r"c-0\.2 has results on several data sets or after several numbers of epochs"
    ):
        table(read(path), "accuracy")


def test_a_caption_says_where_numbers_come_from(path):
    append(row(), path)
    assert caption(read(path)) == "1 seed; real toy; cpu, fp32; torch 2; commit ccccccc"
    append(row(seed=1, commit="d" * 40, device="NVIDIA H200", precision="bf16", lossy=True), path)
    append(row(recipe="toy-2", data="sample"), path)
    append(row(recipe="toy-2", data="sample", seed=1), path)
    text = caption(read(path))
    assert text.startswith(
        "1 to 2 seeds; real toy; real toy, a lossy copy; sample of toy; NVIDIA H200, bf16; cpu, fp32"
    )
    assert text.endswith("commit ccccccc, ddddddd")


def test_a_caption_does_not_call_a_subset_by_the_name_of_the_whole(path):
    fingerprint = next(iter(ledger.SUBSETS))
    append(row(dataset="speech_commands", dataset_sha256=fingerprint), path)
    assert "real Speech Commands subset; " in caption(read(path))
    append(row(dataset="speech_commands", dataset_sha256="e" * 64, seed=1), path)
    assert "real Speech Commands subset; real speech_commands; " in caption(read(path))


def test_published_figures_have_sources_and_stand_beside_ours(path):
    figures = published()
    assert len(figures) > 50 and not (figures[["metric", "experiment", "source", "url"]] == "").any(axis=None)
    assert figures["value"].between(0, 1).all() and figures["url"].str.startswith("https://").all()
    append(row(recipe="mnist-full-mixup", dataset="mnist"), path)
    made = beside_published(summarise(read(path), ["accuracy", "nll"]), figures)
    assert made["published"].tolist()[0] == 0.9961 and math.isnan(made["published"][1])
    assert "hysts" in made["source"][0]


def test_the_results_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "published.csv").write_text("recipe\n")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert ledger.results_folder() == tmp_path / "results"
    monkeypatch.setenv("MIXUP_RESULTS", str(tmp_path))
    assert ledger.results_folder() == tmp_path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copy(ledger.results_folder() / "published.csv", tmp_path)
    monkeypatch.setenv("MIXUP_RESULTS", str(tmp_path))
    return tmp_path


def test_results_are_shown_without_published_figures_too(folder, capsys):
    append(row(recipe="mine"), folder / "mine.csv")
    (folder / "published.csv").unlink()
    assert main(["results", "show", "--metrics", "accuracy,nll"]) == 0
    assert "mine" in capsys.readouterr().out


def test_run_writes_the_ledger_and_does_no_run_twice(folder, capsys):
    command = ["run", "mnist-noise-40-8", "--epochs", "1", "--quiet", "--device", "cpu"]
    assert main([*command, "--seeds", "0-1", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "mnist-noise-40-8 seed 1: 1 epochs on mnist (offline sample) -> " in out
    assert not (folder / "mnist.csv").exists()
    assert main([*command, "--seeds", "0-1"]) == 0
    assert re.search(r"seed 0: accuracy 0\.\d+, NLL \d\.\d+, ECE 0\.\d+", capsys.readouterr().out)
    assert main([*command, "--seeds", "1,2"]) == 0
    assert "seed 1: in the ledger already" in capsys.readouterr().out
    assert read(folder / "mnist.csv")["seed"].tolist() == [0, 1, 2]
    assert main([*command, "--seeds", "2", "--again"]) == 0
    assert read(folder / "mnist.csv")["seed"].tolist() == [0, 1, 2, 2]
    capsys.readouterr()
    assert main(["results", "show", "--metrics", "accuracy,nll"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["recipe", "data", "metric", "mean"]
    assert first.split()[:4] == ["mnist-noise-40-8", "mnist", "sample", "accuracy"] and first.endswith("  3")
    assert second.split()[3] == "nll"


def test_the_list_shows_every_recipe_and_counts_real_results_only(folder, capsys):
    append(row(recipe="mnist-full-erm", dataset="mnist"), folder / "mnist.csv")
    append(row(recipe="mnist-full-erm", dataset="mnist", seed=1, data="sample"), folder / "mnist.csv")
    assert main(["run", "--list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(run_command.recipes.RECIPES) <= set(lines)
    assert lines["mnist-full-erm"].endswith("  1") and lines["mnist-full-mixup"].endswith("  0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "name a recipe"),
        (["run", "mnist-noise-40-3"], "did you mean mnist-noise-40-"),
        (["run", "mnist-full-erm", "--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["results", "show"], "there are no results in"),
        (["results", "show", "mnist"], "there are no results in"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, arguments, message):
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and message in err and err.count("\n") == 1


def test_seeds_are_parsed():
    assert run_command.parse_seeds("0-4") == [0, 1, 2, 3, 4]
    assert run_command.parse_seeds("7,0-2,1") == [7, 0, 1, 2]
    for text in ("", "4-0", "a", "-1", "1-", "0..4"):
        with pytest.raises(run_command.argparse.ArgumentTypeError, match="expected seeds such as 0-4"):
            run_command.parse_seeds(text)
