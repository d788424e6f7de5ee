"""The judge: a classifier that measures how good generated images are, on any machine.

Home: notebook 08. Its scores are compared with each other at equal counts and equal seeds, never
with published FIDs: those need another network's features.
"""

from cdiff_helpers.evaluation.judge import classify, judge_card, load_judge
from cdiff_helpers.evaluation.scores import (
    FEWEST_FOR_AGREEMENT,
    coverage,
    frechet_distance,
    kernel_distance,
    load_statistics,
    nearest_training,
    score,
    standard_places,
    too_few_message,
    wilson_interval,
)
