"""What this machine is, what works on it, what to expect of it, and what to do about the rest."""

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import islice, pairwise
from pathlib import Path

import torch
from packaging.requirements import Requirement

from cdiff_helpers.console import printable
from cdiff_helpers.runtime import machine
from cdiff_helpers.runtime.machine import course_home, course_preset, device_error, pick_device

PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "ipywidgets", "safetensors")
# Seconds at the cpu preset, as in the README, on two cores that train on RATE images per second
SECONDS = {"05": 180, "06": 60, "08": 240}
RATE = 140
TIMED_BATCH = 16  # images, so that the report is quick on a processor
ENOUGH = 1e9  # bytes for the data set, its download, and a few runs


class Report(dict):
    """A dict that prints one entry per line."""

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return printable("\n".join(f"{name:{width}}  {value}" for name, value in self.items()))


def environment_report() -> dict[str, str]:
    """What this machine is, what works, what to expect, and what to do: one short text each.

    It times a training step, and never raises: what goes wrong stands in its entry.
    """
    report = Report(python=platform.python_version())
    entries: dict[str, Callable[[], str]] = {p: partial(installed_version, p) for p in PACKAGES}
    entries |= {"system": describe_system, "processor": processor_name, "where": platform_name}
    entries |= {"device": describe_device, "precision": describe_precision}
    entries |= {"preset": lambda: course_preset().name, "course folder": describe_folder}
    entries |= {"to expect": expected_minutes}
    entries |= {"to do": lambda: " ".join(remedies()) or "nothing: all is there"}
    for name, entry in entries.items():
        try:
            report[name] = entry()
        except Exception as error:  # a report on what is broken must not break
            report[name] = f"cannot be told: {' '.join(str(error).split()) or type(error).__name__}"
    return report


def installed_version(package: str) -> str:
    """The version of an installed package, or what to do where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing: pip install -r requirements.txt"


def describe_system() -> str:
    """The operating system, the cores and the memory."""
    text = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        text += f", {memory / 2**30:.0f} GiB of memory"
    return text


def platform_name() -> str:
    """Google Colab, Kaggle, or a machine of one's own."""
    if "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ:
        return "Google Colab"
    return "Kaggle" if "KAGGLE_KERNEL_RUN_TYPE" in os.environ else "local"


def describe_device() -> str:
    """What computes, and with how much memory."""
    device = pick_device()
    if device.type != "cuda":
        return device.type
    gpu, others = torch.cuda.get_device_properties(device), torch.cuda.device_count() - 1
    more = f", and {others} more (torchrun uses them all)" if others else ""
    return f"cuda: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB{more}"


def describe_precision() -> str:
    """The number format in which the network will be trained here."""
    dtype = machine.autocast_dtype(pick_device()) or torch.float32
    return f"{str(dtype).removeprefix('torch.')} in the forward pass"


def describe_folder() -> str:
    """Where data and runs lie, how much room there is, and whether the data is there."""
    home = course_home()
    free = shutil.disk_usage(existing(home)).free
    data = "CIFAR-10 is there" if any((home / "data").glob("cifar*")) else "no CIFAR-10 yet"
    return f"{home}, {free / 1e9:.0f} GB free, {data}"


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(above for above in (folder, *folder.absolute().parents) if above.exists())


def expected_minutes() -> str:
    """About how long the notebooks take here, from one measured training step."""
    preset, device = course_preset(), pick_device()
    timed = TIMED_BATCH if device.type == "cpu" else preset.batch_size
    seconds = seconds_per_step(device, timed) * preset.batch_size / timed
    machine.release_memory(device)
    if preset.name == "cpu":
        ratio = RATE * seconds / preset.batch_size
        long = ", ".join(f"{name}: {in_minutes(s * ratio)}" for name, s in SECONDS.items())
        return f"{long}, the others less (an estimate: {ratio:.1f} times the README's minutes)"
    whole, half = (in_minutes(preset.num_updates // n * seconds) for n in (1, 2))
    return (
        f"training takes {whole} in 05 and {half} in 08, the rest a few minutes (an estimate: "
        f"{preset.num_updates:,} steps on {preset.batch_size:,} images, {1e3 * seconds:.0f} ms "
        "each)"
    )


def in_minutes(seconds: float) -> str:
    """A rough length of time."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(seconds, 10):.0f} s"


def seconds_per_step(device: torch.device, batch_size: int) -> float:
    """Seconds of a training step of the course's network on so many images: the best of a few."""
    from cdiff_helpers.diffusion import DiffusionProcess  # all that is above us is timed here
    from cdiff_helpers.training import TrainConfig, TrainState, train
    from cdiff_helpers.unet import ConditionalUNet

    with torch.random.fork_rng(devices=[]):  # the network's first weights are nobody's business
        model = ConditionalUNet().to(device)
    state = TrainState(model, TrainConfig(num_updates=100, batch_size=batch_size))
    x0 = torch.zeros(batch_size, 3, 32, 32, device=device)
    y = torch.zeros(batch_size, dtype=torch.int64, device=device)
    ends = []
    for step in islice(train(state, DiffusionProcess().to(device), [(x0, y)]), 5):
        float(step.loss)  # reading the loss waits for the device
        ends.append(time.perf_counter())  # of the first step, too: it prepares the kernels
    return min(end - start for start, end in pairwise(ends))


def remedies() -> Iterator[str]:
    """What is missing, too old or full, each with its remedy."""
    yield from package_remedies()
    home = course_home()
    if shutil.disk_usage(existing(home)).free < ENOUGH:
        yield f"Make room: {home} has less than {ENOUGH / 1e9:.0f} GB free; or set CDIFF_HOME."
    if not os.access(existing(home), os.W_OK):
        yield f"{existing(home)} cannot be written: set CDIFF_HOME to a folder of yours."
    if torch.cuda.is_available():
        if error := device_error("cuda"):
            yield machine.unused_card("cuda", error)
    elif shutil.which("nvidia-smi"):
        why = "sees no card: choose a GPU in the platform's settings, or install one that fits it."
        if torch.version.cuda is None:  # what pip brings on Windows
            why = "is built for the CPU: install it anew, by the command that pytorch.org shows."
        yield f"There is an NVIDIA driver, but torch {torch.__version__} {why}"


def package_remedies() -> Iterator[str]:
    """What to install: the packages that are missing or older than the course's floors."""
    if installed_version("cdiff-helpers").startswith("missing"):
        return  # it lies beside the notebook, and nothing says what it requires
    for floor in map(Requirement, requires("cdiff-helpers") or []):
        own = installed_version(floor.name)
        command = f'pip install "{floor.name}{floor.specifier}"'
        if floor.marker is not None and not floor.marker.evaluate({"extra": ""}):
            continue
        if own.startswith("missing"):
            yield f"{floor.name} is missing: {command}."
        elif not floor.specifier.contains(own, prereleases=True):
            yield f"{floor.name} {own} is too old: {command}, then restart the kernel."


def processor_name() -> str:
    """The processor's name where the system tells it, else its kind, such as "x86_64"."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
