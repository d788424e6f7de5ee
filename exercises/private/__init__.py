"""The answers: right ones, and known mistakes. Never handed out.

One file per notebook, by the names of the trials in `cdiff_exercises`. A right value and a mistake
exist here and nowhere else: `python -m exercises.build` stores their results for the checks, and
the .ini file beside the trial says by the same keys what whoever makes a mistake is told.
"""

import importlib
import pkgutil

ANSWERS: dict[str, dict[str, list]] = {}  # by exercise and key; "right" comes first
SOLUTIONS: dict[str, str] = {}  # by exercise, its text, where it is no function's


def answers(exercise: str, *, right: list, solution: str = "", **mistakes: list) -> None:
    """The known answers to an exercise.

    The first right one solves it in the notebook by its text: so it has the exercise's name, is
    written to be read, and uses what the notebook imports. The others have styles of their own. A
    mistake's key stands before the answers that it leads to; "unchanged", the bug that the notebook
    prints, is taken from there.
    """
    if exercise in ANSWERS:
        raise ValueError(f"{exercise} has answers already.")
    ANSWERS[exercise] = {"right": right, **mistakes}
    SOLUTIONS[exercise] = solution


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
