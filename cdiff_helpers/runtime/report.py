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

from cdiff_helpers.console import printable
from cdiff_helpers.runtime.machine import (
    autocast_dtype,
    course_home,
    course_preset,
    device_error,
    pick_device,
    release_memory,
    unused_card,
)

PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "ipywidgets", "safetensors")
# Seconds of each notebook at the cpu preset, as in the README, on two cores with bfloat16 units.
# RATE is such a machine's, in images per second, at TIMED_BATCH: where it was 103, 05 took 248 s.
SECONDS = {"01": 20, "02": 10, "03": 10, "04": 10, "05": 180, "06": 60, "07": 30, "08": 240}
RATE = 140
TIMED_BATCH = 16  # images, so that the report is quick on a processor
ENOUGH = 1e9  # bytes for the data set, what is unpacked from it, and a few runs


class Report(dict):
    """A dict that prints one entry a line."""

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return printable("\n".join(f"{name:{width}}  {value}" for name, value in self.items()))


def environment_report() -> dict[str, str]:
    """What this machine is, what works, what to expect, and what to do: one short text each.

    Takes a second or two, in which it times a training step. It never raises: what goes wrong
    stands in the entry that it concerns.
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
        no_units = "this processor has no units for bfloat16"
        return (
            f"float32: {no_units if device.type == 'cpu' else 'as the course does on Apple GPUs'}"
        )
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
    """About how long the notebooks take here, from one measured training step."""
    preset, device = course_preset(), pick_device()
    timed = TIMED_BATCH if device.type == "cpu" else preset.batch_size
    seconds = seconds_per_step(device, timed) * preset.batch_size / timed
    if preset.name == "cpu":
        times = RATE * seconds / preset.batch_size
        long = ", ".join(
            f"{name}: {in_minutes(SECONDS[name] * times)}" for name in ("05", "06", "08")
        )
        return f"{long}, the others less (an estimate: {times:.1f} times the README's minutes)"
    training = in_minutes(preset.num_updates * seconds)
    half = in_minutes(preset.num_updates // 2 * seconds)
    steps = f"{preset.num_updates:,} steps on {preset.batch_size:,} images"
    return (
        f"training takes {training} in 05 and {half} in 08, the rest a few minutes (an estimate: "
        f"{steps}, {1e3 * seconds:.0f} ms each)"
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
    steps = train(state, DiffusionProcess().to(device), [(x0, y)])
    float(next(steps).loss)  # prepares the kernels; reading the loss waits for the device
    best, end = float("inf"), time.perf_counter() + 0.3
    while time.perf_counter() < end:
        start = time.perf_counter()
        float(next(steps).loss)
        best = min(best, time.perf_counter() - start)
    del steps, state
    release_memory(device)
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
        why = "sees no card: choose a GPU in the platform's settings, or install one that fits it."
        if torch.version.cuda is None:  # what pip brings on Windows
            why = "is built for the CPU: install it anew, by the command that pytorch.org shows."
        yield f"There is an NVIDIA driver, but torch {torch.__version__} {why}"
    if torch.cuda.is_available() and (error := card_error()):
        yield unused_card("cuda", error)


def card_error() -> str:
    """Why torch cannot compute on the card, in a line; "" where it can."""
    try:
        major, minor = torch.cuda.get_device_capability()
    except (RuntimeError, AssertionError):  # the driver does not answer
        return device_error("cuda")
    kernels = [name for name in torch.cuda.get_arch_list() if name.startswith(("sm_", "compute_"))]
    if kernels and not any(runs_on((major, minor), kernel) for kernel in kernels):
        return f"it is sm_{major}{minor}, torch has kernels for {', '.join(kernels)}"
    return "" if pick_device().type == "cuda" else device_error("cuda")


def runs_on(capability: tuple[int, int], kernel: str) -> bool:
    """Whether a card computes with kernels such as "sm_75"; those of "compute_75" are translated.

    Binaries run within their major version from their minor version on (NVIDIA's CUDA C++
    Programming Guide, "Binary Compatibility").
    """
    kind, number = kernel.split("_")
    made_for = divmod(int(number.rstrip("af")), 10)
    if kind == "compute":
        return made_for <= capability
    return made_for[0] == capability[0] and made_for[1] <= capability[1]


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
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "hardware": describe_compute(device),
        "versions": versions | {name: installed_version(name) for name in PACKAGES},
    }
