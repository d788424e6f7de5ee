"""What is noted beside each bundled file: how it was made, and its digest."""

import platform
import sys
from pathlib import Path

import torch

from cdiff_helpers.runtime import (
    autocast_dtype,
    installed_version,
    processor_name,
    write_atomically,
)
from cdiff_helpers.runtime.files import SUMS, digest_line
from cdiff_helpers.runtime.report import PACKAGES


def describe_compute(device: torch.device) -> str:
    """What computes: processor, threads, device, and the number format that autocast chooses."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    dtype = str(autocast_dtype(device) or torch.float32).removeprefix("torch.")
    return f"{processor_name()}, {torch.get_num_threads()} threads, {card}, {dtype}"


def provenance(device: torch.device) -> dict:
    """How a run is being made, for its card: the command, the hardware, the versions."""
    versions = {"python": platform.python_version()}
    return {
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "hardware": describe_compute(device),
        "versions": versions | {name: installed_version(name) for name in PACKAGES},
    }


def write_digests(folder: Path) -> None:
    """Write SHA256SUMS for the files of a bundled folder."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    lines = [digest_line(path.name, path.read_bytes()) for path in files]
    write_atomically(folder / SUMS, b"".join(lines))
