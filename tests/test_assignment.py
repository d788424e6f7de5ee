"""Releasing exercises and marking them: no solution leaves, and no submission stops the batch."""

import csv
import json
import os
import re
import subprocess
import sys
import time

import nbformat
import pytest

from cdiff_helpers.checks import EXERCISES
from tests.support.notebooks import HOUSE, NOTEBOOKS
from tests.support.systems import posix_only
from tools import assignment, release
from tools.marker import Limits, Student, asked_exercises, feedback, mark_folder, marks_csv

NUMBERS = [path.stem[:2] for path in NOTEBOOKS[1:]]
HIDDEN = str(HOUSE / "instructor" / "hidden")
each_number = pytest.mark.parametrize("number", NUMBERS)


def solutions(number: str) -> dict[str, str]:
    """The text of each answer cell as it stands in the notebook, by exercise."""
    notebook = nbformat.read(release.notebook_path(number), as_version=4)
    parts = [(release.part_of(cell), cell.source) for cell in notebook.cells]
    return {part[0]: source for part, source in parts if part and part[1] == "answer"}


def normal(text: str) -> str:
    """A text without white space, so that a solution is found however it was laid out."""
    return re.sub(r"\s+", "", text)


@each_number
def test_a_released_notebook_holds_no_solution(number):
    notebook = release.released(number)
    text = normal(nbformat.writes(notebook))
    assert "BEGINSOLUTION" not in text and "ENDSOLUTION" not in text
    for name, source in solutions(number).items():
        region = release.REGION.search(source)[0].split("\n")[1:-1]
        body = normal("".join(region))
        assert body and json.dumps(body, ensure_ascii=False)[1:-1] not in text, name
        cell = next(c for c in notebook.cells if c.id == f"ex-{name}-answer")
        assert release.GAP in cell.source or "= ...  # your answer" in cell.source
        assert "jupyter" not in cell.metadata, "an answer to be written is not folded"


@each_number
def test_a_released_notebook_stores_no_output_of_a_solution(number):
    for cell in release.released(number).cells:
        part = release.part_of(cell)
        if part and part[1] in ("answer", "check"):
            assert cell.outputs == [] and cell.execution_count is None


@each_number
def test_filling_the_gaps_gives_the_notebook_back(number):
    whole = nbformat.read(release.notebook_path(number), as_version=4)
    assert [c.id for c in release.released(number).cells] == [c.id for c in whole.cells]
    nbformat.validate(release.released(number))


def test_a_gap_is_told_and_the_notebook_goes_on():
    """Each check of an untouched release answers kindly instead of stopping the notebook."""
    for number in NUMBERS:
        cells = release.released(number).cells
        imports = [cell.source for cell in cells if cell.cell_type == "code"][1]
        for cell in cells:
            part = release.part_of(cell)
            if part and part[1] == "answer":
                namespace = {}
                exec(imports + "\n" + cell.source, namespace)
                verdict = EXERCISES[part[0]].judge(namespace[part[0]])
                assert not verdict and "gap" in verdict.sentence, part


def test_chosen_definitions_are_blanked_and_checked_before_the_packages_own_goes_on():
    notebook = release.released("03", blank=("add_noise", "cosine_alpha_bar"))
    ids = [cell.id for cell in notebook.cells]
    place = ids.index("blank-add_noise-check")
    blanked, check, after = (notebook.cells[place + i].source for i in (-1, 0, 1))
    assert check == "check.add_noise(DiffusionProcess().add_noise)"
    assert blanked.startswith("# yours to write") and release.GAP in blanked
    assert "eq. 4" in blanked and "alpha_bar.sqrt() * x0 + " not in blanked  # the docstring stays
    assert after == (
        "from cdiff_helpers.diffusion import DiffusionProcess  "
        "# delete this line to go on with yours"
    )
    assert "whoever looks" in notebook.cells[place - 2].source
    assert notebook.cells[ids.index("blank-cosine_alpha_bar-check")].source == (
        "check.cosine_alpha_bar(cosine_alpha_bar)"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["release", "09", "--to", "x"], "no notebook '09'; expected one of 01, 02"),
        (["release", "03", "--to", "x", "--blank", "nothing"], "taught here; expected one of"),
        (["release", "03", "--to", "x", "--exercises", "walk"], "has no exercise walk; it has"),
        pytest.param(
            ["mark", "missing", "--out", "m.csv", "--notebooks", "03"],
            "there is no folder missing",
            marks=posix_only,
        ),
        pytest.param(
            ["mark", "none", "--out", "m.csv", "--notebooks", "03"],
            "none holds no notebook",
            marks=posix_only,
        ),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").mkdir()
    assert assignment.main(words) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["none"]


def test_the_program_runs_by_its_path_too(tmp_path):
    command = [sys.executable, str(HOUSE / "tools" / "assignment.py"), "release", "03", "--to", "."]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "03_diffusion_process.ipynb").is_file()


def test_a_release_replaces_nothing(tmp_path, capsys):
    assert assignment.main(["release", "03", "--to", str(tmp_path)]) == 0
    before = (tmp_path / "03_diffusion_process.ipynb").read_bytes()
    assert assignment.main(["release", "03", "--to", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "03_diffusion_process.ipynb").read_bytes() == before


def test_the_audit_counts_and_finds_nothing_amiss(capsys):
    assert assignment.main(["audit"]) == 0
    said = capsys.readouterr().out
    exercises, wrong = (int(re.search(rf"(\d+) {what}", said)[1]) for what in ("exerc", "wrong"))
    assert exercises >= 24 and wrong >= 80


def test_a_page_and_a_table_hold_nothing_that_a_program_would_run():
    student = Student("=cmd|' /C calc'!A0", [], flags=["<script>alert(1)</script>"])
    names = asked_exercises(["03"])
    student.points = dict.fromkeys(names, 0.0)
    student.sentences = dict.fromkeys(names, "<b>it raised</b>")
    assert "<" not in feedback(student, ["03"]).replace("# =cmd", "")
    assert marks_csv([student], ["03"]).splitlines()[1].startswith("_cmd")


def student_notebook(**changed: str) -> nbformat.NotebookNode:
    """The release of 03, filled with the solutions, or with other texts by exercise."""
    notebook = release.released("03")
    answers = solutions("03") | changed
    for cell in notebook.cells:
        part = release.part_of(cell)
        if part and part[1] == "answer":
            cell.source = answers[part[0]]
    return notebook


def other(body: str, top: str = "") -> nbformat.NotebookNode:
    """Solutions, but for noisy_at, whose body is this; `top` stands above it."""
    lines = "\n".join("    " + line for line in body.split("\n"))
    return student_notebook(noisy_at=f"{top}\ndef noisy_at(alpha_bar, x0, t, noise):\n{lines}")


RIGHT = "a = alpha_bar[t][:, None, None, None]\nreturn a.sqrt() * x0 + (1 - a).sqrt() * noise"
WRONG = RIGHT.replace("(1 - a).sqrt()", "(1 - a)")
FITTED = """
import torch
def linear_alpha_bar(num_steps):
    scale = {1000: 1, 100: 10}[num_steps]
    return (1 - torch.linspace(1e-4 * scale, 0.02 * scale, num_steps).double()).cumprod(0)
"""
LOUD = "print('x' * 30_000_000)\n"
HOLDS_ON = """
import signal
for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGXCPU):
    signal.signal(number, signal.SIG_IGN)
while True:
    try:
        while True: pass
    except BaseException:
        pass"""


def without_metadata() -> nbformat.NotebookNode:
    notebook = student_notebook()
    notebook.metadata = {}
    for i, cell in enumerate(notebook.cells):
        cell.metadata, cell.id = {}, f"c{i}"
    return notebook


def turned_round() -> nbformat.NotebookNode:
    notebook = student_notebook()
    notebook.cells = notebook.cells[::-1]
    return notebook


def doubled() -> nbformat.NotebookNode:
    """Every answer twice: first the right one, then an untouched gap."""
    notebook, gaps = student_notebook(), release.released("03")
    answers = [c for c in gaps.cells if (release.part_of(c) or "  ")[1] == "answer"]
    for i, cell in enumerate(answers):
        cell.id = f"copy-{i}"
    notebook.cells += answers
    return notebook


def forged() -> nbformat.NotebookNode:
    notebook = other(WRONG)
    for cell in notebook.cells:
        if (release.part_of(cell) or "  ")[1] == "check":
            cell.source = "'✓ all right'"
    return notebook


def some(*names: str) -> nbformat.NotebookNode:
    notebook = student_notebook()
    notebook.cells = [
        c for c in notebook.cells if not release.part_of(c) or release.part_of(c)[0] in names
    ]
    return notebook


STYLE = """a = alpha_bar.index_select(0, t).reshape(-1, 1, 1, 1)
return torch.addcmul((1 - a) ** 0.5 * noise, a**0.5, x0)"""
MAGIC = "if False:\n    %pip install tqdm\n%matplotlib inline\n"
REST = RIGHT.replace("[t]", "[\n    t\n    % len(alpha_bar)\n]")
HELPER = "def share(a, t):\n    return a[t][:, None, None, None]\n"
HELPED = "a = share(alpha_bar, t)\n" + RIGHT.splitlines()[1]
EARLY = solutions("03")["time_of_snr"].replace(".sum())", ".sum()) - 1")
MOVED = "a = alpha_bar[t][:, None, None, None]\nreturn (1 - a).sqrt() * x0 + a.sqrt() * noise"
THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=(900,)).start()\n"
MEMORY = "kept = [torch.ones(10**8) for _ in range(99)]\n"
DISARM = "from cdiff_helpers.checks import process\nprocess.diagnose = lambda *a, **k: None"
CLOSE = "torch.allclose = lambda *a, **k: True"
TAKEN = "from cdiff_helpers.diffusion import cosine_alpha_bar as linear_alpha_bar"
WRITE = "open('/tmp/written-by-an-answer', 'w').write('x')\n"
NETWORK = "import socket\nsocket.create_connection(('127.0.0.1', 9))\n"
PROGRAM = "import subprocess\nsubprocess.Popen(['sleep', '987'])\n"
LOOK = f"open({str(release.notebook_path('03'))!r}).read()\n"
ALL, LESS = 10, 7  # points of notebook 03's exercises; without noisy_at
# What is handed in, the points that it is worth, and what its flags say
CLASS = {
    "perfect": (student_notebook, ALL, None),
    "master": (lambda: nbformat.read(release.notebook_path("03"), as_version=4), ALL, None),
    "another_style": (lambda: other(STYLE), ALL, None),
    "untouched": (lambda: release.released("03"), 0, None),
    "no_cells": (nbformat.v4.new_notebook, 0, None),
    "half": (lambda: some("linear_alpha_bar", "time_of_snr"), 6, None),
    "one": (lambda: some("variance_half_way"), 1, None),
    "variance": (lambda: other(WRONG), LESS, None),
    "columns": (lambda: other(RIGHT.replace("[:, None, None, None]", "")), LESS, None),
    "swapped": (lambda: other(MOVED), LESS, None),
    "none": (lambda: other("alpha_bar[t]"), LESS, None),
    "shape": (lambda: other("return x0[0]"), LESS, None),
    "raises": (lambda: other("raise KeyError('x')"), LESS, None),
    "number": (lambda: student_notebook(variance_half_way="variance_half_way = 1"), 9, None),
    "words": (lambda: student_notebook(variance_half_way="variance_half_way = 'half'"), 9, None),
    "one_early": (lambda: student_notebook(time_of_snr=EARLY), LESS, None),
    "fitted": (lambda: student_notebook(linear_alpha_bar=FITTED), 8.5, None),
    "uses_a_helper": (lambda: other(HELPED, HELPER), ALL, None),
    "magics": (lambda: other(RIGHT, MAGIC), ALL, None),
    "remainder": (lambda: other(REST), ALL, None),
    "no_metadata": (without_metadata, ALL, "metadata lost"),
    "turned_round": (turned_round, ALL, "another order"),
    "doubled": (doubled, ALL, "defined 2 times"),
    "forged_checks": (forged, LESS, None),
    "hangs": (lambda: other("while True: pass"), LESS, "too slow"),
    "holds_on": (lambda: other(HOLDS_ON), LESS, "too slow"),
    "hangs_at_once": (lambda: other(RIGHT, "while True: pass"), LESS, "too slow"),
    "thread": (lambda: other(THREAD + RIGHT), ALL, None),
    "exits": (lambda: other("import os\nos._exit(0)"), LESS, "crashed"),
    "says_exit": (lambda: other("import sys\nsys.exit('all right')"), LESS, "raised"),
    "segfault": (lambda: other("import ctypes\nctypes.string_at(0)"), LESS, "crashed"),
    "no_end": (lambda: other("return noisy_at(alpha_bar, x0, t, noise)"), LESS, None),
    "memory": (lambda: other(MEMORY + RIGHT), LESS, None),
    "loud": (lambda: other(LOUD + RIGHT), ALL, "printed"),
    "disarms": (lambda: other(WRONG, DISARM), LESS, "changes cdiff_helpers.checks.process"),
    "all_close": (lambda: other(WRONG, CLOSE), LESS, "changes torch.allclose"),
    "package": (lambda: student_notebook(linear_alpha_bar=TAKEN), LESS, "imports the answer"),
    "writes": (lambda: other(WRITE + RIGHT), LESS, "writes outside"),
    "network": (lambda: other(NETWORK + RIGHT), LESS, "opens the network"),
    "programs": (lambda: other(PROGRAM + RIGHT), LESS, "starts programs"),
    "looks_up": (lambda: other(LOOK + RIGHT), LESS, "reads the solutions"),
    "syntax": (lambda: student_notebook(noisy_at="def noisy_at(:"), LESS, "syntax error"),
    "not_json": (lambda: "{ cells: ", 0, "no notebook"),
    "zero_bytes": (lambda: "", 0, "no notebook"),
    "other_bytes": (lambda: b"\xff\xfe\x00\x81", 0, "no notebook"),
    "huge": (lambda: "x" * 21_000_000, 0, "not read"),
}


def hand_in(folder, names) -> None:
    """Write the class's submissions into a folder."""
    folder.mkdir()
    for name in names:
        made = CLASS[name][0]()
        content = nbformat.writes(made) if isinstance(made, dict) else made
        path = folder / f"{name}.ipynb"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def expect(students: list[Student], names) -> None:
    """Each student's points and flags are the expected ones."""
    assert [student.name for student in students] == sorted(names)
    for student in students:
        _, points, flag = CLASS[student.name]
        told = "; ".join(student.flags)
        assert student.total == points, (student.name, student.points, student.sentences, told)
        assert (flag in told) if flag else not told.replace("metadata lost", ""), (
            student.name,
            told,
        )


@posix_only
@pytest.mark.slow
def test_one_hostile_submission_costs_the_others_nothing(tmp_path):
    names = ["perfect", "magics", "remainder", "untouched", "exits", "not_json"]
    hand_in(tmp_path / "class", names)
    expect(mark_folder(tmp_path / "class", ["03"], Limits(hidden=HIDDEN, seed=5)), names)


@pytest.mark.slow
def test_a_class_of_forty_is_marked_in_one_batch(tmp_path):
    """Right, wrong and hostile ones: the expected marks for each, in under ten minutes."""
    assert len(CLASS) >= 40
    hand_in(tmp_path / "class", CLASS)
    began, out = time.monotonic(), tmp_path / "out" / "marks.csv"
    command = ["mark", str(tmp_path / "class"), "--out", str(out), "--notebooks", "03"]
    assert assignment.main([*command, "--hidden", HIDDEN, "--seed", "11", "--timeout", "5"]) == 0
    assert time.monotonic() - began < 600
    rows = {
        row["student"]: row for row in csv.DictReader(out.read_text(encoding="utf-8").splitlines())
    }
    wrong = {}
    for name, (_, points, flag) in CLASS.items():
        row = rows[name]
        if float(row["total"]) != points or (flag or "") not in row["flags"]:
            wrong[name] = (points, flag, row)
        assert (tmp_path / "out" / "feedback" / f"{name}.md").is_file()
    assert not wrong
    left = subprocess.run(
        ["pgrep", "-f", "sleep 987"], capture_output=True, encoding="utf-8"
    ).stdout
    assert not left and not (HOUSE.parent / "written-by-an-answer").exists()


@pytest.mark.slow
@each_number
def test_solutions_are_worth_full_marks_and_an_untouched_release_none(number, tmp_path):
    whole = nbformat.read(release.notebook_path(number), as_version=4)
    (tmp_path / "class").mkdir()
    nbformat.write(whole, tmp_path / "class" / "solved.ipynb")
    nbformat.write(release.released(number), tmp_path / "class" / "untouched.ipynb")
    limits = Limits(hidden=HIDDEN, seed=3)
    solved, untouched = mark_folder(tmp_path / "class", [number], limits)
    most = sum(EXERCISES[name].points for name in asked_exercises([number]))
    assert solved.total == most and not solved.flags, (solved.sentences, solved.flags)
    assert untouched.total == 0
