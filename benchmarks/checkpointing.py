"""What keeping a run costs: python -m benchmarks.checkpointing [--quick] [--write]

A run at the cpu preset as notebook 05 and the shell make it: saved before its first update, every
minute, and at its end. The seconds within `save_checkpoint`, which writes 64 MB and waits for
the disk, are counted against the whole. Then a checkpoint is saved and loaded a few times over.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.common import bars, finish, machine, options
from cdiff_helpers.data import ResidentLoader, load_cifar10
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.runtime import course_preset, pick_device, seed_everything
from cdiff_helpers.training import (
    RECIPE,
    TrainConfig,
    checkpointed,
    checkpoints,
    load_checkpoint,
    open_run,
    train,
)
from cdiff_helpers.unet import ConditionalUNet

QUICK = 60  # updates


def timed(call: Callable, taken: list[float]) -> Callable:
    """The same function; how long each call took is appended to `taken`."""

    def wrapped(*args):
        start = time.perf_counter()
        call(*args)
        taken.append(time.perf_counter() - start)

    return wrapped


def run(folder: Path, config: TrainConfig, taken: list[float]) -> float:
    """Train into the folder: wall seconds. Each save's go into `taken`."""
    device = pick_device()
    loader = ResidentLoader(load_cifar10(), config.batch_size, config.seed, device)
    seed_everything(config.seed)
    model = ConditionalUNet().to(device)
    checkpoints.save_checkpoint = timed(checkpoints.save_checkpoint, taken)
    start = time.perf_counter()
    state = open_run(folder, model, config)
    process = DiffusionProcess(model.num_steps).to(device)
    for _ in checkpointed(train(state, process, loader), state, folder):
        pass
    return time.perf_counter() - start


def main() -> None:
    args = options(__doc__)
    preset = course_preset("cpu")
    changes = {"num_updates": QUICK} if args.quick else {}
    config, saves, loads = TrainConfig.for_preset(preset, **RECIPE | changes), [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = run(folder, config, saves)
        within, count = sum(saves), len(saves)
        state = load_checkpoint(folder)
        for _ in range(10):
            checkpoints.save_checkpoint(folder, state)
            timed(load_checkpoint, loads)(folder)
        size = sum(path.stat().st_size for path in folder.glob("latest/*.*"))
    share = within / seconds
    rows = [["what", "figure"]]
    rows += [[f"{config.num_updates} updates of {config.batch_size}", f"{seconds:.0f} s"]]
    rows += [[f"of these in {count} saves", f"{within:.2f} s, {100 * share:.2f} %"]]
    rows += [["one save", f"{median(saves):.2f} s, {size / 1e6:.0f} MB"]]
    rows += [["one load", f"{median(loads):.2f} s"]]
    shown = {"the updates": seconds - within, f"{count} saves": within}
    keys = {"share": share, "save_seconds": median(saves), "load_seconds": median(loads)}
    finish("checkpointing", machine(), rows, keys, bars(shown, "seconds", "a run"), args.write)


if __name__ == "__main__":
    main()
