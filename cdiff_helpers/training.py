"""Training: the loss, the averaged weights, the loop, and a run that survives on disk.

Home: notebook 05. DDPM (arXiv:2006.11239), algorithm 1, with classifier-free guidance's dropped
labels (Ho & Salimans 2022, arXiv:2207.12598, algorithm 1).
"""

import copy
import io
import itertools
import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from cdiff_helpers.diffusion import DiffusionProcess, check_same_num_steps
from cdiff_helpers.runtime import Preset, write_whole
from cdiff_helpers.unet import ConditionalUNet

STATEFUL = ("optimizer", "scheduler", "scaler")
WEIGHT_FILES = ("model.safetensors", "ema.safetensors")
TIME_DISTRIBUTIONS = ("uniform", "logit-normal")
LOSS_WEIGHTINGS = ("none", "velocity", "min-snr")
UNIFORM_SHARE = 0.1  # of the logit-normal times: without them the ends would hardly be trained
MIN_SNR_GAMMA = 5.0  # the paper's
# What the shell and the reference train with: the best of the arms in benchmarks/README.md
RECIPE = {"time_distribution": "logit-normal", "loss_weighting": "velocity"}
LARGEST_WEIGHT = 1_000.0  # of a picture's loss; the cosine schedule's last 1 / ᾱ is 4e8


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one run. Frozen: `dataclasses.replace(config, seed=1)` makes another."""

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

    def __post_init__(self):
        if self.num_updates < 1:
            raise ValueError(f"num_updates is {self.num_updates}; expected at least 1.")
        if self.time_distribution not in TIME_DISTRIBUTIONS:
            raise ValueError(
                f"time_distribution is {self.time_distribution!r}; expected one of "
                f"{', '.join(TIME_DISTRIBUTIONS)}."
            )
        if self.loss_weighting not in LOSS_WEIGHTINGS:
            raise ValueError(
                f"loss_weighting is {self.loss_weighting!r}; expected one of "
                f"{', '.join(LOSS_WEIGHTINGS)}."
            )
        if self.precision not in ("auto", "float32"):
            raise ValueError(f"precision is {self.precision!r}; expected auto or float32.")

    @classmethod
    def for_preset(cls, preset: Preset, **changes) -> "TrainConfig":
        """The settings for a preset's sizes, with any field changed by name."""
        sizes = {"num_updates": preset.num_updates, "batch_size": preset.batch_size}
        return cls(**(sizes | changes))


def drop_labels(
    y: Tensor, p: float = 0.1, *, null_class: int, generator: torch.Generator | None = None
) -> Tensor:
    """The labels y (B,) int64, each replaced by `null_class` with probability p: one coin an image.

    Classifier-free guidance, algorithm 1. Raises ValueError unless 0 <= p <= 1.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p is {p}; expected a probability from 0 to 1, such as 0.1.")
    device = y.device if generator is None else generator.device
    coins = torch.rand(y.shape, generator=generator, device=device).to(y.device)  # (B,) in [0, 1)
    return torch.where(coins < p, null_class, y)


def draw_times(
    count: int,
    num_steps: int,
    distribution: str = "uniform",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Training times: int64 (count,) in 0 … T-1, on the generator's device.

    "uniform" is DDPM's; "logit-normal" (Esser et al. 2024, arXiv:2403.03206, section 3.1) squashes
    a standard normal, so that the middle of the process is seen often; one time in ten is uniform
    all the same, so that the ends are seen too.
    """
    device = "cpu" if generator is None else generator.device
    uniform = torch.randint(0, num_steps, (count,), generator=generator, device=device)
    if distribution == "uniform":
        return uniform
    u = torch.sigmoid(torch.randn(count, generator=generator, device=device))  # in (0, 1)
    middle = (u * num_steps).long().clamp(max=num_steps - 1)
    coins = torch.rand(count, generator=generator, device=device)
    return torch.where(coins < UNIFORM_SHARE, uniform, middle)


def loss_weights(alpha_bar: Tensor, weighting: str = "none") -> Tensor:
    """What each picture's squared noise error counts at its ᾱ_t: (B,) -> float32 (B,).

    "none" is DDPM's 1. "velocity" is 1 / ᾱ_t, at most LARGEST_WEIGHT: since ε differs from its
    prediction by √ᾱ_t times what v does, this is the velocity's squared error (Salimans & Ho 2022,
    arXiv:2202.00512, section 4: "SNR + 1" weighting), which counts noisy pictures as much as clean.
    "min-snr" is min(SNR, γ) / SNR with SNR = ᾱ_t / (1 - ᾱ_t) (Hang et al. 2023, arXiv:2303.09556,
    section 3.4), which counts nearly clean pictures less.
    """
    if weighting == "none":
        return torch.ones_like(alpha_bar)
    if weighting == "velocity":
        return (1 / alpha_bar).clamp(max=LARGEST_WEIGHT)
    snr = alpha_bar / (1 - alpha_bar)
    return snr.clamp(max=MIN_SNR_GAMMA) / snr


def diffusion_loss(
    model: Callable,
    process: DiffusionProcess,
    x0: Tensor,
    y: Tensor,
    generator: torch.Generator | None = None,
    *,
    time_distribution: str = "uniform",
    weighting: str = "none",
) -> Tensor:
    """The mean squared error between the noise and the model's prediction of it: a scalar tensor.

    DDPM, eq. 14. x0 (B, 3, H, W) in [-1, 1], y (B,) int64 as given. Each image gets its own time,
    drawn by `draw_times`, and counts as `loss_weights` says.
    """
    check_same_num_steps(model, process)
    t = draw_times(len(x0), process.num_steps, time_distribution, generator).to(x0.device)
    xt, noise = process.add_noise(x0, t, generator=generator)
    eps = model(xt, t, y)  # (B, 3, H, W)
    errors = F.mse_loss(eps, noise, reduction="none").flatten(1).mean(dim=1)  # (B,)
    return (loss_weights(process.alpha_bar[t], weighting) * errors).mean()


class EMA:
    """An exponential moving average of a model's weights: `ema.model`, in eval mode, no gradients.

    Update n (from 0) keeps min(decay, (1 + n) / (10 + n)) of the average: the warm-up lets it
    forget the random start. Averages parameters and float buffers, copies whole-number buffers.
    Raises ValueError unless 0 <= decay < 1.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; expected at least 0 and below 1, such as 0.999.")
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


class TrainState:
    """Everything that training changes, so everything that a resume needs.

    `model`, `config`, `ema`, `optimizer`, `scheduler`, `scaler`, `generator`, `index` (updates
    done) and `losses`, one for each of them. The model stays on its device. `network` is what is
    called in the forward pass: the model, or a wrapper around it.
    """

    def __init__(self, model: nn.Module, config: TrainConfig):
        self.model, self.network, self.config = model, model, config
        self.device = next(model.parameters()).device
        self.ema = EMA(model, config.ema_decay)
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        total_steps = max(config.num_updates, 4)  # OneCycle divides by the lengths of both phases
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
        self.generator = torch.Generator().manual_seed(config.seed)
        self.index = 0
        # One tensor for all of them: thousands of small ones would scatter over the heap
        self.loss_record = torch.zeros(config.num_updates, device=self.device)

    @property
    def losses(self) -> Tensor:
        """The loss of each update done: float32 (index,) on the model's device."""
        return self.loss_record[: self.index]


def autocast_dtype(device: torch.device, precision: str = "auto") -> torch.dtype | None:
    """The forward pass's number format: None for float32.

    bfloat16 where the device computes in it, float16 on older CUDA devices.
    """
    if precision == "float32" or device.type == "mps":
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16
    can = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if can.get("amx_bf16") or can.get("avx512_bf16") else None


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """The block within which the forward pass runs in `autocast_dtype`'s format."""
    dtype = autocast_dtype(device, precision)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


@dataclass(frozen=True)
class Step:
    """One update: its number from 0, the loss before it (0-d tensor), and its learning rate."""

    index: int
    loss: Tensor
    learning_rate: float


def train(state: TrainState, process: DiffusionProcess, loader: Iterable) -> Iterator[Step]:
    """Train state.model, yielding a `Step` after each update until config.num_updates are done.

    DDPM, algorithm 1, with labels dropped. `loader` gives (x0, y) and is gone through as often as
    that takes; a state that has done k updates goes on with the loader's batch k.
    """
    config, generator, null_class = state.config, state.generator, state.model.null_class
    state.network.train()
    for x0, y in endless(loader, state.index):
        if state.index >= config.num_updates:
            return
        x0, y = x0.to(state.device), y.to(state.device)
        y = drop_labels(y, config.label_drop, null_class=null_class, generator=generator)
        with autocast(state.device, config.precision):
            loss = diffusion_loss(
                state.network,
                process,
                x0,
                y,
                generator,
                time_distribution=config.time_distribution,
                weighting=config.loss_weighting,
            )
        learning_rate = state.scheduler.get_last_lr()[0]
        update(state, loss)
        state.loss_record[state.index] = loss.detach()
        state.index += 1
        yield Step(state.index - 1, state.losses[-1], learning_rate)


def update(state: TrainState, loss: Tensor) -> None:
    """One optimiser step down the loss's gradient, the schedule's next step, and the average's."""
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(loss).backward()
    state.scaler.unscale_(state.optimizer)  # clip the true gradient, not the scaled one
    nn.utils.clip_grad_norm_(state.model.parameters(), state.config.max_grad_norm)
    scale = state.scaler.get_scale()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    stepped = state.scaler.get_scale() >= scale  # it shrinks where float16 overflowed: no step then
    more = state.scheduler.last_epoch + 1 < state.scheduler.total_steps  # past it the rate rises
    if stepped and more:
        state.scheduler.step()
    state.ema.update(state.model)


def endless(loader: Iterable, start: int = 0) -> Iterator:
    """The loader's batches over and over, beginning with batch number `start` of that sequence.

    Epoch e is asked for by `set_epoch` where the loader or its sampler has one. Raises ValueError
    for a loader without batches.
    """
    if len(loader) < 1:
        raise ValueError("the loader has no batches; expected at least one. Is the data set empty?")
    first, skip = divmod(start, len(loader))
    shuffled = loader if hasattr(loader, "set_epoch") else getattr(loader, "sampler", None)
    for epoch in itertools.count(first):
        if hasattr(shuffled, "set_epoch"):
            shuffled.set_epoch(epoch)
        yield from itertools.islice(loader, skip, None)
        skip = 0


def save_checkpoint(folder: str | Path, state: TrainState) -> None:
    """Write the run into a folder, made where it is missing; each file whole or not at all.

    `config.json`, `losses.json`, `model.safetensors`, `ema.safetensors` and `state.pt` (optimiser,
    schedule, scaler, generator). Raises OSError naming a folder that cannot be written.
    """
    folder = Path(folder)
    rest = {name: getattr(state, name).state_dict() for name in STATEFUL}
    rest |= {"index": state.index, "generator": state.generator.get_state()}
    rest |= {"ema_updates": state.ema.num_updates}
    buffer = io.BytesIO()
    torch.save(rest, buffer)
    config = {"training": asdict(state.config), "model": getattr(state.model, "config", None)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "config.json", json.dumps(config, indent=2).encode())
        write_whole(folder / "losses.json", json.dumps(state.losses.tolist()).encode())
        write_whole(folder / "model.safetensors", tensor_bytes(state.model, state.index))
        write_whole(folder / "ema.safetensors", tensor_bytes(state.ema.model, state.index))
        write_whole(folder / "state.pt", buffer.getvalue())
    except OSError as error:
        raise OSError(
            f"the run could not be saved in {folder} ({error.strerror or error}); expected a "
            "folder that can be written, with 70 MB free. Choose another folder."
        ) from error


def load_checkpoint(
    folder: str | Path, model: nn.Module | None = None, device: str | torch.device = "cpu"
) -> TrainState:
    """The run that `save_checkpoint` wrote, ready to go on.

    `model` is needed only for a network that is not a ConditionalUNet; its weights are replaced.
    Raises FileNotFoundError where there is no run and ValueError where one is damaged.
    """
    folder = Path(folder)
    if not (folder / "state.pt").is_file():
        raise FileNotFoundError(
            f"there is no run in {folder}; expected the files that save_checkpoint writes. "
            "Look into course_home()/runs for the runs of the notebooks."
        )
    try:
        config = json.loads((folder / "config.json").read_bytes())
        losses = json.loads((folder / "losses.json").read_bytes())
        rest = torch.load(folder / "state.pt", weights_only=True)
        weights = [load_tensors((folder / f).read_bytes()) for f in WEIGHT_FILES]
    except Exception as error:  # json, safetensors, zip and pickle each have their own
        raise ValueError(
            f"the run in {folder} is damaged ({type(error).__name__}: {error}); "
            "it cannot go on. Start a new one in another folder."
        ) from error
    model = (ConditionalUNet(**config["model"]) if model is None else model).to(device)
    training = config["training"]
    state = TrainState(model, TrainConfig(**training | {"betas": tuple(training["betas"])}))
    state.model.load_state_dict(weights[0])
    state.ema.model.load_state_dict(weights[1])
    for name in STATEFUL:
        getattr(state, name).load_state_dict(rest[name])
    state.generator.set_state(rest["generator"])
    state.index, state.ema.num_updates = rest["index"], rest["ema_updates"]
    state.loss_record[: state.index] = torch.tensor(losses)
    return state


def checkpointed(
    steps: Iterable[Step], state: TrainState, folder: str | Path, every_seconds: float = 60
) -> Iterator[Step]:
    """The same steps, with the run saved every so often, at the end, and when it is interrupted.

    An interrupt (Ctrl-C, Jupyter's Stop) waits until the present update is whole; then the run is
    saved and KeyboardInterrupt raised.
    """
    saved = time.monotonic()
    with interrupts_held() as interrupted:
        try:
            for step in steps:
                yield step
                if interrupted():
                    raise KeyboardInterrupt(f"saved in {folder} after {state.index} updates")
                if time.monotonic() - saved >= every_seconds:
                    save_checkpoint(folder, state)
                    saved = time.monotonic()
        finally:
            save_checkpoint(folder, state)


@contextmanager
def interrupts_held() -> Iterator[Callable[[], bool]]:
    """Within this block an interrupt only sets what the yielded function tells.

    Python delivers signals to the main thread alone; in another one nothing is held.
    """
    came = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, lambda *_: came.append(True))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGINT, before)


def tensor_bytes(model: nn.Module, index: int) -> bytes:
    """The model's weights as the bytes of a safetensors file that says after which update."""
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    return save_tensors(tensors, metadata={"index": str(index)})
