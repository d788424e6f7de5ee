"""What every room refuses, in one voice: one meaning of "whole number", one range of seeds, images,
timesteps, labels.

Each function returns the value as the code needs it, such as a Python int for numpy's, or raises
ValueError that names the value, what was expected and the remedy.
"""

import copy
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from cdiff_helpers.defaults import PRECISIONS

P = ParamSpec("P")
R = TypeVar("R")

MAX_SEED = 2**63 - 1  # the largest that torch, DataLoader and numpy's SeedSequence all take
SAME_SCHEDULE = 1e-4  # by which two ᾱ may differ: float32's rounding, and no other schedule
IMAGES = ("x0", "xt", "x0_hat", "eps", "noise")  # arguments of these names are batches of images


def refuse(found: str, expected: str, remedy: str = "") -> NoReturn:
    """Raise ValueError with a sentence: what was found, what was expected, what to do."""
    raise ValueError(f"{found}; expected {expected}. {remedy}".rstrip())


def format_value(value: object) -> str:
    """A value for a sentence: a tensor by its type, shape and device, others as they print."""
    if isinstance(value, Tensor) and value.ndim:
        return f"{value.dtype} of shape {tuple(value.shape)} on {value.device}"
    text = repr(value)
    return text if len(text) < 80 and "\n" not in text else f"a {type(value).__name__}"


def whole(name: str, value: Any, low: int = 1, high: int | None = None, *, hint: str = "") -> int:
    """The whole number as an int: Python's, numpy's or a 0-d tensor; True is none."""
    try:
        number = None if is_bool(value) or getattr(value, "ndim", None) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        limits = f"of at least {low}" if high is None else f"from {low} to {high}"
        refuse(f"{name} is {format_value(value)}", f"a whole number {limits}{hint}")
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
        refuse(f"{name} is {format_value(value)}", f"a finite number{limits}{hint}")
    return item


def is_bool(value: object) -> bool:
    """Whether a value is True or False, numpy's and torch's included."""
    return isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == torch.bool


def multiple(name: str, value: Any, of: int) -> int:
    """The value as an int, a multiple of `of` and at least `of`."""
    if whole(name, value, of) % of:
        refuse(f"{name} is {value!r}", f"a multiple of {of}, such as {8 * of}")
    return int(value)


def widths(**values: Any) -> None:
    """Raise ValueError unless each of the named values is a whole number of at least 1."""
    for name, value in values.items():
        whole(name, value)


def seed(value: Any, count: int = 1) -> int:
    """The seed as an int, from 0 so that seed + count - 1 is at most 2**63 - 1."""
    return whole("seed", value, 0, MAX_SEED + 1 - count)


def flag(name: str, value: Any) -> bool:
    """The value as True or False; numbers and texts are neither."""
    if not is_bool(value):
        refuse(f"{name} is {format_value(value)}", "True or False")
    return bool(value)


def choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """The value, if it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        refuse(f"{name} is {format_value(value)}", f"one of {', '.join(choices)}")
    return value


def tensor(name: str, value: Any, remedy: str = "Try torch.as_tensor(…).") -> Tensor:
    """The value, if it is a tensor."""
    if not isinstance(value, Tensor):
        refuse(f"{name} is {format_value(value)}", "a torch.Tensor", remedy)
    return value


def network(model: Any) -> Any:
    """The network, if it has parameters to train and is no wrapper for many GPUs."""
    if isinstance(model, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
        remedy = "torchrun shares a batch among several GPUs: notebook 08 has the line."
        refuse(f"model is a {type(model).__name__}", "the network itself, model.module", remedy)
    if isinstance(model, type) or not any(True for _ in getattr(model, "parameters", list)()):
        expected = "a network that has parameters, such as ConditionalUNet()"
        refuse(f"model is {format_value(model)}", expected)
    return model


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which refuses what does not fit among the arguments that it names.

    Images (`IMAGES`), timesteps `t` and `t_prev`, labels `y`, a `generator`, a `model` and its
    `process`, which may be `self`. Loops that have checked them already call
    `unchecked(function)`.
    """
    return guarded(function, fitting)


def checked_network(forward: Callable[P, R]) -> Callable[P, R]:
    """A ConditionalUNet's forward method, which refuses what does not fit the network."""
    return guarded(forward, lambda given: network_inputs(**given))


def guarded(function: Callable[P, R], check: Callable[[dict[str, Any]], None]) -> Callable[P, R]:
    """The function behind a check of its arguments, which gets them by name."""
    names = list(inspect.signature(function).parameters)

    @wraps(function)
    def guard(*args: P.args, **kwargs: P.kwargs) -> R:
        check(dict(zip(names, args)) | kwargs)
        return function(*args, **kwargs)

    guard.unchecked = function  # type: ignore[attr-defined]
    return guard


def unchecked(thing: Any) -> Any:
    """A function, a process or a network without its guards, for loops that have checked already.

    An object is copied shallowly: it shares its tables and weights.
    """
    if hasattr(thing, "unchecked"):
        return thing.unchecked
    methods: dict[str, Any] = {name: getattr(type(thing), name, None) for name in dir(type(thing))}
    methods = {name: method for name, method in methods.items() if hasattr(method, "unchecked")}
    quick = copy.copy(thing) if methods else thing
    for name, method in methods.items():
        quick.__dict__[name] = method.unchecked.__get__(quick)
    return quick


def fitting(given: dict[str, Any]) -> None:
    """Raise ValueError unless the arguments of these names fit each other (see `checked`)."""
    if {"model", "process"} <= set(given):
        same_schedule(given["model"], given["process"])
    names = [name for name in given if name in IMAGES]
    names = [name for name in names if name != "noise" or given[name] is not None]
    x = float_images(names[0], given[names[0]]) if names else None
    for name in names[1:]:
        like(name, given[name], given[names[0]])
    if x is not None and "t" in given:
        timesteps(given["t"], x, getattr(given.get("self"), "num_steps", None))
    if given.get("t_prev") is not None:
        earlier(given["t_prev"], given["t"])
    if "y" in given:
        int64_labels(given["y"], tensor("y", given["y"]) if x is None else x)
    if "null_class" in given and given.get("guidance_scale") != 1:
        whole("null_class", given["null_class"], 0, hint=": model.null_class")
    if "p" in given:
        number("p", given["p"], 0, 1, hint=", a probability such as 0.1")
    if "guidance_scale" in given:
        number("guidance_scale", given["guidance_scale"])
    generator = given.get("generator")
    if generator is not None and not isinstance(generator, torch.Generator):
        remedy = "Try torch.Generator().manual_seed(0)."
        refuse(f"generator is {format_value(generator)}", "a torch.Generator", remedy)


def float_images(name: str, x: Any) -> Tensor:
    """The batch, if it holds floats."""
    if not tensor(name, x).is_floating_point() or not x.ndim:
        remedy = "Convert images with cdiff_helpers.data.to_model_range first."
        refuse(f"{name} is {format_value(x)}", "a batch of floats in [-1, 1]", remedy)
    return x


def like(name: str, other: Any, x: Tensor) -> None:
    """Raise ValueError unless the named tensor is of floats and shaped like the images x."""
    same = isinstance(other, Tensor) and other.is_floating_point() and other.shape == x.shape
    if not same or other.device != x.device:
        expected = f"floats like the images', of shape {tuple(x.shape)} on {x.device}"
        refuse(f"{name} is {format_value(other)}", expected)


def timesteps(t: Any, x: Tensor, num_steps: int | None) -> None:
    """Raise ValueError unless t holds one timestep in 0 … num_steps - 1 for each image of x."""
    tensor("t", t)
    if t.dtype != torch.int64 or t.shape != x.shape[:1] or t.device != x.device:
        expected = f"one int64 timestep per image, shape ({len(x)},) on {x.device}"
        refuse(f"t is {format_value(t)}", expected, f"Try torch.full(({len(x)},), 500).")
    if num_steps and readable(t) and not 0 <= int(t.min()) <= int(t.max()) < num_steps:
        remedy = f"Draw it with torch.randint(0, {num_steps}, …)."
        refuse(f"t holds {span(t)}", f"0 … {num_steps - 1} (counted from 0)", remedy)


def earlier(t_prev: Any, t: Tensor) -> None:
    """Raise ValueError unless t_prev holds an earlier timestep, or -1, for each of t."""
    if not isinstance(t_prev, Tensor) or (t_prev.dtype, t_prev.shape) != (t.dtype, t.shape):
        expected = f"int64 timesteps of shape {tuple(t.shape)}, or None for t - 1"
        refuse(f"t_prev is {format_value(t_prev)}", expected)
    if readable(t) and not ((t_prev >= -1) & (t_prev < t)).all():
        expected = "an earlier timestep for each, or -1 for the clean image"
        refuse(f"t_prev is {t_prev.tolist()} for t = {t.tolist()}", expected)


def images_in_unit_range(images: Any) -> Tensor:
    """The images, if they are floats (N, 3, H, W) in [0, 1], N at least 1."""
    if tensor("images", images).ndim != 4 or images.shape[1] != 3 or not images.numel():
        remedy = "For a single image use image[None]."
        refuse(f"images has shape {tuple(images.shape)}", "(N, 3, H, W) with N at least 1", remedy)
    low, high = float(images.min()), float(images.max())
    if not images.is_floating_point() or not 0 <= low <= high <= 1:
        found = f"images has dtype {images.dtype} and lies in [{low:.3g}, {high:.3g}]"
        remedy = "Use to_image_range(x) for the network's [-1, 1], images / 255 for uint8."
        refuse(found, "floats in [0, 1]", remedy)
    return images


def whole_numbers(name: str, values: Any, low: int, high: int) -> list[int]:
    """The whole numbers as ints, at least one, each from low to high."""
    items = values.tolist() if isinstance(values, np.ndarray | Tensor) else values
    if not isinstance(items, Sequence) or isinstance(items, str) or not items:
        expected = f"at least one whole number, such as [{low}, {high}]"
        refuse(f"{name} is {format_value(values)}", expected)
    return [whole(name, item, low, high) for item in items]


def names(name: str, values: Any, count: int) -> list[str]:
    """The names as a list: `count` of them, or none where the value is None."""
    if values is None:
        return []
    if isinstance(values, str) or not hasattr(values, "__len__") or len(values) != count:
        refuse(f"{name} is {format_value(values)}", f"a list of {count} names")
    return list(values)


def frames(values: Any) -> Sequence:
    """The frames of `denoise`: at least one object with t, xt and x0, whoever defined it."""
    parts = ("t", "xt", "x0")
    listed = isinstance(values, Sequence) and len(values) > 0
    if not listed or not all(hasattr(frame, part) for frame in values for part in parts):
        refuse(f"frames is {format_value(values)}", "at least one frame: list(denoise(…))")
    return values


def int64_labels(y: Any, x: Tensor) -> None:
    """Raise ValueError unless y holds one int64 label for each image of x."""
    if tensor("y", y, "Try torch.tensor([3, 5]).").dtype != torch.int64 or y.shape != x.shape[:1]:
        expected = f"one int64 class per image, shape ({len(x)},)"
        refuse(f"y is {format_value(y)}", expected, f"Try torch.full(({len(x)},), 3).")


def label_range(name: str, y: Tensor, null_class: int) -> None:
    """Raise ValueError unless the labels y lie in 0 … null_class."""
    if not 0 <= int(y.min()) <= int(y.max()) <= null_class:
        expected = f"0 … {null_class - 1}, or null_class = {null_class} for no class"
        refuse(f"{name} holds {span(y)}", expected)


def span(x: Tensor) -> str:
    """The lowest and the highest of whole numbers, in words."""
    return f"values from {int(x.min())} to {int(x.max())}"


def labels(values: Any, null_class: int | None = None) -> Tensor:
    """The labels of images to be generated as int64 (N,), N at least 1, each at most null_class."""
    expected = "at least one whole number per image, such as [3, 3, 5]"
    try:
        y = torch.as_tensor(np.asarray(values) if isinstance(values, Sequence) else values)
        whole_numbers = not (y.is_floating_point() or y.is_complex() or y.dtype == torch.bool)
    except (TypeError, ValueError, RuntimeError):
        remedy = "data.class_indices(['cat']) gives those of names."
        refuse(f"labels is {format_value(values)}", expected, remedy)
    if y.ndim != 1 or not len(y) or not whole_numbers:
        refuse(f"labels has shape {tuple(y.shape)} and dtype {y.dtype}", expected)
    if int(y.min()) < 0:
        refuse(f"labels holds {span(y)}", "whole numbers of at least 0")
    if null_class is not None:
        label_range("labels", y, null_class)
    return y.long()


def readable(x: Tensor) -> bool:
    """Whether a check may read the values of x: there are some, and nothing waits for them.

    An accelerator's host would, where gather() raises instead; torch.compile and torch.export
    have no values to show.
    """
    return not torch.compiler.is_compiling() and x.device.type == "cpu" and x.numel() > 0


def table(name: str, values: Any, num_steps: int, remedy: str = "") -> Tensor:
    """The schedule's table as float64 (T,) on the CPU, each entry inside (0, 1)."""
    try:
        entries = torch.as_tensor(values, device="cpu").detach().double()
    except (TypeError, ValueError, RuntimeError):
        refuse(f"{name} is {format_value(values)}", f"{num_steps} numbers in (0, 1)")
    if entries.shape != (num_steps,):
        expected = f"({num_steps},), one entry per step, as num_steps={num_steps} says"
        refuse(f"{name} has shape {tuple(entries.shape)}", expected)
    if not bool(((entries > 0) & (entries < 1)).all()):
        found = f"{name} lies in [{entries.min():.4g}, {entries.max():.4g}]"
        refuse(found, "each entry inside (0, 1)", remedy)
    return entries


def schedule(process: Any) -> Any:
    """The process, if it has a table `alpha_bar` of `num_steps` entries, whoever defined it."""
    alpha_bar, num_steps = (getattr(process, name, None) for name in ("alpha_bar", "num_steps"))
    if not isinstance(alpha_bar, Tensor) or alpha_bar.shape != (num_steps,):
        expected = "a DiffusionProcess, or an object with its methods, num_steps and alpha_bar (T,)"
        refuse(f"process is {format_value(process)}", expected)
    return process


def same_schedule(model: Any, process: Any) -> None:
    """Raise ValueError where a network was made for another schedule than the process has."""
    theirs = schedule(process).alpha_bar
    if not callable(model):
        refuse(f"model is {format_value(model)}", "a network, f(xt, t, y) -> eps")
    num_steps, own = getattr(model, "num_steps", len(theirs)), getattr(model, "alpha_bar", theirs)
    expected = "the same, since the same t would mean different noise"
    if num_steps != len(theirs):
        found = f"the network was made for num_steps={num_steps}, the process has {len(theirs)}"
        refuse(found, expected, f"Use DiffusionProcess(num_steps={num_steps}).")
    if own is theirs or getattr(own, "shape", None) != theirs.shape:
        return
    apart = (own.detach().cpu() - theirs.detach().cpu()).abs()
    if bool((apart > SAME_SCHEDULE).any()):
        t = int(apart.argmax())
        found = f"the network was made for a schedule with ᾱ = {own[t]:.4f} at t = {t}, the process"
        remedy = "ConditionalUNet(alpha_bar=process.alpha_bar) makes a network for this process."
        refuse(f"{found} has {theirs[t]:.4f}", expected, remedy)


def sampling(
    model: Any, process: Any, values: Any, *, guidance_scale: Any, precision: Any
) -> tuple[Tensor, Any]:
    """The labels as int64 (N,) on the process's device, and the null class, if one is needed."""
    same_schedule(model, process)
    y = labels(values, getattr(model, "null_class", None))
    choice("precision", precision, PRECISIONS)
    hint = "; 1 is the plain conditional model, 1.5 to 4 follow the class more strictly"
    number("guidance_scale", guidance_scale, hint=hint)
    if guidance_scale != 1 and not hasattr(model, "null_class"):
        expected = "1, since the model has no null_class for the unconditional prediction"
        remedy = "Set model.null_class, or use guidance_scale=1."
        refuse(f"guidance_scale is {guidance_scale}", expected, remedy)
    device = process.alpha_bar.device
    parameter = next(iter(getattr(model, "parameters", tuple)()), None)
    if parameter is not None and parameter.device != device:
        remedy = "Move both: model.to(device), process.to(device)."
        found = f"the model is on {parameter.device}, the process on {device}"
        refuse(found, "one device", remedy)
    return y.to(device), None if guidance_scale == 1 else model.null_class


def interval(pair: Any, num_steps: int) -> tuple[int, int]:
    """The lowest and the highest timestep of a pair, (0, T - 1) for None."""
    try:
        low, high = (0, num_steps - 1) if pair is None else pair
        high = whole("the highest", high, 0, num_steps - 1)
        return whole("the lowest", low, 0, high), high
    except (TypeError, ValueError):
        expected = f"(lowest, highest) with timesteps from 0 to {num_steps - 1}, or None for all"
        refuse(f"guidance_interval is {format_value(pair)}", expected)


def falling(name: str, values: Any, num_steps: int) -> list[int]:
    """The timesteps as a list, if they fall and lie in 0 … num_steps - 1."""
    try:
        times = [whole(name, t, 0, num_steps - 1) for t in values]
    except ValueError:
        times = []
    if not times or sorted(set(times), reverse=True) != times:
        expected = f"falling timesteps from {num_steps - 1} to 0, each once, or their number"
        refuse(f"{name} is {format_value(values)}", expected)
    return times


def network_sizes(
    num_classes: Any, num_steps: Any, channels: Any, emb_dim: Any, alpha_bar: Any = None
) -> dict[str, Any]:
    """A ConditionalUNet's arguments as plain numbers and lists; "alpha_bar" only if not None."""
    try:
        levels = [multiple("channels", c, 4) for c in channels]
    except (TypeError, ValueError):
        levels = []
    if not levels:
        expected = "one width per level, each a multiple of 4, such as (64, 96, 128)"
        refuse(f"channels is {format_value(channels)}", expected)
    num_steps = whole("num_steps", num_steps, hint=", such as DDPM's 1000")
    num_classes = whole("num_classes", num_classes, hint=", such as 10")
    sizes: dict[str, Any] = {"num_classes": num_classes, "num_steps": num_steps}
    sizes |= {"channels": levels, "emb_dim": multiple("emb_dim", emb_dim, 2)}
    if alpha_bar is None:
        return sizes
    entries = table("alpha_bar", alpha_bar, num_steps)
    if (entries.diff() >= 0).any():
        refuse("alpha_bar rises", "a table that falls, such as process.alpha_bar")
    return sizes | {"alpha_bar": entries.tolist()}


def network_inputs(self: Any, xt: Any, t: Any, y: Any) -> None:
    """Raise ValueError unless xt, t and y fit a ConditionalUNet and each other."""
    timesteps(t, float_images("xt", xt), self.num_steps)
    divisor = 2 ** len(self.config["channels"])
    sizes = xt.shape[2:] if xt.ndim == 4 and xt.shape[1] == 3 else (0,)
    if any(size % divisor or not size for size in sizes):
        expected = (
            f"(B, 3, H, W) with H and W multiples of {divisor}, such as ({len(xt)}, 3, 32, 32)"
        )
        refuse(f"xt has shape {tuple(xt.shape)}", expected)
    if xt.device != self.alpha_bar.device:
        remedy = "Move both: model.to(device), xt.to(device)."
        refuse(
            f"xt is on {xt.device}, the network on {self.alpha_bar.device}", "one device", remedy
        )
    int64_labels(y, xt)
    if readable(y):
        label_range("y", y, self.null_class)
