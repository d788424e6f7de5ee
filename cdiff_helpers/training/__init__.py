"""Training: the loss, the averaged weights, the loop, and a run that survives on disk.

Home: notebook 05. `losses` (times, weights, dropped labels), `state` (settings, average, what a run
changes), `loop` (one update after the other), `checkpoints` and `interrupts` (nothing is lost).
"""

from cdiff_helpers.runtime import autocast, autocast_dtype
from cdiff_helpers.training.checkpoints import (
    FILES,
    checkpointed,
    extended,
    holds_run,
    load_checkpoint,
    load_ema_model,
    open_run,
    refuse_other_files,
    save_checkpoint,
    tensor_bytes,
)
from cdiff_helpers.training.interrupts import Interrupted, interrupts_held
from cdiff_helpers.training.loop import (
    Diverged,
    OutOfMemory,
    Step,
    endless,
    train,
    update,
    watched,
)
from cdiff_helpers.training.losses import (
    LARGEST_WEIGHT,
    MIN_SNR_GAMMA,
    UNIFORM_SHARE,
    diffusion_loss,
    draw_times,
    drop_labels,
    loss_weights,
)
from cdiff_helpers.training.state import (
    EMA,
    RECIPE,
    TrainConfig,
    TrainState,
)

__all__ = [
    "EMA",
    "FILES",
    "LARGEST_WEIGHT",
    "MIN_SNR_GAMMA",
    "RECIPE",
    "UNIFORM_SHARE",
    "Diverged",
    "Interrupted",
    "OutOfMemory",
    "Step",
    "TrainConfig",
    "TrainState",
    "autocast",
    "autocast_dtype",
    "checkpointed",
    "diffusion_loss",
    "draw_times",
    "drop_labels",
    "endless",
    "extended",
    "holds_run",
    "interrupts_held",
    "load_checkpoint",
    "load_ema_model",
    "loss_weights",
    "open_run",
    "refuse_other_files",
    "save_checkpoint",
    "tensor_bytes",
    "train",
    "update",
    "watched",
]
