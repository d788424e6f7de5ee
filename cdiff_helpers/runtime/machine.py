"""What there is to choose on a machine: the device, the seeds, the sizes, the folder."""

import getpass
import os
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from cdiff_helpers import validation
from cdiff_helpers.console import safe_print
from cdiff_helpers.defaults import PRESETS, Preset

STEP_BYTES = 4.55 * 2**30 / 512  # of the card's memory, per image of a training step: on an H200
STEP_SHARE = 0.8  # of the memory that a batch may take: the driver and a desktop want some


def course_preset(name: str | None = None, *, device: torch.device | None = None) -> Preset:
    """The sizes for a device, by default the best: "gpu" for CUDA, "mps" for Apple's GPUs, "cpu".

    $CDIFF_PRESET overrides that, and `name` ("reduced", "cpu", "mps" or "gpu") both. A card with
    too little memory for the batch of "gpu" gets smaller batches and more of them, which is
    printed. Raises ValueError for any other name.
    """
    device = device or pick_device()
    name = name or os.environ.get("CDIFF_PRESET")
    if not name:
        name = "gpu" if device.type == "cuda" else device.type
    if not isinstance(name, str) or name not in PRESETS:
        remedy = "Unset CDIFF_PRESET to have it chosen for this machine."
        validation.refuse(f"the preset is {name!r}", f"one of {', '.join(PRESETS)}", remedy)
    fits = device.type != "cuda" or name != "gpu"
    return PRESETS[name] if fits else fit_to_card(PRESETS[name], device)


def fit_to_card(preset: Preset, device: torch.device) -> Preset:
    """The preset with the batch halved, and the training steps doubled, until the card holds it."""
    card = torch.cuda.get_device_properties(device)
    size, steps = preset.batch_size, preset.num_updates
    while size > 32 and size * STEP_BYTES > STEP_SHARE * card.total_memory:
        size, steps = size // 2, steps * 2
    if size < preset.batch_size:
        print_once(
            f"The {preset.name} preset for {card.name}, {card.total_memory / 2**30:.0f} GiB: "
            f"{steps:,} training steps on {size} images each, not "
            f"{preset.num_updates:,} on {preset.batch_size:,}."
        )
    return replace(preset, batch_size=size, num_updates=steps)


@cache
def print_once(sentence: str) -> None:
    """Print a sentence that has not been printed in this process."""
    safe_print(sentence)


def pick_device(name: str = "auto") -> torch.device:
    """The device to compute on: CUDA if there is one, else Apple's MPS, else the CPU.

    `name` forces one, such as "cpu" or "cuda:1"; raises ValueError where it cannot compute. "auto"
    passes over a card that cannot, and prints which, why, and what to choose.
    """
    if name != "auto":
        if error := device_error(name):
            found = f"the device {name!r} cannot be used here ({error})"
            expected = '"auto", "cpu", "cuda", "cuda:0" or "mps"'
            validation.refuse(found, expected, '"auto" takes the best there is.')
        return torch.device(name)
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    for kind in (kind for kind in there if there[kind]):
        if not (error := device_error(kind)):
            return torch.device(kind)
        print_once(unused_card(kind, error))
    return torch.device("cpu")


def device_error(name: str) -> str:
    """Why the device of that name cannot add two numbers, in a line; "" where it can."""
    try:
        one = torch.ones(1, device=torch.device(str(name)), dtype=torch.float32)
        float(one + 1)  # memory alone proves nothing: a card may lack kernels
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return ""


def unused_card(kind: str, error: str) -> str:
    """The sentence on a device that is there and cannot compute: which, why, what to choose."""
    try:
        card = torch.cuda.get_device_name() if kind == "cuda" else "Apple's GPU"
    except (RuntimeError, AssertionError):  # a driver that is broken names no card
        card = "The NVIDIA card"
    remedy = "Choose another GPU (on Kaggle T4 x 2, not P100), or install a torch made for it."
    if "out of memory" in error:
        remedy = "Close the other notebooks and programs that hold it, and restart the kernel."
    reason = f"cannot compute with torch {torch.__version__} ({error})"
    return f"{card} {reason}, so the CPU does. {remedy}"


def release_memory(device: torch.device) -> None:
    """Give back what torch keeps of a GPU's memory for later, so that other processes have it."""
    if device.type != "cpu":
        getattr(torch, device.type).empty_cache()  # torch.cuda's or torch.mps's


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators, on every device.

    For scripts and notebooks. The course's own functions never touch the global generators: they
    take a `generator` or a `seed`. numpy, and torch on the CPU, use a seed's low 32 bits. Raises
    ValueError unless 0 <= seed < 2**63.
    """
    seed = validation.seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # it refuses more
    torch.manual_seed(seed)


def course_home() -> Path:
    """The folder for data and runs: $CDIFF_HOME, else ~/.cdiff. It need not exist yet."""
    return Path(os.environ.get("CDIFF_HOME") or Path.home() / ".cdiff").expanduser()


def runs_folder() -> Path:
    """The folder for runs: $CDIFF_RUNS, else course_home()/runs.

    In a course folder of another user it has a folder for each: nobody goes on with others' runs.
    """
    if chosen := os.environ.get("CDIFF_RUNS"):
        return Path(chosen).expanduser()
    home = course_home()
    own = not hasattr(os, "getuid") or not home.exists() or home.stat().st_uid == os.getuid()
    return home / "runs" if own else home / "runs" / getpass.getuser()


def autocast_dtype(device: torch.device, precision: str = "auto") -> torch.dtype | None:
    """The forward pass's number format: None for float32.

    bfloat16 where the device computes in it, float16 on older CUDA devices.
    """
    if precision == "float32" or device.type == "mps":
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    can: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if can.get("amx_bf16") or can.get("avx512_bf16") else None


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """The block within which the forward pass runs in `autocast_dtype`'s format."""
    dtype = autocast_dtype(device, precision)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)
