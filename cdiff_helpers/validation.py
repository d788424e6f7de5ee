"""What every room refuses, in one voice: one meaning of whole numbers, seeds, images and labels.

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
SAME_SCHEDULE = 1e-2  # by which log ᾱ may differ: float32's rounding, and no other schedule
IMAGES = ("x0", "xt", "x0_hat", "eps", "noise")  # arguments of these names are batches of images
UNFIT = (TypeError, ValueError, RuntimeError, OverflowError)  # what conversions of misfits raise


def refuse(found: str, expected: str, remedy: str = "") -> NoReturn:
    """Raise ValueError with a sentence: what was found, what was expected, what to do."""
    raise ValueError(f"{found}; expected {expected}. {remedy}".rstrip())


def attempt(convert: Callable, *args: Any) -> Any:
    """The converted value, or None for one that cannot be converted."""
    try:
        return convert(*args)
    except UNFIT:
        return None


def format_value(value: object) -> str:
    """A value for a sentence: a tensor by its type, shape and device, others as they print."""
    if isinstance(value, Tensor) and value.ndim:
        return f"{value.dtype} of shape {tuple(value.shape)} on {value.device}"
    text = repr(value)
    return text if len(text) < 80 and "\n" not in text else f"a {type(value).__name__}"


def limits(low: float, high: float) -> str:
    """A range, for a sentence; "" where there is none."""
    if high < math.inf:
        return f" from {low} to {high}"
    return f" of at least {low}" if low > -math.inf else ""


def whole(name: str, value: Any, low: int = 1, high: float = math.inf, *, hint: str = "") -> int:
    """The whole number as an int: Python's, numpy's or a 0-d tensor; True is none."""
    single = not is_bool(value) and not getattr(value, "ndim", None)
    number = attempt(operator.index, value) if single else None
    if number is None or not low <= number <= high:
        refuse(f"{name} is {format_value(value)}", f"a whole number{limits(low, high)}{hint}")
    return number


def number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, hint: str = ""
) -> float:
    """The finite number in [low, high] as a Python int or float; True is none."""
    try:
        item = value.item() if isinstance(value, np.generic | np.ndarray | Tensor) else value
        fits = not is_bool(item) and math.isfinite(item) and low <= item <= high
    except UNFIT:
        fits = False
    if not fits:
        refuse(f"{name} is {format_value(value)}", f"a finite number{limits(low, high)}{hint}")
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


def whole_numbers(name: str, values: Any, low: int, high: float, *, hint: str = "") -> list[int]:
    """The whole numbers as ints, at least one, each from low to high."""
    items = values.tolist() if isinstance(values, np.ndarray | Tensor) else values
    if not isinstance(items, Sequence) or isinstance(items, str) or not items:
        expected = f"at least one whole number, such as [{low}, {low}]{hint}"
        refuse(f"{name} is {format_value(values)}", expected)
    return [whole(name, item, low, high, hint=hint) for item in items]


def falling(name: str, values: Any, num_steps: int) -> list[int]:
    """The timesteps as a list, if they fall and lie in 0 … num_steps - 1."""
    times = attempt(whole_numbers, name, values, 0, num_steps - 1)
    if not times or sorted(set(times), reverse=True) != times:
        expected = f"falling timesteps from {num_steps - 1} to 0, each once, or their number"
        refuse(f"{name} is {format_value(values)}", expected)
    return times


def interval(pair: Any, num_steps: int) -> list[int]:
    """The lowest and the highest timestep of a pair, [0, T - 1] for None."""
    top = num_steps - 1
    ends = [0, top] if pair is None else attempt(whole_numbers, "", pair, 0, top)
    if not ends or len(ends) != 2 or ends[0] > ends[1]:
        expected = f"(lowest, highest) with timesteps from 0 to {top}, or None for all"
        refuse(f"guidance_interval is {format_value(pair)}", expected)
    return ends


def share(pair: Any, most: int) -> tuple[int, int]:
    """Whole numbers (k, n) with 0 <= k < n <= most."""
    ends = attempt(whole_numbers, "", pair, 0, most)
    if not ends or len(ends) != 2 or ends[0] >= ends[1]:
        refuse(f"share is {format_value(pair)}", f"(k, n) with k below n, and n at most {most}")
    return ends[0], ends[1]


def labels(values: Any, null_class: int | None = None) -> Tensor:
    """The labels of images to be generated as int64 (N,), N at least 1, each at most null_class."""
    high = math.inf if null_class is None else null_class
    hint = "; data.class_indices(['cat']) gives those of names"
    return torch.tensor(whole_numbers("labels", values, 0, high, hint=hint))


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


def tensor(name: str, value: Any, remedy: str = "Try torch.as_tensor(…).") -> Tensor:
    """The value, if it is a tensor."""
    if not isinstance(value, Tensor):
        refuse(f"{name} is {format_value(value)}", "a torch.Tensor", remedy)
    return value


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


def float_images(name: str, x: Any, like: Tensor | None = None) -> Tensor:
    """The batch, if it holds floats, shaped like another one where that is given."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or not x.ndim:
        remedy = "Convert images with cdiff_helpers.data.to_model_range first."
        refuse(f"{name} is {format_value(x)}", "a batch of floats in [-1, 1]", remedy)
    if like is not None and (x.shape, x.device) != (like.shape, like.device):
        refuse(f"{name} is {format_value(x)}", f"the other images' {format_value(like)}")
    return x


def one_per_image(name: str, values: Any, x: Tensor) -> Tensor:
    """The values, if they are one int64 for each image of x, on the same device."""
    typed = isinstance(values, Tensor) and values.dtype == torch.int64
    if not typed or (values.shape, values.device) != (x.shape[:1], x.device):
        expected = f"one int64 per image, shape ({len(x)},) on {x.device}"
        refuse(f"{name} is {format_value(values)}", expected, f"Try torch.full(({len(x)},), 3).")
    return values


def within(name: str, values: Tensor, ends: tuple[int, int | Tensor], expected: str) -> None:
    """Raise ValueError unless the values lie between two ends, where a check may read them.

    It may where there are some, and nothing waits for them: an accelerator's host would, where
    gather() raises instead; torch.compile and torch.export have no values to show.
    """
    if torch.compiler.is_compiling() or values.device.type != "cpu" or not len(values):
        return
    if not ((values >= ends[0]) & (values <= ends[1])).all():
        refuse(f"{name} holds values from {values.min()} to {values.max()}", expected)


def timesteps(given: dict[str, Any], x: Tensor) -> None:
    """Raise ValueError unless t and t_prev, if given, fit the images x and the process."""
    t, num_steps = one_per_image("t", given["t"], x), getattr(given.get("self"), "num_steps", None)
    if num_steps is not None:
        within("t", t, (0, num_steps - 1), f"0 … {num_steps - 1} (counted from 0)")
    if given.get("t_prev") is not None:
        expected = "an earlier timestep for each, or -1 for the clean image"
        within("t_prev", one_per_image("t_prev", given["t_prev"], x), (-1, t - 1), expected)


def fitting(given: dict[str, Any]) -> None:
    """Raise ValueError unless the arguments of these names fit each other (see `checked`)."""
    if {"model", "process"} <= set(given):
        same_schedule(given["model"], given["process"])
    x = None
    for name in (n for n in given if n in IMAGES and (n != "noise" or given[n] is not None)):
        x = float_images(name, given[name], like=x)
    if x is not None and "t" in given:
        timesteps(given, x)
    if "y" in given:
        one_per_image("y", given["y"], tensor("y", given["y"]) if x is None else x)
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


def fitting_network(given: dict[str, Any]) -> None:
    """Raise ValueError unless xt, t and y fit a ConditionalUNet, `self`, and each other."""
    fitting(given)
    network, xt = given["self"], given["xt"]
    divisor = 2 ** len(network.config["channels"])
    sizes = xt.shape[2:] if xt.ndim == 4 and xt.shape[1] == 3 else (0,)
    if any(size % divisor or not size for size in sizes):
        example = f"multiples of {divisor}, such as ({len(xt)}, 3, 32, 32)"
        refuse(f"xt has shape {tuple(xt.shape)}", f"(B, 3, H, W) with H and W {example}")
    if xt.device != network.alpha_bar.device:
        found = f"xt is on {xt.device}, the network on {network.alpha_bar.device}"
        refuse(found, "one device", "Move both: model.to(device), xt.to(device).")
    null = network.null_class
    within("y", given["y"], (0, null), f"0 … {null - 1}, or null_class = {null} for no class")


def checked(
    function: Callable[P, R], check: Callable[[dict[str, Any]], None] = fitting
) -> Callable[P, R]:
    """The function, which refuses what does not fit among the arguments that it names.

    Images (`IMAGES`), timesteps `t` and `t_prev`, labels `y`, a `generator`, a `model` and its
    `process`, which may be `self`. Loops that have checked them already call
    `unchecked(function)`.
    """
    names = list(inspect.signature(function).parameters)

    @wraps(function)
    def guard(*args: P.args, **kwargs: P.kwargs) -> R:
        check(dict(zip(names, args)) | kwargs)
        return function(*args, **kwargs)

    guard.unchecked = function  # type: ignore[attr-defined]
    return guard


def checked_network(forward: Callable[P, R]) -> Callable[P, R]:
    """A ConditionalUNet's forward method, which refuses what does not fit the network."""
    return checked(forward, fitting_network)


def unchecked(thing: Any) -> Any:
    """A function, a process or a network without its guards, for loops that have checked already.

    An object is copied shallowly: it shares its tables and weights.
    """
    if hasattr(thing, "unchecked"):
        return thing.unchecked
    methods: dict[str, Any] = {name: getattr(type(thing), name, None) for name in dir(type(thing))}
    guarded = {name: m.unchecked for name, m in methods.items() if hasattr(m, "unchecked")}
    quick = copy.copy(thing) if guarded else thing
    for name, method in guarded.items():
        quick.__dict__[name] = method.__get__(quick)
    return quick


def network(model: Any) -> Any:
    """The network, if it has parameters to train and is no wrapper for many GPUs."""
    if isinstance(model, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
        remedy = "torchrun shares a batch among several GPUs: notebook 08 has the line."
        refuse(f"model is a {type(model).__name__}", "the network itself, model.module", remedy)
    if isinstance(model, type) or not list(getattr(model, "parameters", list)()):
        expected = "a network that has parameters, such as ConditionalUNet()"
        refuse(f"model is {format_value(model)}", expected)
    return model


def table(name: str, values: Any, num_steps: int, remedy: str = "") -> Tensor:
    """The schedule's table as float64 (T,) on the CPU, each entry inside (0, 1)."""
    entries = attempt(lambda: torch.as_tensor(values, device="cpu").detach().double())
    if entries is None or entries.shape != (num_steps,):
        expected = f"{num_steps} numbers, one per step, as num_steps={num_steps} says"
        refuse(f"{name} is {format_value(values)}", expected)
    if not bool(((entries > 0) & (entries < 1)).all()):
        found = f"{name} lies in [{entries.min():.4g}, {entries.max():.4g}]"
        refuse(found, "each entry inside (0, 1)", remedy)
    return entries


def schedule(process: Any) -> Any:
    """The process, if it has a table `alpha_bar` of `num_steps` entries, whoever defined it."""
    alpha_bar, num_steps = (getattr(process, name, None) for name in ("alpha_bar", "num_steps"))
    if not isinstance(alpha_bar, Tensor) or alpha_bar.shape != (num_steps,):
        expected = (
            "a DiffusionProcess, or an object with its methods, num_steps and tensor alpha_bar"
        )
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
    ratio = (own.detach().cpu().double() / theirs.detach().cpu().double()).log().abs()
    if bool((ratio > SAME_SCHEDULE).any()):
        t = int(ratio.argmax())
        found = f"the network was made for a schedule with ᾱ = {own[t]:.4g} at t = {t}, the process"
        remedy = "ConditionalUNet(alpha_bar=process.alpha_bar) makes a network for this process."
        refuse(f"{found} has {theirs[t]:.4g}", expected, remedy)


def sampling(
    model: Any, process: Any, values: Any, guidance_scale: Any, precision: Any = "auto"
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
        found = f"the model is on {parameter.device}, the process on {device}"
        refuse(found, "one device", "Move both: model.to(device), process.to(device).")
    return y.to(device), None if guidance_scale == 1 else model.null_class


def network_sizes(
    num_classes: Any, num_steps: Any, channels: Any, emb_dim: Any, alpha_bar: Any = None
) -> dict[str, Any]:
    """A ConditionalUNet's arguments as plain numbers and lists; "alpha_bar" only if not None."""
    levels = attempt(lambda: [multiple("channels", width, 4) for width in channels])
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
