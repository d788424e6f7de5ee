"""What every room refuses, in one voice: one meaning of "whole number", one range of seeds, images,
timesteps, labels.

Each function returns the value as the code needs it, such as a Python int for numpy's, or raises
ValueError that names the value, what was expected and the remedy.
"""

import inspect
import math
import operator
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

P, R = ParamSpec("P"), TypeVar("R")

MAX_SEED = 2**63 - 1  # the largest that torch, DataLoader and numpy's SeedSequence all take
SAME_SCHEDULE = 1e-4  # by which two ᾱ may differ: float32's rounding, and no other schedule
IMAGES = ("x0", "xt", "x0_hat", "eps", "noise")  # arguments of these names are batches of images


def format_value(value: object) -> str:
    """A value for a sentence: a tensor by its type, shape and device, others as they print."""
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)} on {value.device}"
    text = repr(value)
    return text if len(text) < 80 and "\n" not in text else f"a {type(value).__name__}"


def whole(name: str, value: Any, low: int = 1, high: int | None = None, *, hint: str = "") -> int:
    """The whole number as an int: Python's, numpy's or a 0-d tensor; True is none."""
    try:
        number = None if is_bool(value) or getattr(value, "ndim", 0) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        limits = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} is {value!r}; expected a whole number {limits}{hint}.")
    return number


def number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, hint: str = ""
) -> float:
    """The finite number in [low, high] as a Python int or float; True is none."""
    try:
        item = value.item() if isinstance(value, np.generic | np.ndarray | Tensor) else value
        fits = not is_bool(item) and math.isfinite(item) and low <= item <= high
    except (TypeError, ValueError, RuntimeError, OverflowError):
        fits = False
    if not fits:
        limits = "" if low == -math.inf else f" of at least {low:g}"
        limits = limits if high == math.inf else f" from {low:g} to {high:g}"
        raise ValueError(f"{name} is {value!r}; expected a finite number{limits}{hint}.")
    return item


def is_bool(value: object) -> bool:
    """Whether a value is True or False, numpy's and torch's included."""
    return isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == torch.bool


def seed(value: Any, count: int = 1) -> int:
    """The seed as an int, from 0 so that seed + count - 1 is at most 2**63 - 1."""
    return whole("seed", value, 0, MAX_SEED + 1 - count)


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """The value, if it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {format_value(value)}; expected one of {', '.join(choices)}.")
    return value


def tensor(name: str, value: Any, hint: str = "Try torch.as_tensor(…).") -> Tensor:
    """The value, if it is a tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is {format_value(value)}; expected a torch.Tensor. {hint}")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False, numpy's included, as a bool."""
    if not is_bool(value):
        raise ValueError(f"{name} is {value!r}; expected True or False.")
    return bool(value)


def network(model: Any) -> Any:
    """The network, if it has parameters to train and is no wrapper for many GPUs."""
    if isinstance(model, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
        raise ValueError(
            f"model is a {type(model).__name__}; expected the network itself, model.module. "
            "torchrun shares a batch among several GPUs: notebook 08 has the line."
        )
    if isinstance(model, type) or not any(True for _ in getattr(model, "parameters", list)()):
        raise ValueError(
            f"model is {format_value(model)}; expected a network that has parameters, such as "
            "ConditionalUNet()."
        )
    return model


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which refuses what does not fit among the arguments that it names.

    Images (`IMAGES`), timesteps `t` and `t_prev`, labels `y`, a `model` and its `process`, which
    may be `self`. Loops that have checked their own arguments call `unchecked(function)`.
    """
    names = list(inspect.signature(function).parameters)

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        fitting(dict(zip(names, args)) | kwargs)
        return function(*args, **kwargs)

    return guarded


def unchecked(function: Callable[P, R]) -> Callable[P, R]:
    """What `checked` guards, without the guard; any other function or method as it is."""
    inner = getattr(function, "__wrapped__", function)
    owner = getattr(function, "__self__", None)  # of a bound method
    return inner if inner is function or owner is None else inner.__get__(owner)


def fitting(given: dict[str, Any]) -> None:
    """Raise ValueError unless the arguments of these names fit each other (see `checked`)."""
    if "model" in given:
        same_schedule(given["model"], given["process"])
    images = [name for name in given if name in IMAGES and given[name] is not None]
    if images:
        x = float_images(images[0], given[images[0]])
        for name in images[1:]:
            like(x, **{name: given[name]})
    if images and "t" in given:
        num_steps = getattr(given.get("process", given.get("self")), "num_steps", None)
        timesteps(given["t"], x, num_steps)
    if given.get("t_prev") is not None:
        earlier(given["t_prev"], given["t"])
    if images and "y" in given:
        labels_of(x, given["y"])


def float_images(name: str, x: Any) -> Tensor:
    """The batch, if it holds floats."""
    if not tensor(name, x).is_floating_point() or not x.ndim:
        raise ValueError(
            f"{name} is {format_value(x)}; expected a batch of floats in [-1, 1]. "
            "Convert images with cdiff_helpers.data.to_model_range first."
        )
    return x


def like(x: Tensor, **others: Any) -> None:
    """Raise ValueError unless the named tensors are floats shaped like x."""
    for name, other in others.items():
        same = isinstance(other, Tensor) and other.is_floating_point()
        if not same or other.shape != x.shape or other.device != x.device:
            raise ValueError(
                f"{name} is {format_value(other)}; expected floats like the images', of shape "
                f"{tuple(x.shape)} on {x.device}."
            )


def timesteps(t: Any, x: Tensor, num_steps: int | None) -> None:
    """Raise ValueError unless t holds one timestep in 0 … num_steps - 1 for each image of x."""
    tensor("t", t)
    if t.dtype != torch.int64 or t.shape != x.shape[:1] or t.device != x.device:
        raise ValueError(
            f"t is {format_value(t)}; expected one int64 timestep per image, shape ({len(x)},) on "
            f"{x.device}. Try torch.full(({len(x)},), 500)."
        )
    if num_steps and readable(t) and not 0 <= int(t.min()) <= int(t.max()) < num_steps:
        raise ValueError(
            f"t holds values from {int(t.min())} to {int(t.max())}; expected 0 … {num_steps - 1} "
            f"(counted from 0). Draw it with torch.randint(0, {num_steps}, …)."
        )


def earlier(t_prev: Any, t: Tensor) -> None:
    """Raise ValueError unless t_prev holds an earlier timestep, or -1, for each of t."""
    if not isinstance(t_prev, Tensor) or (t_prev.dtype, t_prev.shape) != (t.dtype, t.shape):
        raise ValueError(
            f"t_prev is {format_value(t_prev)}; expected int64 timesteps of shape "
            f"{tuple(t.shape)}, or None for t - 1."
        )
    if readable(t) and not ((t_prev >= -1) & (t_prev < t)).all():
        raise ValueError(
            f"t_prev is {t_prev.tolist()} for t = {t.tolist()}; expected an earlier timestep for "
            "each, or -1 for the clean image."
        )


def labels_of(x: Tensor, y: Any, null_class: int | None = None) -> None:
    """Raise ValueError unless y holds one int64 label per image of x, at most `null_class`."""
    if tensor("y", y, "Try torch.tensor([3, 5]).").dtype != torch.int64 or y.shape != x.shape[:1]:
        raise ValueError(
            f"y has shape {tuple(y.shape)} and dtype {y.dtype}; expected one int64 class per "
            f"image, shape ({len(x)},). Try torch.full(({len(x)},), 3)."
        )
    if null_class is not None and readable(y):
        label_range("y", y, null_class)


def label_range(name: str, y: Tensor, null_class: int) -> None:
    """Raise ValueError unless the labels y lie in 0 … null_class."""
    if not 0 <= int(y.min()) <= int(y.max()) <= null_class:
        raise ValueError(
            f"{name} holds values from {int(y.min())} to {int(y.max())}; expected 0 … "
            f"{null_class - 1}, or null_class = {null_class} for no class."
        )


def labels(values: Any, null_class: int | None = None) -> Tensor:
    """The labels of images to be generated as int64 (N,), N at least 1, each at most null_class."""
    try:
        y = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"labels is {format_value(values)}; expected whole numbers, such as [3, 3, 5]. "
            "data.class_indices(['cat']) gives those of names."
        ) from None
    kinds = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    if y.ndim != 1 or not len(y) or y.dtype not in kinds:
        raise ValueError(
            f"labels has shape {tuple(y.shape)} and dtype {y.dtype}; expected at least one whole "
            "number per image, such as [3, 3, 5]."
        )
    if int(y.min()) < 0:
        raise ValueError(f"labels holds {int(y.min())}; expected whole numbers of at least 0.")
    if null_class is not None:
        label_range("labels", y, null_class)
    return y.long()


def readable(x: Tensor) -> bool:
    """Whether a check may read the values of x: there are some, and nothing waits for them.

    An accelerator's host would, where gather() raises instead; torch.compile and torch.export
    have no values to show.
    """
    return not torch.compiler.is_compiling() and x.device.type == "cpu" and x.numel() > 0


def betas(values: Any, num_steps: int, highest: float) -> Tensor:
    """The betas as float64 (T,) on the CPU, each inside (0, 1); `highest` is for the remedy."""
    try:
        values = values.cpu() if isinstance(values, Tensor) else values
        table = torch.as_tensor(values, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"betas is {values!r}; expected {num_steps} numbers in (0, 1).") from None
    if table.shape != (num_steps,):
        raise ValueError(
            f"betas has shape {tuple(table.shape)}; expected ({num_steps},) for num_steps="
            f"{num_steps}. Give one beta per step or change num_steps."
        )
    if not bool(((table > 0) & (table < 1)).all()):
        raise ValueError(
            f"betas lie in [{table.min():.4g}, {table.max():.4g}]; expected each inside (0, 1). "
            f"Clamp them, as the cosine schedule does: betas.clamp(1e-5, {highest})."
        )
    return table


def schedule(process: Any) -> Any:
    """The process, if it has a table `alpha_bar` of `num_steps` entries, whoever defined it."""
    table, num_steps = (getattr(process, name, None) for name in ("alpha_bar", "num_steps"))
    if not isinstance(table, Tensor) or table.ndim != 1 or len(table) != num_steps:
        raise ValueError(
            f"process is {format_value(process)}; expected a DiffusionProcess, or an object with "
            "its methods, num_steps and a table alpha_bar of that many entries."
        )
    return process


def same_schedule(model: Any, process: Any) -> None:
    """Raise ValueError where a network was made for another schedule than the process has."""
    schedule(process)
    if not callable(model):
        raise ValueError(f"model is {format_value(model)}; expected a network, f(xt, t, y) -> eps.")
    num_steps = getattr(model, "num_steps", process.num_steps)
    if num_steps != process.num_steps:
        raise ValueError(
            f"the network was made for num_steps={num_steps}, the process has "
            f"{process.num_steps}; expected the same, since the same t would mean different noise. "
            f"Use DiffusionProcess(num_steps={num_steps})."
        )
    if not isinstance(own := getattr(model, "alpha_bar", None), Tensor):
        return
    own, theirs = own.detach().cpu().double(), process.alpha_bar.detach().cpu().double()
    if own.shape == theirs.shape and not bool(((own - theirs).abs() < SAME_SCHEDULE).all()):
        t = int((own - theirs).abs().argmax())
        raise ValueError(
            f"the network was made for a schedule with ᾱ = {own[t]:.4f} at t = {t}, the process "
            f"has {theirs[t]:.4f}; expected the same schedule, since the same t would mean "
            "different noise. ConditionalUNet(alpha_bar=process.alpha_bar) makes a network for "
            "this process."
        )
