"""Known wrong answers earn their hints, right ones in any style pass; what is stored is true."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest
import torch

from cdiff_exercises.room import EXERCISES, SHOWN_SEED, first_difference, judge, run, texts
from cdiff_exercises.submission import bound_names
from exercises import build, hand_out, mark
from exercises.private import ANSWERS
from tests.support.notebooks import as_python
from tests.support.pretended_device import pretended

ASKED = [entry for entry in EXERCISES.values() if entry.kind != "taught"]
KNOWN = [
    (name, number, key, value)
    for name in EXERCISES
    for number, (key, value) in enumerate(build.known_answers(name))
]
IDS = [f"{name}-{key}-{number}" for name, number, key, _ in KNOWN]
MARKING = [(seed, 1) for seed in (11, 2027, 3)]
each_exercise = pytest.mark.parametrize("entry", ASKED, ids=lambda entry: entry.name)


@pytest.mark.parametrize(("name", "number", "key", "value"), KNOWN, ids=IDS)
def test_a_known_answer_gets_its_own_sentence(name, number, key, value):
    verdict = judge(name, run(name, value, SHOWN_SEED))
    assert (verdict.mistake or "right") == key and bool(verdict) == (key == "right"), verdict
    assert verdict.sentence == texts(name)[key]


@pytest.mark.slow  # the test above notices what matters of it
def test_what_is_stored_is_what_the_answers_give():
    assert build.build(write=False) == [], "python -m exercises.build"


@cache
def right_ones(name, seeds):
    return mark.right_ones(name, seeds)


def is_right(name, value, seeds) -> bool:
    """Whether an answer's results for these seeds are the right answer's."""
    results = run(name, value, *seeds)
    return any(first_difference(results, expected) is None for expected in right_ones(name, seeds))


@each_exercise
def test_marking_agrees_on_inputs_that_nobody_has_seen(entry):
    """Right answers pass for every seed; mistakes do not."""
    for key, value in build.known_answers(entry.name):
        passes = all(is_right(entry.name, value, seeds) for seeds in MARKING)
        assert passes == (key == "right"), key


@each_exercise
def test_four_mistakes_and_right_answers_in_two_styles_are_known(entry):
    if entry.name != "final_task":  # its folders are tried in test_final_task.py
        mistakes = texts(entry.name).keys() - {"right", "otherwise"}
        styles = len(ANSWERS[entry.name]["right"])
        assert len(mistakes) >= 4 and styles >= (1 if entry.kind == "predict" else 2)
        assert ("unchanged" in mistakes) == (entry.kind == "bug")


@each_exercise
def test_a_hint_is_a_sentence_of_its_own(entry):
    sentences = texts(entry.name).values()
    assert len(set(sentences)) == len(sentences)
    assert all(len(text) > 20 and text[-1] in ".?)" for text in sentences)


@each_exercise
def test_an_exercise_stands_in_its_notebook_with_goal_hints_gap_and_check(entry):
    task, answer, check = (
        next(c for c in hand_out.read(entry.notebook).cells if c.id == f"ex-{entry.name}-{part}")
        for part in ("task", "answer", "check")
    )
    words = f"*{entry.kind} · {entry.minutes} minutes · {entry.points} point"
    assert words in task.source and "**Goal**" in task.source
    assert task.source.count("<details>") == 3
    assert check.source == f"check.{entry.name}({entry.name})"
    (output,) = check.outputs
    assert f"✗ not yet · {entry.name}: " in output.data["text/plain"]
    assert "jupyter" not in answer.metadata and answer.metadata.nbgrader.grade_id == entry.name
    assert check.metadata.nbgrader.points == entry.points


@each_exercise
def test_a_gap_is_said_kindly_and_the_solution_fills_it(entry):
    if entry.name == "final_task":
        return  # it trains a network: tried where notebook 08 is run solved
    gap = hand_out.defined(entry.name, hand_out.source_of(entry.name, "answer"))
    verdict = judge(entry.name, run(entry.name, gap, SHOWN_SEED))
    assert not verdict and "gap" in verdict.sentence and verdict.mistake is None
    solved = hand_out.defined(entry.name, hand_out.solution(entry.name))
    assert judge(entry.name, run(entry.name, solved, SHOWN_SEED))
    assert all(is_right(entry.name, solved, seeds) for seeds in MARKING)


def test_exercises_are_numbered_as_they_stand():
    for number in sorted({entry.notebook for entry in ASKED}):
        titles = [
            hand_out.source_of(n, "task").split("\n")[0] for n in hand_out.exercises_of(number)
        ]
        numbers = [re.match(r"### Exercise (\d\d\.\d+) · ", title)[1] for title in titles]
        assert numbers == [f"{number}.{i + 1}" for i in range(len(titles))]


def test_every_notebook_has_exercises_and_every_exercise_a_notebook():
    count = Counter(entry.notebook for entry in ASKED)
    assert sorted(count) == [f"0{i}" for i in range(1, 9)] and sum(count.values()) >= 42
    standing = {name for number in count for name in hand_out.exercises_of(number)}
    assert standing == {entry.name for entry in ASKED} and set(ANSWERS) == set(EXERCISES)


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_stored_numbers_hold_with_any_number_of_threads(threads):
    command = [sys.executable, "-m", "exercises.build", "--check"]
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    subprocess.run(command, cwd=hand_out.HOUSE, env=environment, check=True)


@pytest.mark.parametrize("number", [f"0{i}" for i in range(1, 9)])
def test_no_cell_of_a_notebook_takes_an_exercises_name(number):
    """Else an answer that was right is something else when its check is run again."""
    names = set(hand_out.exercises_of(number))
    for cell in hand_out.read(number).cells:
        if cell.cell_type == "code" and not hand_out.part_of(cell):
            tree = ast.parse(as_python(cell))
            bound = {name for node in tree.body for name in bound_names(node)}
            bound |= {
                n.id
                for loop in ast.walk(tree)
                if isinstance(loop, ast.For) and loop in tree.body
                for n in ast.walk(loop.target)
                if isinstance(n, ast.Name)
            }
            assert not bound & names, cell.source[:80]


@pytest.mark.slow
def test_right_answers_pass_where_a_card_is_the_default_device():
    """Checks run on the CPU, whatever the notebook has made its default."""
    with pretended("cuda"):
        torch.set_default_device("cuda")
        try:
            for name, _, key, value in KNOWN:
                if key == "right":
                    assert judge(name, run(name, value, SHOWN_SEED)), name
        finally:
            torch.set_default_device(None)
