"""The checks refuse known wrong answers with the right hint, and pass right ones in any style."""

from collections import Counter

import nbformat
import pytest

from cdiff_helpers.checks import EXERCISES
from instructor.mutants import ANSWERS
from tests.support.notebooks import NOTEBOOKS, cells

WRONG = [answer for answer in ANSWERS if answer.misconception]
RIGHT = [answer for answer in ANSWERS if not answer.misconception]
ASKED = [e for e in EXERCISES.values() if e.kind != "taught"]
each_exercise = pytest.mark.parametrize("exercise", ASKED, ids=lambda e: e.name)


@pytest.mark.parametrize("answer", WRONG, ids=lambda answer: answer.id)
def test_a_wrong_answer_is_refused_with_the_hint_for_its_misconception(answer):
    verdict = EXERCISES[answer.exercise].judge(answer.value)
    assert verdict.misconception == answer.misconception, verdict.sentence
    assert not verdict


@pytest.mark.parametrize("answer", RIGHT, ids=lambda answer: answer.id)
def test_a_right_answer_in_another_style_passes(answer):
    verdict = EXERCISES[answer.exercise].judge(answer.value)
    assert verdict, verdict.sentence


@each_exercise
def test_four_wrong_and_two_right_answers_are_known(exercise):
    known = {a.misconception for a in WRONG if a.exercise == exercise.name}
    assert known == set(exercise.misconceptions), "a misconception without a wrong answer"
    assert len([a for a in WRONG if a.exercise == exercise.name]) >= 4
    assert len([a for a in RIGHT if a.exercise == exercise.name]) >= 2


@each_exercise
def test_a_hint_is_a_sentence_of_its_own(exercise):
    sentences = [*exercise.misconceptions.values(), exercise.praise]
    assert len(set(sentences)) == len(sentences)
    assert all(len(sentence) > 30 and sentence.strip()[-1] in ".?)" for sentence in sentences)


@each_exercise
@pytest.mark.parametrize("gap", [None, ...], ids=["None", "..."])
def test_a_gap_is_told_kindly(exercise, gap):
    verdict = exercise.judge(gap)
    assert not verdict and "gap" in verdict.sentence


def test_there_are_at_least_24_exercises_three_a_notebook():
    count = Counter(exercise.notebook for exercise in ASKED)
    assert all(count[f"0{i}"] >= 3 for i in range(2, 9)) and sum(count.values()) >= 24


def answer_cell(path, name: str) -> nbformat.NotebookNode:
    """The notebook's own cell with the answer to an exercise."""
    return next(cell for cell in cells(path, "code") if cell.id == f"ex-{name}-answer")


@each_exercise
def test_an_exercise_stands_in_its_notebook_with_goal_hints_and_a_marked_solution(exercise):
    path = next(path for path in NOTEBOOKS if path.stem.startswith(exercise.notebook))
    task = next(cell for cell in cells(path, "markdown") if cell.id == f"ex-{exercise.name}-task")
    words = f"*{exercise.kind} · {exercise.minutes} minutes · {exercise.points} point"
    assert words in task.source and "**Goal**" in task.source
    assert task.source.count("<details>") == 3
    answer = answer_cell(path, exercise.name)
    assert "### BEGIN SOLUTION" in answer.source and "### END SOLUTION" in answer.source
    assert answer.metadata["jupyter"]["source_hidden"]
    namespace = {}
    imports = cells(path, "code")[1]
    exec(imports.source + "\n" + answer.source, namespace)
    assert exercise.judge(namespace[exercise.name]), "the notebook's own solution"
    check = next(cell for cell in cells(path, "code") if cell.id == f"ex-{exercise.name}-check")
    assert f"check.{exercise.name}({exercise.name})" in check.source
