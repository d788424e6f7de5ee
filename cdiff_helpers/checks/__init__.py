"""Checks of the exercises: `check.linear_alpha_bar(linear_alpha_bar)` answers in a sentence.

`from cdiff_helpers import checks as check`. One function an exercise, under the exercise's name;
one file a notebook. `python -m cdiff_helpers.checks` lists them, with --json for programs.
"""

from cdiff_helpers.checks.process import linear_alpha_bar
from cdiff_helpers.checks.verdict import EXERCISES, CheckFailed, Exercise, Verdict

__all__ = ["EXERCISES", "CheckFailed", "Exercise", "Verdict", "linear_alpha_bar"]
