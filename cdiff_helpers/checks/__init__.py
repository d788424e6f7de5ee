"""Checks of the exercises: `check.linear_alpha_bar(linear_alpha_bar)` answers in a sentence.

`from cdiff_helpers import checks as check`. One function an exercise, under the exercise's name;
one file a notebook. `python -m cdiff_helpers.checks` lists them, with --json for programs.
"""

from cdiff_helpers.checks.final import final_task
from cdiff_helpers.checks.pictures import (
    as_bytes,
    bordered_grid,
    exponential_mean,
    live_picture,
    spreads,
)
from cdiff_helpers.checks.process import linear_alpha_bar
from cdiff_helpers.checks.running import (
    difference_interval,
    draw_all,
    energy_distance,
    pictures_needed,
    save_whole,
)
from cdiff_helpers.checks.verdict import EXERCISES, CheckFailed, Exercise, Verdict

__all__ = [
    "EXERCISES",
    "CheckFailed",
    "Exercise",
    "Verdict",
    "as_bytes",
    "bordered_grid",
    "difference_interval",
    "draw_all",
    "energy_distance",
    "exponential_mean",
    "final_task",
    "linear_alpha_bar",
    "live_picture",
    "pictures_needed",
    "save_whole",
    "spreads",
]
