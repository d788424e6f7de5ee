"""The settings of a run, the EMA of its weights, and the state that training changes."""

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cdiff_helpers import runtime, validation
from cdiff_helpers.training.losses import LOSS_WEIGHTINGS, TIME_DISTRIBUTIONS

# What the shell and the reference train with: the best of the arms in benchmarks/README.md
RECIPE = {"time_distribution": "logit-normal", "loss_weighting": "velocity"}
MAX_UPDATES = 100_000_000  # each has its loss in the record: 0.4 GB


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one run. Frozen: `dataclasses.replace(config, seed=1)` makes another.

    Numbers of any kind become Python's. Raises ValueError for an invalid setting.
    """

    num_updates: int = 5_000  # optimiser steps
    batch_size: int = 128  # images an update; whoever makes the loader hands it on
    seed: int = 0  # of the loader's order and of everything that is drawn while training
    learning_rate: float = 2e-3  # the highest of the one cycle
    warmup: float = 0.05  # share of the updates over which the learning rate rises
    betas: tuple[float, float] = (0.9, 0.99)  # AdamW's; 0.99 follows short runs better than 0.999
    weight_decay: float = 0.01  # AdamW's
    max_grad_norm: float = 1.0  # longer gradients are shortened to this length
    label_drop: float = 0.1  # probability that an image is shown without its class
    ema_decay: float = 0.999  # per update, after the average's own warm-up
    time_distribution: str = "uniform"  # of the training times; "logit-normal" prefers the middle
    loss_weighting: str = "none"  # of the times: "none", "velocity" or "min-snr"
    precision: str = "auto"  # of the network's forward pass: "auto" or "float32"
    cuda_graphs: bool = False  # on CUDA: the network's kernels are recorded once, and replayed
    cycle_start: int = 0  # updates done before this cycle: more than 0 in a run that was extended

    def __post_init__(self):
        check_settings(self)

    @classmethod
    def for_preset(cls, preset: runtime.Preset, **changes) -> "TrainConfig":
        """The settings for a preset's sizes, with any field changed by name."""
        sizes = {"num_updates": preset.num_updates, "batch_size": preset.batch_size}
        return cls(**(sizes | changes))


def check_settings(config: TrainConfig) -> None:
    """Make numbers of any kind Python's; raise ValueError for an invalid setting."""

    def check(name: str, checked: Callable, *limits: Any, **hint: str) -> None:
        value = checked(name, getattr(config, name), *limits, **hint)
        value = value if isinstance(value, int | str | tuple) else float(value)
        object.__setattr__(config, name, value)  # it is frozen

    whole, number, choice = validation.whole, validation.number, validation.choice
    check("num_updates", whole, 1, MAX_UPDATES)
    check("batch_size", whole, hint=", such as 128")
    check("seed", whole, 0, validation.MAX_SEED)
    check("learning_rate", number, 1e-12, hint=", such as 2e-3")
    check("warmup", number, 0, 1, hint=", a share of the updates, such as 0.05")
    check("betas", two_betas)
    check("weight_decay", number, 0, hint=", such as 0.01")
    check("max_grad_norm", number, 1e-12, hint=", such as 1.0")
    check("label_drop", number, 0, 1, hint=", a probability, such as 0.1")
    check("ema_decay", number, 0, 1 - 1e-6, hint=", such as 0.999")
    check("time_distribution", choice, TIME_DISTRIBUTIONS)
    check("loss_weighting", choice, LOSS_WEIGHTINGS)
    check("precision", choice, runtime.PRECISIONS)
    check("cuda_graphs", validation.flag)
    check("cycle_start", whole, 0, config.num_updates - 1, hint=": below num_updates")


def two_betas(name: str, values: Any) -> tuple[float, float]:
    """AdamW's betas as two floats; raises ValueError for anything else."""
    betas = validation.attempt(lambda: [validation.number(name, v, 0, 1 - 1e-6) for v in values])
    if betas is None or len(betas) != 2:
        expected = "two numbers from 0 to below 1, such as (0.9, 0.99)"
        validation.refuse(f"{name} is {values!r}", expected)
    return float(betas[0]), float(betas[1])


class EMA:
    """An exponential moving average of a model's weights: `ema.model`, in eval mode, no gradients.

    Update n (from 0) keeps min(decay, (1 + n) / (10 + n)) of the average: the warm-up lets it
    forget the random start. Averages parameters and float buffers, copies integer buffers. Raises
    ValueError unless 0 <= decay < 1, and for a model that has no parameters.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        validation.network(model)
        self.decay = validation.number("decay", decay, 0, 1 - 1e-6, hint=", such as 0.999")
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.num_updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        averages = [*self.model.parameters(), *self.model.buffers()]
        for average, value in zip(averages, [*model.parameters(), *model.buffers()]):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)  # average + (1 - decay) (value - average)
            else:
                average.copy_(value)
        self.num_updates += 1


class TrainState:
    """Everything that training changes, so everything that a resume needs.

    `model`, `config`, `ema`, `optimizer`, `scheduler`, `scaler`, `generator`, `index` (updates
    done) and `losses`, one for each of them. The model stays on its device. `network` is what is
    called in the forward pass: the model, or a wrapper around it, such as torch.compile's.
    """

    def __init__(self, model: nn.Module, config: TrainConfig):
        if isinstance(config, type) or not hasattr(config, "learning_rate"):
            validation.refuse(f"config is {config!r}", "settings, such as TrainConfig()")
        self.network: Any = model
        self.config = config
        model = getattr(model, "_orig_mod", model)  # the network in torch.compile's wrapper
        validation.network(model)
        self.model: Any = model
        self.forward: Any = self.network  # what `batches` sets for the run's device
        self.device = next(model.parameters()).device
        self.ema = EMA(model, config.ema_decay)
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=self.device.type != "cpu" or None,  # on a GPU one kernel; None: torch decides
        )
        cycle = config.num_updates - config.cycle_start
        total_steps = max(cycle, 4)  # OneCycleLR divides by the lengths of both phases
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=config.learning_rate,
            total_steps=total_steps,
            pct_start=max(config.warmup, 2 / total_steps),
            cycle_momentum=False,  # it would overwrite betas
        )
        # float16's small gradients vanish unless they are scaled
        fp16 = runtime.autocast_dtype(self.device, config.precision) is torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.index = 0
        # One tensor for all of them: thousands of small ones would scatter over the heap
        self.loss_record = torch.zeros(config.num_updates, dtype=torch.float32, device=self.device)
        self.finite = torch.ones((), dtype=torch.bool, device=self.device)  # all of it, so far
        self.whole = True  # False within an update: then there is nothing to go on from
        self.saved_index: int | None = None  # the newest checkpoint's
        self.data_order: dict[str, int] = {}  # the loader's settings
        self.global_random: dict | None = None  # a loaded run's, until it goes on
        self.before_update = lambda: None  # several processes: reseeds each

    @property
    def losses(self) -> Tensor:
        """The loss of each update done: float32 (index,) on the model's device."""
        return self.loss_record[: self.index]


def reseed(generator: torch.Generator, *numbers: int) -> None:
    """Begin a stream of its own for each tuple of numbers, such as (seed, update)."""
    generator.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def global_random() -> dict:
    """Python's, numpy's and torch's global generators, which dropout and augmentation use."""
    kind, keys, *place = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, np.asarray(keys).tolist(), *place),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def restore_global_random(state: TrainState) -> None:
    """Set the global generators as they were when a loaded run was saved; once, and only then."""
    if saved := state.global_random:
        random.setstate(saved["python"])
        np.random.set_state(saved["numpy"])
        torch.set_rng_state(saved["torch"])
        if len(saved["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(saved["cuda"])
    state.global_random = None
