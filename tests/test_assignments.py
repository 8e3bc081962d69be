"""The assignments: what students get, and what a right, an empty, a wrong and a gaming submission score.

Submissions are graded here with otter's own test files, in this process; one goes through `otter run` as a class would
send it, and must get the same points. `pytest tests/test_assignments.py -rP` prints the table of scores.
"""

import ast
import contextlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat import v4

ROOT = Path(__file__).parents[1]
SUBMISSIONS = ROOT / "tests" / "submissions"
spec = importlib.util.spec_from_file_location("assignments_build", ROOT / "assignments" / "build.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

NAMES = tool.names()
each = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module", autouse=True)
def otter():
    """otter and its test files. What it imports declares widgets in a way that traitlets deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import otter
        import otter.test_files
    return otter


@pytest.fixture(scope="module")
def built(otter, tmp_path_factory):
    """The folder that `make assignments` fills."""
    into = tmp_path_factory.mktemp("assignments")
    for name in NAMES:
        tool.build(name, into)
    return into


def student(built: Path, name: str) -> nbformat.NotebookNode:
    return nbformat.read(built / name / "student" / f"{name}.ipynb", as_version=4)


def answers_of(name: str, kind: str) -> dict[str, str]:
    """The code that a submission of this kind puts into each question."""
    if kind == "empty":
        return {}
    parts = re.split(r"^# %% (q\d+)\n", (SUBMISSIONS / f"{name}.{kind}.py").read_text(encoding="utf-8"), flags=re.M)
    return {question: parts[0] + code for question, code in zip(parts[1::2], parts[2::2])}


def submission(built: Path, name: str, kind: str) -> nbformat.NotebookNode:
    """The student notebook with the answers in it; a right one is the notebook with the solutions."""
    if kind == "right":
        return nbformat.read(built / name / "autograder" / f"{name}.ipynb", as_version=4)
    nb, answers = student(built, name), answers_of(name, kind)
    for question, code in answers.items():
        (check,) = [n for n, cell in enumerate(nb.cells) if cell.source == f'grader.check("{question}")']
        nb.cells.insert(check, v4.new_code_cell(code))
    return nb


@dataclass
class Score:
    """Points of a submission: visible and hidden, of how many, and by question."""

    visible: float
    hidden: float
    visible_possible: float
    hidden_possible: float
    by_question: dict[str, float]

    def __str__(self):
        return f"visible {self.visible:g}/{self.visible_possible:g}  hidden {self.hidden:g}/{self.hidden_possible:g}"


def grade(otter, built: Path, name: str, kind: str, folder: Path) -> Score:
    """Run the cells of a submission, errors ignored as otter does, then otter's tests on what they define."""
    env = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(devices=[]):
        for cell in submission(built, name, kind).cells:
            if cell.cell_type == "code" and "grader" not in cell.source:
                with contextlib.suppress(Exception):
                    exec(compile(cell.source, f"{name}, {kind}", "exec"), env)
        with zipfile.ZipFile(built / name / "autograder" / f"{name}.zip") as archive:
            archive.extractall(folder)
        files = []
        for path in sorted(folder.glob("tests/*.py")):
            files.append(otter.test_files.ExceptionTestFile.from_file(str(path)))
            files[-1].run(env)
    results = [result for file in files for result in file.test_case_results]
    sums = [0.0, 0.0, 0.0, 0.0]
    for result in results:
        case = result.test_case
        sums[case.hidden] += case.points * result.passed
        sums[2 + case.hidden] += case.points
    return Score(*sums, {file.name: file.score for file in files})


@each
def test_a_right_submission_gets_full_marks(otter, built, name, tmp_path):
    score = grade(otter, built, name, "right", tmp_path)
    print(f"{name:<18} right   {score}")
    assert (score.visible, score.hidden) == (score.visible_possible, score.hidden_possible)
    assert score.hidden > score.visible > 0


@each
def test_an_empty_submission_gets_nothing(otter, built, name, tmp_path):
    score = grade(otter, built, name, "empty", tmp_path)
    print(f"{name:<18} empty   {score}")
    assert (score.visible, score.hidden) == (0, 0)


@each
def test_a_plausible_wrong_submission_gets_part_of_the_marks(otter, built, name, tmp_path):
    score = grade(otter, built, name, "wrong", tmp_path)
    print(f"{name:<18} wrong   {score}")
    assert score.visible > 0
    assert score.hidden < score.hidden_possible / 2


@each
def test_passing_the_visible_checks_alone_earns_nothing_hidden(otter, built, name, tmp_path):
    score = grade(otter, built, name, "gaming", tmp_path)
    print(f"{name:<18} gaming  {score}")
    assert score.visible == score.visible_possible
    assert score.hidden == 0


def test_otter_run_gives_the_same_points(otter, built, tmp_path):
    name = "derive_the_loss"
    expected = grade(otter, built, name, "wrong", tmp_path)
    nbformat.write(submission(built, name, "wrong"), tmp_path / f"{name}.ipynb")
    archive = built / name / "autograder" / f"{name}.zip"
    command = [sys.executable, "-m", "otter", "run", "-a", archive, "-o", tmp_path, tmp_path / f"{name}.ipynb"]
    env = os.environ | {"HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path / "ipython"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "results.json").read_text())
    points = {test["name"]: test["score"] for test in results["tests"] if re.fullmatch(r"q\d+", test["name"])}
    assert points == expected.by_question


def test_the_points_of_a_class_are_one_table(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("assignments_points", ROOT / "assignments" / "points.py")
    points = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(points)
    for student_, scores in {"ada": {"q10": 2.0, "q2": 0.5}, "bob": {"q2": 3.0}, "eve": None}.items():
        (tmp_path / student_).mkdir()
        if scores is not None:
            tests = [{"name": "Public Tests"}, *({"name": name, "score": score} for name, score in scores.items())]
            (tmp_path / student_ / "results.json").write_text(json.dumps({"tests": tests}))
    assert points.main([str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == ["submission,q2,q10,total", "ada,0.5,2,2.5", "bob,3,0,3", "eve,,,"]
    assert err == "eve: not graded, there is no results.json\n"
    with pytest.raises(SystemExit):
        points.main([str(tmp_path / "ada")])


# What students get


def text_of(nb: nbformat.NotebookNode) -> str:
    """Everything a reader of the file sees: the cells, and the tests in the metadata."""
    tests = nb.metadata.get("otter", {}).get("tests", {})
    return "\n".join([*(cell.source for cell in nb.cells), *map(str, tests.values())])


def lines_of(text: str) -> set[str]:
    """The lines that could give something away: long enough, and no imports."""
    lines = {line.strip() for line in text.splitlines()}
    return {line for line in lines if len(line) > 15 and not re.match(r"(from \S+ )?import ", line)}


def secrets_of(built: Path, name: str) -> set[str]:
    """Lines of solutions and hidden tests, without those that students are meant to see."""
    source = nbformat.read(ROOT / "assignments" / name / f"{name}.ipynb", as_version=4)
    secret, shown, block = set(), set(), None
    for cell in source.cells:
        if cell.cell_type == "raw":
            if begin := re.match(r"# (BEGIN|END) (SOLUTION|TESTS|PROMPT)", cell.source):
                block = begin[2] if begin[1] == "BEGIN" else None
        elif block == "TESTS":
            (secret if "hidden: true" in cell.source else shown).update(lines_of(cell.source))
        elif block == "SOLUTION" and cell.cell_type == "markdown":
            secret |= lines_of(cell.source)
        elif block == "SOLUTION":
            inside = False
            for line in cell.source.splitlines():
                if re.search(r"# (BEGIN|END) SOLUTION", line):
                    inside = "BEGIN" in line
                else:
                    (secret if inside or line.endswith("# SOLUTION") else shown).update(lines_of(line))
        else:
            shown |= lines_of(cell.source)
    with zipfile.ZipFile(built / name / "autograder" / f"{name}.zip") as archive:
        for member in archive.namelist():
            if member.startswith("tests/"):
                for case in re.split(r"^@test_case", archive.read(member).decode(), flags=re.M)[1:]:
                    (secret if "hidden=True" in case else shown).update(lines_of(case))
    return secret - shown


def leaks(built: Path, name: str, nb: nbformat.NotebookNode) -> set[str]:
    return {line for line in secrets_of(built, name) if line in text_of(nb)}


@each
def test_the_student_version_holds_no_solution_and_no_hidden_test(built, name):
    assert [path.name for path in (built / name / "student").rglob("*")] == [f"{name}.ipynb"]
    nb = student(built, name)
    assert leaks(built, name, nb) == set()
    assert "SOLUTION" not in text_of(nb) and "hidden=True" not in text_of(nb) and "ubric" not in text_of(nb)
    assert [cell for cell in nb.cells if cell.get("outputs")] == []
    assert len(secrets_of(built, name)) > 30


@each
def test_every_cell_that_students_get_is_python_and_says_what_is_asked(built, name):
    """Otter turns a line of a solution into `...`; inside of brackets that is no syntax, and the question is gone."""
    for cell in student(built, name).cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)
            assert not re.search(r"[{\[(]\n\s*\.\.\.", cell.source), cell.source


@each
def test_a_leak_is_found(built, name):
    solved = nbformat.read(built / name / "autograder" / f"{name}.ipynb", as_version=4)
    assert len(leaks(built, name, solved)) > 10
    nb = student(built, name)
    nb.cells.append(v4.new_code_cell(max(secrets_of(built, name), key=len)))
    assert len(leaks(built, name, nb)) == 1


@each
def test_every_question_has_points_and_partial_credit(otter, built, name):
    with zipfile.ZipFile(built / name / "autograder" / f"{name}.zip") as archive:
        sources = {m: archive.read(m).decode() for m in archive.namelist() if m.startswith("tests/")}
    assert len(sources) >= 5
    text = "\n".join(cell.source for cell in student(built, name).cells)
    assert text.count("_Points:_") >= len(sources)
    for member, source in sources.items():
        file = otter.test_files.ExceptionTestFile.from_string(source, member)
        assert file.possible > 0 and not file.all_or_nothing
        assert {case.hidden for case in file.test_cases} == {False, True}, member


def test_the_same_sources_give_the_same_bytes_and_no_path_of_this_machine(built, tmp_path):
    name = NAMES[0]
    again = tool.build(name, tmp_path)
    for path in sorted(p for p in again.rglob("*") if p.is_file()):
        assert path.read_bytes() == (built / name / path.relative_to(again)).read_bytes(), path.name
    places = [str(ROOT), str(tmp_path), str(Path.home()), os.environ.get("TMPDIR", "/tmp")]
    for path in (p for p in built.rglob("*") if p.is_file()):
        contents = [path.read_bytes()]
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                # The other members are otter's own scripts, for the root of Gradescope's container.
                ours = [m for m in archive.namelist() if Path(m).suffix in (".json", ".yml") or m.startswith("tests/")]
                contents = [archive.read(member) for member in ours]
        for place in places:
            if len(place) > 1:
                assert not any(f"{place}/".encode() in content for content in contents), (path.name, place)


def test_the_sources_are_in_order():
    for name in NAMES:
        nb = nbformat.read(ROOT / "assignments" / name / f"{name}.ipynb", as_version=4)
        nbformat.validate(nb)
        assert len({cell.id for cell in nb.cells}) == len(nb.cells)
        assert [cell for cell in nb.cells if cell.get("outputs") or cell.get("execution_count")] == []
    named = {path.name.split(".")[0] for path in SUBMISSIONS.glob("*.py")}
    assert named == set(NAMES) and len(NAMES) == 6
