"""The hidden checks: each function has one; right answers pass on any seed, wrong ones fail."""

import importlib

import pytest
import torch

from cdiff_helpers.checks import EXERCISES
from instructor.mutants import ANSWERS
from tests.support.notebooks import HOUSE, NOTEBOOKS, cells

FILES = sorted((HOUSE / "instructor" / "hidden").glob("[!_]*.py"))
HIDDEN = {
    name: check
    for path in FILES
    for name, check in importlib.import_module(f"instructor.hidden.{path.stem}").HIDDEN.items()
}
FUNCTIONS = [
    entry
    for entry in EXERCISES.values()
    if entry.kind in ("build", "bug") and entry.name != "final_task"  # the judge marks that one
]
NAMES = [answer for answer in ANSWERS if answer.exercise in HIDDEN]


def judged(name: str, answer, seed: int):
    """The hidden check's verdict on an answer, for cases of that seed."""
    generator = torch.Generator().manual_seed(seed)
    return EXERCISES[name].judge(answer, lambda each: HIDDEN[name](each, generator))


def test_every_function_that_is_asked_for_has_a_hidden_check():
    assert set(HIDDEN) == {entry.name for entry in FUNCTIONS}


@pytest.mark.parametrize("name", HIDDEN)
def test_the_notebooks_own_solution_passes_on_any_seed(name):
    path = next(path for path in NOTEBOOKS if path.stem.startswith(EXERCISES[name].notebook))
    answer = next(cell for cell in cells(path, "code") if cell.id == f"ex-{name}-answer")
    namespace = {}
    exec(cells(path, "code")[1].source + "\n" + answer.source, namespace)
    for seed in (1, 20, 300):
        verdict = judged(name, namespace[name], seed)
        assert verdict, verdict.sentence


@pytest.mark.parametrize("answer", [a for a in NAMES if not a.misconception], ids=lambda a: a.id)
def test_a_right_answer_in_another_style_passes(answer):
    for seed in (1, 20, 300):
        verdict = judged(answer.exercise, answer.value, seed)
        assert verdict, verdict.sentence


@pytest.mark.parametrize("name", HIDDEN)
def test_most_wrong_answers_fail_on_random_cases_too(name):
    """Some need a trap that only the shown check sets, such as a gradient that was left over."""
    wrong = [a for a in NAMES if a.exercise == name and a.misconception]
    refused = [not all(judged(name, a.value, seed) for seed in (1, 20, 300)) for a in wrong]
    assert sum(refused) >= len(refused) / 2, [a.id for a, r in zip(wrong, refused) if not r]
