"""What a run may choose, what it changes, and the average of its weights."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from torch import Tensor, nn

from cdiff_helpers.diffusion import check_is
from cdiff_helpers.runtime import PRECISIONS, Preset, autocast_dtype
from cdiff_helpers.training.losses import LOSS_WEIGHTINGS, TIME_DISTRIBUTIONS

# What the shell and the reference train with: the best of the arms in benchmarks/README.md
RECIPE = {"time_distribution": "logit-normal", "loss_weighting": "velocity"}


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one run. Frozen: `dataclasses.replace(config, seed=1)` makes another.

    Raises ValueError for a setting that cannot be, with what was expected.
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
    def for_preset(cls, preset: Preset, **changes) -> "TrainConfig":
        """The settings for a preset's sizes, with any field changed by name."""
        sizes = {"num_updates": preset.num_updates, "batch_size": preset.batch_size}
        return cls(**(sizes | changes))


def is_a(kind: type, value: object) -> bool:
    """Whether a value is a finite number of that kind, or an instance of it; True is no number."""
    number = issubclass(kind, Real) and kind is not bool
    return isinstance(value, kind) and not (
        number and (isinstance(value, bool) or not math.isfinite(value))
    )


def one_of(words: tuple[str, ...]) -> tuple[type, Callable, str]:
    """The entry of SETTINGS for a word out of several."""
    return str, words.__contains__, f"one of {', '.join(words)}"


# What each setting of a TrainConfig may be: its kind, a test, and the words for both
SETTINGS = {
    "num_updates": (Integral, lambda n: n >= 1, "at least 1"),
    "batch_size": (Integral, lambda n: n >= 1, "at least 1, such as 128"),
    "seed": (Integral, lambda n: 0 <= n < 2**32, f"a whole number from 0 to {2**32 - 1}"),
    "learning_rate": (Real, lambda x: x > 0, "a number above 0, such as 2e-3"),
    "warmup": (Real, lambda x: 0 <= x <= 1, "a share of the updates from 0 to 1, such as 0.05"),
    "betas": (Real, lambda x: 0 <= x < 1, "two numbers from 0 to below 1, such as (0.9, 0.99)"),
    "weight_decay": (Real, lambda x: x >= 0, "a number of at least 0, such as 0.01"),
    "max_grad_norm": (Real, lambda x: x > 0, "a number above 0, such as 1.0"),
    "label_drop": (Real, lambda x: 0 <= x <= 1, "a probability from 0 to 1, such as 0.1"),
    "ema_decay": (Real, lambda x: 0 <= x < 1, "a number from 0 to below 1, such as 0.999"),
    "time_distribution": one_of(TIME_DISTRIBUTIONS),
    "loss_weighting": one_of(LOSS_WEIGHTINGS),
    "precision": one_of(PRECISIONS),
    "cuda_graphs": (bool, lambda _: True, "True or False"),
    "cycle_start": (Integral, lambda n: n >= 0, "0 in a run that was not extended"),
}


def check_settings(config: TrainConfig) -> None:
    """Raise ValueError unless each of the settings is one that SETTINGS allows."""
    for name in SETTINGS:
        check_setting(name, getattr(config, name))
    if config.cycle_start >= config.num_updates:
        raise ValueError(
            f"cycle_start is {config.cycle_start}; expected below num_updates, which is "
            f"{config.num_updates}."
        )


def check_setting(name: str, value: object) -> None:
    """Raise ValueError unless a setting of that name may have the value."""
    kind, allowed, words = SETTINGS[name]
    values = value if isinstance(value, tuple) else (value,)
    count = 2 if name == "betas" else 1
    if len(values) != count or not all(is_a(kind, one) and allowed(one) for one in values):
        raise ValueError(f"{name} is {value!r}; expected {words}.")


class EMA:
    """An exponential moving average of a model's weights: `ema.model`, in eval mode, no gradients.

    Update n (from 0) keeps min(decay, (1 + n) / (10 + n)) of the average: the warm-up lets it
    forget the random start. Averages parameters and float buffers, copies whole-number buffers.
    Raises ValueError unless 0 <= decay < 1.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        check_is(nn.Module, model=model)
        check_setting("ema_decay", decay)
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.num_updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        kept = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        new = [*model.parameters(), *model.buffers()]
        pairs = list(zip([*self.model.parameters(), *self.model.buffers()], new))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_(*map(list, zip(*floats)), 1 - kept)  # all in one call
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)
        self.num_updates += 1


def without_wrapper(model: nn.Module) -> nn.Module:
    """The network inside torch.compile's wrapper, or the model itself: its weights' plain names.

    Raises ValueError for a DataParallel, whose network is to be handed over itself.
    """
    model = getattr(model, "_orig_mod", model)
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ValueError(
            f"model is a {type(model).__name__}; expected the network itself, model.module. "
            "torchrun shares a batch among several GPUs: notebook 08 has the line."
        )
    return model


class TrainState:
    """Everything that training changes, so everything that a resume needs.

    `model`, `config`, `ema`, `optimizer`, `scheduler`, `scaler`, `generator`, `index` (updates
    done) and `losses`, one for each of them. The model stays on its device. `network` is what is
    called in the forward pass: the model, or a wrapper around it, such as torch.compile's.
    """

    def __init__(self, model: nn.Module, config: TrainConfig):
        check_is(TrainConfig, config=config)
        check_is(nn.Module, model=model)
        self.network, self.config = model, config
        self.model = model = without_wrapper(model)
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
        total_steps = max(cycle, 4)  # OneCycle divides by the lengths of both phases
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=config.learning_rate,
            total_steps=total_steps,
            pct_start=max(config.warmup, 2 / total_steps),
            cycle_momentum=False,  # it would overwrite betas
        )
        # float16's small gradients vanish unless they are scaled
        fp16 = autocast_dtype(self.device, config.precision) is torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.index = 0
        # One tensor for all of them: thousands of small ones would scatter over the heap
        record = {"device": self.device, "dtype": torch.float32}
        self.loss_record = torch.zeros(config.num_updates, **record)
        self.finite = torch.ones((), dtype=torch.bool, device=self.device)  # all of it, so far
        self.whole = True  # False within an update: then there is nothing to go on from
        self.saved_index = None  # the newest checkpoint's
        self.data_order, self.global_random = {}, None  # the loader's settings; see random_states
        self.before_update = lambda: None  # several processes: random numbers of their own

    @property
    def losses(self) -> Tensor:
        """The loss of each update done: float32 (index,) on the model's device."""
        return self.loss_record[: self.index]
