"""What there is to choose on a machine: the device, the seeds, the sizes, the folder."""

import os
import random
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import numpy as np
import torch


@dataclass(frozen=True)
class Preset:
    """Every size a notebook uses, for one kind of machine."""

    name: str  # "reduced" (tests), "cpu" (a student's minutes) or "gpu"
    source: str  # where load_cifar10 looks: "auto" or "bundled"
    batch_size: int  # images an update
    num_updates: int  # updates of the training run in 05
    learn_by_heart_updates: int  # updates on one single batch in 05
    ddpm_steps: int  # reverse steps where the text compares with ancestral sampling
    ddim_steps: int  # reverse steps where it compares with DDIM
    sampling_steps: int  # reverse steps everywhere else: the default solver's
    images_per_class: int  # columns of the ten-class grid
    many: int  # images in the grid of one class
    judged: int  # images that the judge scores in 08


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("reduced", "bundled", 16, 6, 8, 8, 4, 4, 1, 4, 20),
        Preset("cpu", "auto", 128, 200, 450, 250, 50, 10, 4, 32, 500),
        Preset("gpu", "auto", 256, 6_000, 450, 1_000, 50, 10, 8, 64, 2_000),
    )
}


def course_preset(name: str | None = None) -> Preset:
    """The sizes for this machine: "gpu" with CUDA or MPS, else "cpu"; $CDIFF_PRESET overrides.

    `name` ("reduced", "cpu" or "gpu") overrides both. Raises ValueError for any other name.
    """
    name = name or os.environ.get("CDIFF_PRESET")
    if not name:
        name = "cpu" if pick_device().type == "cpu" else "gpu"
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(
            f"the preset is {name!r}; expected one of {', '.join(PRESETS)}. "
            "Unset CDIFF_PRESET to have it chosen for this machine."
        )
    return PRESETS[name]


def pick_device(name: str = "auto") -> torch.device:
    """The device to compute on: CUDA if there is one, else Apple's MPS, else the CPU.

    `name` forces one, such as "cpu" or "cuda:1". Raises ValueError for one that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and torch.backends.mps.is_available():
            name = "mps"
    try:
        device = torch.device(str(name))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"the device {name!r} cannot be used here ({str(error).splitlines()[0]}); "
            'expected "auto", "cpu", "cuda", "cuda:0" or "mps". "auto" takes the best there is.'
        ) from error
    return device


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators, on every device.

    For scripts and notebooks. The course's own functions never touch the global generators: they
    take a `generator` or a `seed`. Raises ValueError unless 0 <= seed < 2**32.
    """
    if not isinstance(seed, Integral) or not 0 <= seed < 2**32:
        raise ValueError(f"the seed is {seed!r}; expected a whole number from 0 to {2**32 - 1}.")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def course_home() -> Path:
    """The folder for data and runs: $CDIFF_HOME, else ~/.cdiff. It need not exist yet."""
    return Path(os.environ.get("CDIFF_HOME") or Path.home() / ".cdiff").expanduser()


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
