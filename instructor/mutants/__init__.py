"""Known wrong answers to the exercises, each with the misconception that it comes from, and right
answers in another style than the notebooks' own.

One file a notebook. `@wrong("exercise", "misconception")` and `@right("exercise")` stand over a
function that answers the exercise; `wrong_value` and `right_value` hand over an answer that is no
function. `test_mutants.py` asserts what becomes of each.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """One answer to an exercise; `misconception` is None for a right one."""

    exercise: str
    misconception: str | None
    value: object
    number: int  # tells answers of the same kind apart

    @property
    def id(self) -> str:
        return f"{self.exercise}-{self.misconception or 'right'}-{self.number}"


ANSWERS: list[Answer] = []


def wrong_value(exercise: str, misconception: str, value) -> None:
    """A wrong answer that is not a function; it must be refused with that misconception's hint."""
    ANSWERS.append(Answer(exercise, misconception, value, len(ANSWERS)))


def right_value(exercise: str, value) -> None:
    """A right answer that is not a function, in another style than the notebook's."""
    ANSWERS.append(Answer(exercise, None, value, len(ANSWERS)))


def wrong(exercise: str, misconception: str) -> Callable:
    """The function below is a wrong answer; it must be refused with that misconception's hint."""
    return lambda value: wrong_value(exercise, misconception, value) or value


def right(exercise: str) -> Callable:
    """The function below is a right answer in another style than the notebook's."""
    return lambda value: right_value(exercise, value) or value


for module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{module.name}")
