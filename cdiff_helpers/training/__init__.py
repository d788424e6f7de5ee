"""Training: the loss, the EMA of the weights, the loop, and a run that survives on disk.

Home: notebook 05. `losses` (timesteps, weights, dropped labels), `state` (settings, EMA, what a run
changes), `loop` (one update after the other), `checkpoints`, `storage`, `interrupts` (nothing is
lost).
"""

from cdiff_helpers.runtime import autocast, autocast_dtype
from cdiff_helpers.training.checkpoints import (
    checkpointed,
    extended,
    load_checkpoint,
    load_ema_model,
    open_run,
    save_checkpoint,
    tensor_bytes,
)
from cdiff_helpers.training.interrupts import Interrupted, interrupts_held
from cdiff_helpers.training.loop import Diverged, OutOfMemory, Step, endless, train, warn_if_stuck
from cdiff_helpers.training.losses import diffusion_loss, draw_times, drop_labels, loss_weights
from cdiff_helpers.training.state import EMA, RECIPE, TrainConfig, TrainState
from cdiff_helpers.training.storage import FILES, holds_run, refuse_other_files
