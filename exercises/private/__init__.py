"""The answers: right ones, and known mistakes with the hints that they earn. Never handed out.

One file per notebook, by the names of the trials in `cdiff_exercises`. A right value and a mistake
exist here and nowhere else: `python -m exercises.build` stores their results for the checks.
"""

import importlib
import pkgutil
from dataclasses import dataclass, field


@dataclass
class Answers:
    """What is known of one exercise: right answers and, by their keys, mistakes."""

    praise: str
    right: tuple  # the first is the solution
    otherwise: str  # helps whoever is wrong in no known way
    solution: str  # the solution's text, where it is not the first right function's
    hints: dict[str, str] = field(default_factory=dict)  # by a mistake's key
    mistakes: dict[str, tuple] = field(default_factory=dict)  # the answers that it leads to

    def mistake(self, key: str, hint: str, *values) -> None:
        """Add a known mistake; "unchanged" is the bug that the notebook prints, without values."""
        if key in self.hints:
            raise ValueError(f"there is a mistake {key!r} already.")
        self.hints[key], self.mistakes[key] = hint, values


ANSWERS: dict[str, Answers] = {}  # by exercise


def right(exercise: str, praise: str, *values, otherwise: str = "", solution: str = "") -> Answers:
    """The right answers to an exercise; the first one's text solves it in the notebook.

    So that one has the exercise's name, is written to be read, and uses what the notebook imports.
    The others are in styles of their own.
    """
    if exercise in ANSWERS:
        raise ValueError(f"{exercise} has right answers already.")
    ANSWERS[exercise] = Answers(praise, values, otherwise, solution)
    return ANSWERS[exercise]


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
