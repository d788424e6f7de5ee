"""What this machine is, what works on it, what to expect of it, and what to do about the rest."""

import importlib.util
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

from cdiff_helpers.runtime.machine import (
    autocast,
    autocast_dtype,
    course_home,
    course_preset,
    pick_device,
)

PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "ipywidgets", "safetensors")
# Seconds of each notebook at the cpu preset, as in the README, on a machine where `unit_of_work`
# took UNIT seconds: two cores of an AMD EPYC with bfloat16 units
SECONDS = {"01": 20, "02": 10, "03": 10, "04": 10, "05": 180, "06": 60, "07": 30, "08": 240}
UNIT = 0.0076
ENOUGH = 1e9  # bytes for the data set, what is unpacked from it, and a few runs


class Report(dict):
    """A dict that prints one entry a line."""

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:{width}}  {value}" for name, value in self.items())


def environment_report() -> dict[str, str]:
    """What this machine is, what works, what to expect, and what to do: one short text each.

    Takes about half a second, in which it measures how fast the machine computes. It never raises:
    what goes wrong stands in the entry that it concerns.
    """
    entries: dict[str, Callable[[], str]] = {"python": platform.python_version}
    entries |= {name: lambda name=name: installed_version(name) for name in PACKAGES}
    entries |= {"system": system, "processor": processor_name, "where": where_we_are}
    entries |= {"device": device_words, "precision": precision_words}
    entries |= {"preset": lambda: course_preset().name, "course folder": folder_words}
    entries |= {"to expect": expected_minutes, "to do": to_do}
    return Report({name: said_or_why_not(entry) for name, entry in entries.items()})


def said_or_why_not(entry: Callable[[], str]) -> str:
    """What an entry says, or why it cannot."""
    try:
        return entry()
    except Exception as error:  # a report on what is broken must not break
        return f"cannot be told: {' '.join(str(error).split()) or type(error).__name__}"


def installed_version(package: str) -> str:
    """The version of an installed package, or what to do where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing: pip install -r requirements.txt"


def system() -> str:
    """The operating system, the cores and the memory."""
    words = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        words += f", {memory / 2**30:.0f} GiB of memory"
    return words


def where_we_are() -> str:
    """Google Colab, Kaggle, or a machine of one's own."""
    if "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ:
        return "Google Colab"
    return "Kaggle" if "KAGGLE_KERNEL_RUN_TYPE" in os.environ else "local"


def device_words() -> str:
    """What computes, and with how much memory."""
    device = pick_device()
    if device.type != "cuda":
        return device.type
    gpu = torch.cuda.get_device_properties(device)
    count = torch.cuda.device_count()
    more = f", and {count - 1} more (torchrun uses them all)" if count > 1 else ""
    return f"cuda: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB{more}"


def precision_words() -> str:
    """The number format in which the network will be trained here."""
    device = pick_device()
    dtype = autocast_dtype(device)
    if dtype is None:
        return f"float32: this {device.type} has no units for bfloat16"
    return f"{str(dtype).removeprefix('torch.')} in the forward pass"


def folder_words() -> str:
    """Where data and runs lie, how much room there is, and whether the data is there."""
    home = course_home()
    data = "CIFAR-10 is there" if any((home / "data").glob("cifar*")) else "no CIFAR-10 yet"
    return f"{home}, {free_bytes(home) / 1e9:.0f} GB free, {data}"


def free_bytes(folder: Path) -> int:
    """The free bytes of the disk that holds a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def expected_minutes() -> str:
    """About how long the notebooks take here, from a short measurement."""
    if pick_device().type != "cpu":
        return "sizes for a GPU; their minutes were not measured"
    times = unit_of_work() / UNIT
    long = ", ".join(f"{name}: {in_minutes(SECONDS[name] * times)}" for name in ("05", "06", "08"))
    told = f"an estimate: {times:.1f} times the README's minutes"
    return f"{long}, the others less ({told})"


def in_minutes(seconds: float) -> str:
    """A rough length of time."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(seconds, 10):.0f} s"


def unit_of_work() -> float:
    """Seconds of one of the network's convolutions, forward and backward: the best of a few."""
    device = pick_device()
    conv = torch.nn.Conv2d(64, 64, 3, padding=1).to(device)
    x = torch.zeros(64, 64, 16, 16, device=device)
    best, end = float("inf"), time.perf_counter() + 0.3
    while time.perf_counter() < end:
        start = time.perf_counter()
        with autocast(device):
            y = conv(x)
        y.float().mean().backward()
        best = min(best, time.perf_counter() - start)
    return best


def to_do() -> str:
    """What is missing, too old or full, each with its remedy."""
    return " ".join(remedies()) or "nothing: all is there"


def remedies() -> Iterator[str]:
    """The sentences of `to_do`."""
    yield from package_remedies()
    home = course_home()
    if free_bytes(home) < ENOUGH:
        yield f"Make room: {home} has less than {ENOUGH / 1e9:.0f} GB free; or set CDIFF_HOME."
    above = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(above, os.W_OK):
        yield f"{above} cannot be written: set CDIFF_HOME to a folder of yours."
    if not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        yield (
            f"There is an NVIDIA driver, but torch {torch.__version__} sees no card: choose a GPU "
            "in the platform's settings, or install a torch that fits the driver."
        )
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        if not any(f"_{major}" in name for name in torch.cuda.get_arch_list()):
            yield (
                f"{torch.cuda.get_device_name()} (sm_{major}{minor}) is too old for torch "
                f"{torch.__version__}: choose another GPU (on Kaggle T4 x 2, not P100)."
            )


def package_remedies() -> Iterator[str]:
    """What to install: the packages that are missing or older than the course's floors."""
    try:
        floors = requires("cdiff-helpers") or []
    except PackageNotFoundError:  # found beside the notebook: nothing says what it requires
        floors = []
        yield (
            "The course is beside the notebook, not installed, so no version could be checked: "
            "pip install -r requirements.txt in its folder."
        )
    for line in floors:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        wanted = f'pip install "{requirement.name}{requirement.specifier}"'
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield f"{requirement.name} is missing: {wanted}."
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} {found} is too old: {wanted}, then restart the kernel."
    if importlib.util.find_spec("ipykernel") is None:
        yield "ipykernel is missing: pip install jupyterlab."


def processor_name() -> str:
    """The processor's name where the system tells it, else its kind, such as "x86_64"."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def describe_compute(device: torch.device) -> str:
    """What computes: processor, threads, device, and the number format that autocast chooses."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    dtype = str(autocast_dtype(device) or torch.float32).removeprefix("torch.")
    return f"{processor_name()}, {torch.get_num_threads()} threads, {card}, {dtype}"


def provenance(device: torch.device) -> dict:
    """How a run is being made, for its card: the command, the hardware, the versions."""
    versions = {"python": platform.python_version()}
    return {
        "command": "python " + " ".join(sys.argv),
        "hardware": describe_compute(device),
        "versions": versions | {name: installed_version(name) for name in PACKAGES},
    }
