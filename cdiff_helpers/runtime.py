"""What the course runs on: the device, the seeds, the sizes, the folder, and a report on them all.

Home: notebook 01.
"""

import errno
import hashlib
import os
import platform
import random
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

SUMS = "SHA256SUMS"  # `sha256sum -c SHA256SUMS` reads it, too
PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "ipywidgets", "safetensors")


@dataclass(frozen=True)
class Preset:
    """Every size a notebook uses, for one kind of machine."""

    name: str  # "reduced" (tests), "cpu" (a student's minutes) or "gpu"
    source: str  # where load_cifar10 looks: "auto" or "bundled"
    batch_size: int  # images an update
    num_updates: int  # updates of the training run in 05
    learn_by_heart_updates: int  # updates on one single batch in 05
    ddpm_steps: int  # reverse steps where the text compares with ancestral sampling
    ddim_steps: int  # reverse steps everywhere else
    images_per_class: int  # columns of the ten-class grid
    many: int  # images in the grid of one class
    judged: int  # images that the judge scores in 08


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("reduced", "bundled", 16, 6, 8, 8, 4, 1, 4, 20),
        Preset("cpu", "auto", 128, 200, 450, 250, 30, 4, 32, 500),
        Preset("gpu", "auto", 256, 6_000, 450, 1_000, 50, 8, 64, 2_000),
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


def environment_report() -> dict[str, str]:
    """What this machine brings: versions, processor, accelerator, preset and course folder."""
    device = pick_device()
    report = {"python": platform.python_version()}
    report |= {package: installed_version(package) for package in PACKAGES}
    report["system"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    report["where"] = "Google Colab" if "google.colab" in sys.modules else "local"
    report["device"] = device.type
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        report["device"] = f"cuda: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB"
    report["preset"] = course_preset().name
    report["course folder"] = str(course_home())
    return report


def installed_version(package: str) -> str:
    """The version of an installed package, or what to do where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing: pip install -r requirements.txt"


def processor_name() -> str:
    """The processor's name where the system tells it, else its kind, such as "x86_64"."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def provenance(device: torch.device) -> dict:
    """How a run is being made, for its card: the command, the hardware, the versions."""
    versions = {"python": platform.python_version()}
    return {
        "command": "python " + " ".join(sys.argv),
        "hardware": f"{processor_name()}, {torch.get_num_threads()} threads, {device.type}",
        "versions": versions | {name: installed_version(name) for name in PACKAGES},
    }


def digest_line(name: str, content: bytes) -> bytes:
    """A file's line in SHA256SUMS, as sha256sum writes it."""
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


def whole_bytes(path: Path) -> bytes:
    """A bundled file's content, if its digest is the one listed in SHA256SUMS beside it.

    Raises RuntimeError, which names the file, for any other.
    """
    remedy = "expected the file that came with the package: install the package again"
    try:
        content, listed = path.read_bytes(), (path.parent / SUMS).read_bytes()
    except OSError as error:
        raise RuntimeError(f"{path} is damaged ({error}); {remedy}") from error
    if digest_line(path.name, content) not in listed.splitlines(keepends=True):
        raise RuntimeError(f"{path} is damaged (its sha256 is another one); {remedy}")
    return content


def write_digests(folder: Path) -> None:
    """Write SHA256SUMS for the files of a bundled folder."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    lines = [digest_line(path.name, path.read_bytes()) for path in files]
    write_whole(folder / SUMS, b"".join(lines))


def write_synced(path: Path, content: bytes) -> None:
    """Write content to path, and return only when it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, content: bytes) -> None:
    """Put content at path at once: written beside it, flushed to disk, then renamed."""
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        write_synced(beside, content)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk, where the system can (Windows opens no folders)."""
    if os.name != "posix":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:  # some network drives, Colab's among them, know files alone
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(number)
