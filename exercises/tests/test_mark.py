"""Marking: results decide, no submission stops the batch, and no liar gains a point."""

import csv
import subprocess
import time

import nbformat
import pytest

from cdiff_exercises.answer import Draw
from cdiff_exercises.room import EXERCISES
from exercises import hand_out, mark
from exercises.hand_out import part_of
from exercises.mark import Limits, Student, Task, feedback, mark_folder, marks_csv
from tests.support.notebooks import NOTEBOOKS
from tests.support.systems import posix_only

NUMBERS = [path.stem[:2] for path in NOTEBOOKS]
TASK = Task(["03"], 5)
ALL = TASK.most()
LESS = ALL - EXERCISES["noisy_at"].points


def student_notebook(**changed: str) -> nbformat.NotebookNode:
    """Notebook 03, its gaps filled with the solutions, or with other texts by exercise."""
    notebook = hand_out.handed_out("03", solved=True)
    for cell in notebook.cells:
        name, part = part_of(cell) or ("", "")
        if part == "answer":
            cell.source = changed.get(name, cell.source)
    return notebook


def other(body: str, top: str = "") -> nbformat.NotebookNode:
    """Solutions, but for noisy_at, whose body is this; `top` stands above it."""
    lines = "\n".join("    " + line for line in body.split("\n"))
    return student_notebook(noisy_at=f"{top}\ndef noisy_at(alpha_bar, x0, t, noise):\n{lines}")


RIGHT = "a = alpha_bar[t][:, None, None, None]\nreturn a.sqrt() * x0 + (1 - a).sqrt() * noise"
WRONG = RIGHT.replace("(1 - a).sqrt()", "(1 - a)")
FITTED = f"""
import torch
def linear_alpha_bar(num_steps):
    scale = {{T: 1000 / T for T in (1000, 100, {Draw(0).whole(30, 3000)})}}[num_steps]
    return (1 - torch.linspace(1e-4 * scale, 0.02 * scale, num_steps).double()).cumprod(0)
"""
HOLDS_ON = """
import signal
for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGXCPU):
    signal.signal(number, signal.SIG_IGN)
while True:
    try:
        while True: pass
    except BaseException:
        pass"""
# Whoever gets at the process finds no right value in it: the stored ones belong to the shown seed.
LIES = """
import cdiff_exercises.room as room, cdiff_exercises.submission as submission
room.close = lambda *a: True
room.judge = lambda name, results: room.Verdict(name, True, "right")
def stored(name, source, namespace, seeds):
    return [room.known(name)[0][1]] * len(seeds)
import sys
for module in (submission, sys.modules["__main__"]):
    module.results_of = stored
"""
WRITES_ITSELF = """
import pathlib, os
from cdiff_exercises import room
from cdiff_exercises.submission import write_results
for name in room.EXERCISES:
    right = [room.known(name)[0][1]] * 4
    write_results(pathlib.Path("..") / f"{name}-0", right)
    with open("../started", "a") as file: file.write(f"{name}-0\\n")
os._exit(0)
"""


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
    notebook = student_notebook()
    answers = [c for c in hand_out.read("03").cells if (part_of(c) or "  ")[1] == "answer"]
    for i, cell in enumerate(answers):
        cell.id = f"copy-{i}"
    notebook.cells += answers
    return notebook


def gaps_but(text: str) -> nbformat.NotebookNode:
    """Untouched gaps, and a text above the first answer, a wrong one."""
    notebook = hand_out.read("03")
    cell = next(c for c in notebook.cells if c.id == "ex-variance_half_way-answer")
    cell.source = f"{text}\nvariance_half_way = 3"
    return notebook


def forged() -> nbformat.NotebookNode:
    notebook = other(WRONG)
    for cell in notebook.cells:
        if (part_of(cell) or "  ")[1] == "check":
            cell.source = "'✓ right'"
    return notebook


def some(*names: str) -> nbformat.NotebookNode:
    notebook = student_notebook()
    notebook.cells = [c for c in notebook.cells if not part_of(c) or part_of(c)[0] in names]
    return notebook


def without(*names: str) -> int:
    return ALL - sum(EXERCISES[name].points for name in names)


STYLE = """a = alpha_bar.index_select(0, t).reshape(-1, 1, 1, 1)
return torch.addcmul((1 - a) ** 0.5 * noise, a**0.5, x0)"""
MAGIC = "if False:\n    %pip install tqdm\n%matplotlib inline\n"
REST = RIGHT.replace("[t]", "[\n    t\n    % len(alpha_bar)\n]")
HELPER = "def share(a, t):\n    return a[t][:, None, None, None]\n"
HELPED = "a = share(alpha_bar, t)\n" + RIGHT.splitlines()[1]
EARLY = hand_out.solution("time_of_snr").replace(".sum())", ".sum()) - 1")
THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=(900,)).start()\n"
MEMORY = "kept = [torch.ones(10**8) for _ in range(99)]\n"
CLOSE = "torch.allclose = lambda *a, **k: True"
TAKEN = "from cdiff_helpers.diffusion import cosine_alpha_bar as linear_alpha_bar"
NETWORK = "import socket\nsocket.create_connection(('127.0.0.1', 9))\n"
PROGRAM = "import subprocess\nsubprocess.Popen(['sleep', '987'])\n"
# What is handed in, the points that it is worth, and what its flags say
CLASS = {
    "perfect": (student_notebook, ALL, None),
    "another_style": (lambda: other(STYLE), ALL, None),
    "untouched": (lambda: hand_out.read("03"), 0, None),
    "no_cells": (nbformat.v4.new_notebook, 0, "metadata lost"),
    "half": (lambda: some("linear_alpha_bar", "time_of_snr"), 6, None),
    "one": (lambda: some("variance_half_way"), 1, None),
    "variance": (lambda: other(WRONG), LESS, None),
    "columns": (lambda: other(RIGHT.replace("[:, None, None, None]", "")), LESS, None),
    "none": (lambda: other("alpha_bar[t]"), LESS, None),
    "shape": (lambda: other("return x0[0]"), LESS, None),
    "nan": (lambda: other("return x0 * float('nan')"), LESS, None),
    "raises": (lambda: other("raise KeyError('x')"), LESS, None),
    "number": (lambda: student_notebook(variance_half_way="variance_half_way = 1"), ALL - 1, None),
    "text": (lambda: student_notebook(variance_half_way="variance_half_way = 'x'"), ALL - 1, None),
    "one_early": (lambda: student_notebook(time_of_snr=EARLY), without("time_of_snr"), None),
    "fitted": (
        lambda: student_notebook(linear_alpha_bar=FITTED), without("linear_alpha_bar"), None,
    ),
    "uses_a_helper": (lambda: other(HELPED, HELPER), ALL, None),
    "magics": (lambda: other(RIGHT, MAGIC), ALL, None),
    "remainder": (lambda: other(REST), ALL, None),
    "no_metadata": (without_metadata, ALL, "metadata lost"),
    "turned_round": (turned_round, ALL, None),
    "doubled": (doubled, ALL, "defined 2 times"),
    "forged_checks": (forged, LESS, None),
    "hangs": (lambda: other("while True: pass"), LESS, "did not end within 5 s"),
    "holds_on": (lambda: other(HOLDS_ON), LESS, "did not end within 5 s"),
    "hangs_at_once": (lambda: other(RIGHT, "while True: pass"), LESS, "did not end"),
    "thread": (lambda: other(THREAD + RIGHT), ALL, None),
    "exits": (lambda: other("import os\nos._exit(0)"), LESS, "(exit status 0)"),
    "says_exit": (lambda: other("import sys\nsys.exit('all right')"), LESS, None),
    "exits_at_once": (lambda: other(RIGHT, "import sys\nsys.exit()"), LESS, None),
    "segfault": (lambda: other("import ctypes\nctypes.string_at(0)"), LESS, "SIGSEGV"),
    "no_end": (lambda: other("return noisy_at(alpha_bar, x0, t, noise)"), LESS, None),
    "memory": (lambda: other(MEMORY + RIGHT), LESS, None),
    "loud": (lambda: other("print('x' * 30_000_000)\n" + RIGHT), ALL, None),
    "all_close": (lambda: other(WRONG, CLOSE), LESS, None),
    "package": (
        lambda: student_notebook(linear_alpha_bar=TAKEN), without("linear_alpha_bar"), None,
    ),
    "lies": (lambda: gaps_but(LIES), 0, None),
    "writes_itself": (lambda: gaps_but(WRITES_ITSELF), 0, None),
    "network": (lambda: other(NETWORK + RIGHT), LESS, None),
    "programs": (lambda: other(PROGRAM + RIGHT), ALL, None),
    "syntax": (lambda: student_notebook(noisy_at="def noisy_at(:"), LESS, "syntax error"),
    "not_json": (lambda: "{ cells: ", 0, "no notebook"),
    "zero_bytes": (lambda: "", 0, "no notebook"),
    "other_bytes": (lambda: b"\xff\xfe\x00\x81", 0, "no notebook"),
    "huge": (lambda: "x" * 21_000_000, 0, "not read"),
}  # fmt: skip


def hand_in(folder, names) -> None:
    """Write the class's submissions into a folder."""
    folder.mkdir()
    for name in names:
        made = CLASS[name][0]()
        content = nbformat.writes(made) if isinstance(made, dict) else made
        path = folder / f"{name}.ipynb"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_one_hostile_submission_costs_the_others_nothing(tmp_path):
    names = ["exits", "lies"]
    hand_in(tmp_path / "class", names)
    students = mark_folder(tmp_path / "class", TASK, Limits())
    assert {s.name: s.total for s in students} == {name: CLASS[name][1] for name in names}


def test_a_process_that_ends_before_its_first_answer_is_not_begun_again(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(mark, "run_once", lambda *asked: begun.append(asked) or "it ended")
    hand_in(tmp_path / "class", ["untouched"])
    (student,) = mark_folder(tmp_path / "class", TASK, Limits())
    assert len(begun) == 1 and student.total == 0
    assert student.flags == ["untouched.ipynb: it could not be read"]


@posix_only
@pytest.mark.slow
def test_a_class_of_forty_is_marked_in_one_batch(tmp_path):
    """Right, wrong and hostile ones: the expected marks for each, in under ten minutes."""
    assert len(CLASS) >= 40
    hand_in(tmp_path / "class", CLASS)
    began, out = time.monotonic(), tmp_path / "out" / "marks.csv"
    command = [str(tmp_path / "class"), "--out", str(out), "--notebooks", "03"]
    assert mark.main([*command, "--seed", "11", "--timeout", "5"]) == 0
    assert time.monotonic() - began < 600
    rows = {
        row["student"]: row for row in csv.DictReader(out.read_text(encoding="utf-8").splitlines())
    }
    wrong = {}
    for name, (_, points, flag) in CLASS.items():
        row = rows[name]
        if float(row["total"]) != points or (flag or "") not in row["flags"]:
            wrong[name] = (points, flag, row)
        assert len(list((tmp_path / "out" / "marks-feedback").glob(f"*-{name}.md"))) == 1
    assert not wrong
    left = subprocess.run(
        ["pgrep", "-f", "sleep 987"], capture_output=True, encoding="utf-8"
    ).stdout
    assert not left


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_solutions_are_worth_full_marks_and_untouched_notebooks_none(number, tmp_path):
    (tmp_path / "class").mkdir()
    for name, solved in (("solved", True), ("untouched", False)):
        notebook = hand_out.handed_out(number, solved=solved)
        nbformat.write(notebook, tmp_path / "class" / f"{name}.ipynb")
    task = Task([number], 3)
    solved, untouched = mark_folder(tmp_path / "class", task, Limits())
    assert solved.total == task.most() and not solved.flags, (solved.sentences, solved.flags)
    assert untouched.total == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["missing", "--notebooks", "03", "--seed", "1"], "there is no folder missing"),
        (["none", "--notebooks", "03", "--seed", "1"], "none holds no notebook"),
        (["none", "--notebooks", "13", "--seed", "1"], "there is no notebook '13'"),
        (
            ["none", "--notebooks", "03", "--seed", "-1"],
            "--seed is -1, --jobs 2; expected 0",
        ),
    ],
)
def test_a_mistake_ends_in_a_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").mkdir()
    assert mark.main([*words, "--out", "m.csv"]) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["none"]


def test_a_page_and_a_table_hold_nothing_that_a_program_would_run():
    student = Student("=cmd|' /C calc'!A0", [], flags=["<script>alert(1)</script>"])
    student.points = dict.fromkeys(TASK.names, 0.0)
    student.sentences = dict.fromkeys(TASK.names, "<b>it raised</b>")
    assert "<" not in feedback(student, TASK).replace("# =cmd", "")
    assert marks_csv([student], TASK).splitlines()[1].startswith("_cmd")
