"""The loop: one update after the other, each whole or not at all."""

import copy
import itertools
import math
import reprlib
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cdiff_helpers import runtime, validation
from cdiff_helpers.console import safe_print
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.training.losses import diffusion_loss, drop_labels
from cdiff_helpers.training.state import TrainState, restore_global_random

LOOK_EVERY = 20  # updates on a GPU, which has to finish its work before it can be asked
SETTLED = 50  # updates before which a loss says nothing about a run, however short its warm-up
HARDLY = 0.8  # of the loss at the beginning: a run above it has hardly learned anything
HARDLY_LEARNED = (
    "After {updates} updates the loss is {now:.2f}, at the beginning it was {first:.2f}: the "
    "network has hardly learned. Look for a learning rate far too high or too low, images that are "
    "not in [-1, 1], gradients that do not reach the weights, or noise drawn twice."
)
# What a full memory is called by CUDA and MPS, by the CPU, and by cuBLAS and cuDNN
FULL = ("out of memory", "can't allocate memory", "ALLOC_FAILED", "ALLOCATION_FAILED")


class Diverged(RuntimeError):
    """A loss or a gradient is not a finite number, so no update after it can be."""


class OutOfMemory(RuntimeError):
    """The device has no room for a batch of this size."""


@dataclass(frozen=True)
class Step:
    """One update: its number from 0, the loss before it (0-d tensor), and its learning rate."""

    index: int
    loss: Tensor
    learning_rate: float


def train(state: TrainState, process: DiffusionProcess, loader: Iterable) -> Iterator[Step]:
    """Train state.model, yielding a `Step` after each update until config.num_updates are done.

    DDPM, algorithm 1, with label dropout. `loader` gives (x0, y) and is gone through as often as
    that takes; a state that has done k updates goes on with the loader's batch k. Raises ValueError
    for a loader unlike the one before, Diverged, and OutOfMemory.
    """
    config, generator, model = state.config, state.generator, state.model
    validation.same_schedule(model, process)
    process, loss_of = validation.unchecked(process), validation.unchecked(diffusion_loss)
    options = {"time_distribution": config.time_distribution, "weighting": config.loss_weighting}
    for x0, y in batches(state, loader):
        learning_rate = float(state.scheduler.get_last_lr()[0])
        with one_update(state):
            y = drop_labels(y, config.label_drop, null_class=model.null_class, generator=generator)
            with runtime.autocast(state.device, config.precision):
                loss = loss_of(state.forward, process, x0, y, generator, **options)
            update(state, loss)
        yield Step(state.index - 1, state.losses[-1], learning_rate)


def batches(state: TrainState, loader: Iterable) -> Iterator[tuple[Tensor, Tensor]]:
    """The (x0, y) that are left of the run, on its device; afterwards its memory is given back."""
    check_loader(state, loader)
    state.network.train()
    restore_global_random(state)
    left = max(state.config.num_updates - state.index, 0)
    for k, (x0, y) in enumerate(itertools.islice(endless(loader, state.index), left)):
        if k == 0 or y.device.type == "cpu":  # a GPU would be waited for
            check_labels(y, state.model.null_class)
        x0, y = x0.to(state.device), y.to(state.device)
        if k == 0:
            state.forward = forward_pass(state, x0)
        yield x0, y
    runtime.release_memory(state.device)  # what a step took: other notebooks want it
    check_finite(state)


def forward_pass(state: TrainState, x0: Tensor) -> Callable:
    """What is called in the forward pass: the network, or its CUDA graphs for batches like x0.

    Graphs, where `config.cuda_graphs` asks for them, are its kernels recorded once, forward and
    backward; replaying them is one launch each, not hundreds. A batch of another size goes through
    the network itself, and so do all where nothing can be recorded, which is printed.
    """
    network = state.network
    if not state.config.cuda_graphs:
        return network
    t = torch.zeros(len(x0), dtype=torch.int64, device=x0.device)
    try:
        if x0.device.type != "cuda" or network is not state.model:
            wrong = f"not a {type(network).__name__} on {x0.device}"
            raise RuntimeError(f"they record a network itself, on CUDA, {wrong}")
        with runtime.autocast(state.device, state.config.precision):
            torch.set_autocast_cache_enabled(False)  # casts of the weights belong into the graph
            example = (torch.zeros_like(x0), t, t.clone())
            graphs: Any = torch.cuda.make_graphed_callables(copy.copy(network), example)
    except (RuntimeError, AssertionError) as error:
        safe_print(f"Training without CUDA graphs ({str(error).splitlines()[0]}).")
        return network
    replay = graphs.forward
    graphs.forward = lambda xt, t, y: (replay if xt.shape == x0.shape else network)(xt, t, y)
    return graphs


def update(state: TrainState, loss: Tensor) -> None:
    """One optimiser step down the loss's gradient, the schedule's next step, and the average's."""
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(loss).backward()
    state.scaler.unscale_(state.optimizer)  # clip the true gradient, not the scaled one
    length = nn.utils.clip_grad_norm_(state.model.parameters(), state.config.max_grad_norm)
    state.loss_record[state.index] = loss.detach()
    stop_unless_finite(state, length)
    state.scaler.step(state.optimizer)  # where float16 overflowed the weights stay as they are
    state.scaler.update()
    if state.scheduler.last_epoch + 1 < state.scheduler.total_steps:  # past it the rate rises
        state.scheduler.step()
    state.ema.update(state.model)


@contextmanager
def one_update(state: TrainState) -> Iterator[None]:
    """The block is one update: `state.whole` is False within it, and after one that failed.

    Raises OutOfMemory, which names the batch size to try, where the device is full.
    """
    state.whole = False
    state.before_update()
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in FULL):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what filled the memory
        state.optimizer.zero_grad(set_to_none=True)
        raise OutOfMemory(full_memory_message(state)) from None
    state.index += 1
    state.whole = True


def full_memory_message(state: TrainState) -> str:
    """What to do where a batch does not fit."""
    size, room = state.config.batch_size, ""
    if state.device.type == "cuda":
        torch.cuda.empty_cache()
        free, total = (n / 2**30 for n in torch.cuda.mem_get_info(state.device))
        room = f" (now {free:.1f} of {total:.1f} GiB are free)"
    smaller = 2 ** max((size - 1).bit_length() - 1, 0)  # the power of two below
    return (
        f"the memory of {state.device} does not hold a batch of {size} images{room}; expected one "
        f"that fits. Begin a run in another folder with batch_size={smaller} (--batch-size "
        f"{smaller}), and close other notebooks that use the device."
    )


def stop_unless_finite(state: TrainState, length: Tensor) -> None:
    """Note whether the newest loss and the gradient's length are finite; on the CPU stop at once.

    float16's scaler skips updates whose gradients overflow, so there the loss alone counts.
    """
    finite = state.loss_record[state.index].isfinite()
    state.finite &= finite if state.scaler.is_enabled() else finite & length.isfinite()
    if state.device.type == "cpu" or state.index % LOOK_EVERY == 0:
        check_finite(state)


def check_finite(state: TrainState) -> None:
    """Raise Diverged, with what to lower, unless all losses and gradients so far were finite."""
    if state.finite:
        return
    state.whole = False
    losses, rate = state.loss_record[: state.index + 1].tolist(), state.config.learning_rate
    place = f"a gradient is not finite near update {state.index}"
    if broken := [k for k, loss in enumerate(losses) if not math.isfinite(loss)]:
        place = f"the loss is {losses[broken[0]]} at update {broken[0]}"
    raise Diverged(
        f"{place}; expected finite numbers, and nothing mends a run after this. Begin one in "
        f"another folder with a lower learning_rate ({rate / 10:.0e}, say, for {rate:.0e}), a "
        f'max_grad_norm below {state.config.max_grad_norm:g}, or precision="float32".'
    )


def warn_if_stuck(
    steps: Iterable[Step], state: TrainState, tell: Callable[[str], None] = print
) -> Iterator[Step]:
    """The same steps; one message if the network has hardly learned when its warm-up is over."""
    warm = max(round(state.config.warmup * state.config.num_updates), SETTLED)
    for step in steps:
        if step.index + 1 == warm:
            first, now = state.losses[:5].mean().item(), state.losses[-20:].mean().item()
            if now >= HARDLY * min(first, 1):  # a network that predicts nothing has a loss near 1
                tell(HARDLY_LEARNED.format(updates=warm, now=now, first=first))
        yield step


def check_loader(state: TrainState, loader: Any) -> None:
    """Raise ValueError for a loader without batches, of other ones than at first, or bad labels."""
    if not hasattr(state.model, "null_class"):
        remedy = "Set it to the number of classes, and give its embedding one row more."
        validation.refuse("the network has no null_class", "one for label dropout", remedy)
    if not hasattr(loader, "__len__") or len(loader) < 1:
        found = f"the loader, {validation.format_value(loader)}, has no length, or no batches"
        remedy = "Is the data set empty? Make it with make_loader or ResidentLoader, or as a list."
        validation.refuse(found, "at least one batch of (x0, y)", remedy)
    if isinstance(labels := getattr(loader, "labels", None), Tensor):  # of all its batches
        check_labels(labels, state.model.null_class)
    check_data_order(state, loader)


def check_labels(y: Tensor, null_class: int) -> None:
    """Raise ValueError unless labels are in 0 … null_class - 1: only the loop itself drops them."""
    low, high = (int(end) for end in validation.tensor("y", y).aminmax())
    if not 0 <= low <= high < null_class:
        expected = f"0 … {null_class - 1}, since {null_class} means no class"
        remedy = "Take BinaryCIFAR10(..., relabel=True), or subtract 1 from labels that begin at 1."
        validation.refuse(f"the data's labels go from {low} to {high}", expected, remedy)


def check_data_order(state: TrainState, loader: Any) -> None:
    """Note the loader's order in a new run; raise ValueError where a resumed one got another.

    The order is what gives batch k after a resume the images that it would have had.
    """
    sampler, names = getattr(loader, "sampler", None), ("batch_size", "seed", "flip")
    values = {name: getattr(loader, name, getattr(sampler, name, None)) for name in names}
    order = {name: value for name, value in values.items() if isinstance(value, int)}  # or bool
    order["batches an epoch"] = len(loader)
    if state.index and state.data_order not in ({}, order):
        found = f"the loader is another than at first ({differences(order, state.data_order)})"
        remedy = "Make it as it was, or begin a run in another folder."
        validation.refuse(found, "the same data and settings", remedy)
    state.data_order = order


def differences(now: dict, before: dict) -> str:
    """Each setting in which two dictionaries differ, for a sentence; "" where none does."""
    return "; ".join(
        f"{name} is {reprlib.repr(now.get(name))}, was {reprlib.repr(before.get(name))}"
        for name in before | now
        if now.get(name) != before.get(name)
    )


def endless(loader: Any, start: int = 0) -> Iterator:
    """The loader's batches over and over, beginning with batch number `start` of that sequence.

    Epoch e is asked for by `set_epoch` where the loader or its sampler has one.
    """
    first, skip = divmod(start, len(loader))
    shuffled: Any = loader if hasattr(loader, "set_epoch") else getattr(loader, "sampler", None)
    for epoch in itertools.count(first):
        if hasattr(shuffled, "set_epoch"):
            shuffled.set_epoch(epoch)
        yield from itertools.islice(loader, skip, None)
        skip = 0
