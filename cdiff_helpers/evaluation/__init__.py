"""A judge that says how good generated pictures are, on any machine.

Home: notebook 08. Its figures are compared with each other at equal counts and equal seeds, never
with published FIDs: those need another network's features.
"""

from cdiff_helpers.evaluation.judge import Judge, judge_card, load_judge, look
from cdiff_helpers.evaluation.scores import (
    FEWEST_FOR_AGREEMENT,
    FEWEST_FOR_DISTANCES,
    Statistics,
    coverage,
    few_words,
    frechet_distance,
    kernel_distance,
    load_statistics,
    nearest_training,
    score,
    standard_places,
    wilson_interval,
)

__all__ = [
    "FEWEST_FOR_AGREEMENT",
    "FEWEST_FOR_DISTANCES",
    "Judge",
    "Statistics",
    "coverage",
    "few_words",
    "frechet_distance",
    "judge_card",
    "kernel_distance",
    "load_judge",
    "load_statistics",
    "look",
    "nearest_training",
    "score",
    "standard_places",
    "wilson_interval",
]
