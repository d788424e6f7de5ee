"""Checks of the exercises: `check.linear_alpha_bar(linear_alpha_bar)` answers in a sentence.

`from cdiff_helpers import checks as check`. One function an exercise, under the exercise's name;
one file a notebook. `python -m cdiff_helpers.checks` lists them, with --json for programs.
"""

from cdiff_helpers.checks.dataset import (
    balanced_places,
    batches_and_left_out,
    flip_some,
    standardise,
)
from cdiff_helpers.checks.final import final_task
from cdiff_helpers.checks.loop import (
    EMA,
    accumulate,
    diffusion_loss,
    drop_labels,
    dropped,
    half_life,
    update_order,
    x0_loss,
)
from cdiff_helpers.checks.network import (
    SinusoidalPositionEmbeddings,
    fourier_features,
    modulate,
    parameters_of_conv,
    walk,
)
from cdiff_helpers.checks.pictures import (
    as_bytes,
    bordered_grid,
    exponential_mean,
    live_picture,
    spreads,
)
from cdiff_helpers.checks.process import (
    add_noise,
    cosine_alpha_bar,
    linear_alpha_bar,
    noisy_at,
    time_of_snr,
    variance_half_way,
)
from cdiff_helpers.checks.running import (
    difference_interval,
    draw_all,
    energy_distance,
    pictures_needed,
    save_whole,
)
from cdiff_helpers.checks.sampler import (
    ancestral,
    away_from,
    ddim_step,
    ddpm_step,
    guided_noise,
    mixed_variance,
    pictures_through_the_network,
    rescaled,
    times,
    two_step,
)
from cdiff_helpers.checks.verdict import EXERCISES, CheckFailed, Exercise, Verdict
