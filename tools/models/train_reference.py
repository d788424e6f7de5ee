"""Train a reference run.

python -m tools.models.train_reference --out FOLDER [--updates N | --seconds S]

The default network on all of CIFAR-10, checkpointed each three minutes; the same command goes on
where it stopped. Beside the checkpoint the run keeps `record.json` (what, where, how long), EMA
weights of more lengths than one, of which the judge chooses when `bundle_reference` makes
the bundled files, and at each doubling of the images seen the EMA weights and a grid of their
samples. `--compare RUN` tells afterwards whether the losses are exactly those of a recorded run.

On a GPU: `--seconds 360 --batch-size 1024 --ema-decay 0.9997 --compile`. The number of updates is
then planned from the rate of a trial, so that the learning rate's cycle ends with the seconds.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load as load_tensors
from tqdm.auto import tqdm

from cdiff_helpers.data import ImageSet, ResidentLoader, load_cifar10
from cdiff_helpers.defaults import SOURCES
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.reference import RUNS, load_record
from cdiff_helpers.runtime import pick_device, seed_everything, write_atomically
from cdiff_helpers.sampling import DEFAULT_SOLVER, DEFAULT_STEPS, sample_conditional_images
from cdiff_helpers.training import (
    EMA,
    RECIPE,
    Interrupted,
    Step,
    TrainConfig,
    TrainState,
    checkpointed,
    holds_run,
    load_checkpoint,
    open_run,
    tensor_bytes,
    train,
)
from cdiff_helpers.unet import ConditionalUNet
from cdiff_helpers.visualization import tile_images
from tools.models.records import provenance

CHANNELS, UPDATES = (64, 96, 128), 7_900  # 1,011,200 images in an hour on two cores
FIRST_SNAPSHOT = 50_000  # images seen; each later one at twice as many
AVERAGES, EVERY = (0.999, 0.9997, 0.9999), 8  # EMA decays; updates between two of the others'
WARM_UP, TRIAL_SHARE = 20, 0.03  # updates before a trial is timed; its share of the seconds
PER_CLASS = 8
SAMPLER = {
    "solver": DEFAULT_SOLVER,
    "num_steps": DEFAULT_STEPS[DEFAULT_SOLVER],
    "guidance_scale": 1.5,
    "seed": 0,
}


def new_model(args: argparse.Namespace) -> ConditionalUNet:
    """The network with its first weights, on the best device there is."""
    seed_everything(args.seed)
    return ConditionalUNet(channels=tuple(args.channels)).to(pick_device())


def config_for(args: argparse.Namespace, num_updates: int) -> TrainConfig:
    """The settings of a run of so many updates."""
    sizes = {"num_updates": num_updates, "batch_size": args.batch_size, "seed": args.seed}
    return TrainConfig(ema_decay=args.ema_decay, **sizes, **RECIPE)


def make_fast(state: TrainState, *, compile: bool) -> None:
    """The fastest kernels for a GPU's one batch size, and with `compile` CUDA graphs of fused ones.

    The losses are others then.
    """
    torch.backends.cudnn.benchmark = state.device.type == "cuda"
    if compile:
        state.network = torch.compile(state.model, mode="reduce-overhead", dynamic=False)


def steps_of(state: TrainState, data: ImageSet) -> Iterator[Step]:
    """The training steps."""
    loader = ResidentLoader(data, state.config.batch_size, state.config.seed, state.device)
    return train(state, DiffusionProcess().to(state.device), loader)


def planned_updates(args: argparse.Namespace, data: ImageSet) -> int:
    """As many updates as fit into args.seconds, by the rate of a trial that is thrown away."""
    trial = TrainState(new_model(args), config_for(args, 10**6))
    make_fast(trial, compile=args.compile)
    steps, averages = steps_of(trial, data), more_averages(trial)
    for step in itertools.islice(steps, WARM_UP):  # it compiles
        follow(averages, trial, step)
    float(trial.losses[-1])  # waits for the device
    since, count = time.perf_counter(), 0
    while time.perf_counter() - since < TRIAL_SHARE * args.seconds:
        for step in itertools.islice(steps, EVERY):
            follow(averages, trial, step)
        float(trial.losses[-1])
        count += EVERY
    return max(1, int(args.seconds * count / (time.perf_counter() - since)))


def more_averages(state: TrainState) -> dict[float, EMA]:
    """EMA weights of the other lengths, by their decays; each updated every `EVERY` updates."""
    others = [decay for decay in AVERAGES if decay != state.config.ema_decay]
    return {decay: EMA(state.model, decay**EVERY) for decay in others}


def follow(averages: dict[float, EMA], state: TrainState, step: Step) -> None:
    """Update the other averages where it is their turn."""
    if step.index % EVERY == 0:
        for average in averages.values():
            average.update(state.model)


def average_file(folder: Path, decay: float) -> Path:
    """Where an average of another length lies."""
    return folder / f"ema_{decay}.safetensors"


def load_averages(folder: Path, state: TrainState) -> dict[float, EMA]:
    """The other averages as they were at the checkpoint; one not saved with it is left out."""
    averages = {}
    for decay, average in more_averages(state).items():
        path = average_file(folder, decay)
        index = safe_open(path, "pt").metadata()["index"] if path.exists() else "no"
        if index != str(state.index):
            print(f"{path} is of {index} updates, the checkpoint of {state.index}: left out.")
            continue
        average.model.load_state_dict(load_tensors(path.read_bytes()))
        average.num_updates = -(-state.index // EVERY)
        averages[decay] = average
    return averages


def save_averages(folder: Path, averages: dict[float, EMA], index: int) -> None:
    """Keep the other averages, as of the checkpoint after `index` updates."""
    for decay, average in averages.items():
        write_atomically(average_file(folder, decay), tensor_bytes(average.model, index))


def snapshot(state: TrainState, folder: Path, record: dict) -> None:
    """Keep the EMA weights and a grid of their samples (10 classes down), and note when."""
    labels = torch.arange(10).repeat_interleave(PER_CLASS)
    process = DiffusionProcess().to(state.device)
    images = sample_conditional_images(state.ema.model, process, labels, **SAMPLER)
    seen = state.index * state.config.batch_size
    name, weights = f"samples_{seen:08d}.webp", f"snapshot_{seen:08d}.safetensors"
    Image.fromarray(tile_images(images, PER_CLASS)).save(folder / name, lossless=True)
    write_atomically(folder / weights, tensor_bytes(state.ema.model, state.index))
    entry = {"images_seen": seen, "minutes": record["seconds"] / 60}
    entry |= {"loss": state.losses[-1].item(), "file": name, "weights": weights}
    record["snapshots"].append(entry)


def run(args: argparse.Namespace, state: TrainState, record: dict, data: ImageSet) -> None:
    """Train on, keeping the record; only the time spent training counts."""
    folder, last = args.out, args.stop_after or state.config.num_updates
    if state.index >= last:
        return print(f"The run in {folder} has done {state.index} updates already.")
    averages = load_averages(folder, state) if state.index else more_averages(state)
    make_fast(state, compile=args.compile)
    steps = steps_of(state, data)
    steps = checkpointed(steps, state, folder, every_seconds=180)
    due = next_snapshot(state)
    try:
        with tqdm(total=state.config.num_updates, initial=state.index, mininterval=30) as progress:
            since = time.monotonic()
            for step in steps:
                if state.saved_index == step.index:  # they are still as they were when it was saved
                    save_averages(folder, averages, step.index)
                follow(averages, state, step)
                progress.update()
                drawn = state.index == last or state.index * state.config.batch_size >= due
                if drawn:
                    step.loss.item()  # waits for the device
                record["seconds"] += time.monotonic() - since
                if drawn:
                    snapshot(state, folder, record)
                    due = next_snapshot(state)
                if drawn or step.index % 50 == 0:
                    write_record(folder, record)
                if state.index == last:
                    break
                since = time.monotonic()
    finally:
        steps.close()
        save_averages(folder, averages, state.index)
        write_record(folder, record)


def write_record(folder: Path, record: dict) -> None:
    """Keep what is known of the run so far."""
    write_atomically(folder / "record.json", json.dumps(record, indent=2).encode())


def next_snapshot(state: TrainState) -> int:
    """The next doubling of FIRST_SNAPSHOT that the run has not seen yet, in images."""
    due = FIRST_SNAPSHOT
    while due <= state.index * state.config.batch_size:
        due *= 2
    return due


def compare(losses: list[float], recorded: list[float]) -> str | None:
    """None where the losses begin as the recorded ones do, else where they part."""
    for i, (ours, theirs) in enumerate(zip(losses, recorded)):
        if ours != theirs:
            return f"update {i}: the loss is {ours}, the record's {theirs}"
    return None


def start(args: argparse.Namespace, data: ImageSet) -> tuple[TrainState, dict]:
    """The run in the folder, its record cut back to the checkpoint, or a new one, saved at once.

    Raises ValueError for a command with other settings than the one that began it.
    """
    updates = args.updates
    if args.seconds:
        begun = holds_run(args.out)
        updates = (
            load_checkpoint(args.out).config.num_updates if begun else planned_updates(args, data)
        )
    state = open_run(args.out, new_model(args), config_for(args, updates))
    record = provenance(state.device) | {"seed": args.seed, "sampler": SAMPLER}
    record |= {"compiled": args.compile, "seconds": 0.0, "snapshots": []}
    path = args.out / "record.json"
    record |= json.loads(path.read_text(encoding="utf-8")) if state.index and path.exists() else {}
    if record["compiled"] != args.compile:
        raise ValueError(
            f"the run in {args.out} was begun {'with' if record['compiled'] else 'without'} "
            "--compile; expected the command that began it."
        )
    seen = state.index * state.config.batch_size
    record["snapshots"] = [each for each in record["snapshots"] if each["images_seen"] <= seen]
    write_record(args.out, record)
    return state, record


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--root", help="folder of the data set (default: the course folder's)")
    parser.add_argument("--updates", type=int, default=UPDATES, help="planned in all")
    parser.add_argument("--seconds", type=float, help="instead: as many as fit into them")
    parser.add_argument("--stop-after", type=int, default=0, help="stop early, after this update")
    parser.add_argument("--batch-size", type=int, default=128, help="images an update")
    parser.add_argument("--ema-decay", type=float, default=0.999, help="of the run's own EMA")
    parser.add_argument("--compile", action="store_true", help="torch.compile with CUDA graphs")
    parser.add_argument("--channels", type=int, nargs="+", default=CHANNELS, help="of the network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", choices=SOURCES, default="auto", help="of the images")
    parser.add_argument("--compare", choices=RUNS, help="a recorded run whose losses to compare")
    args = parser.parse_args(arguments)
    if args.seconds is not None and args.seconds <= 0:
        parser.error(f"--seconds is {args.seconds}; expected more than 0, such as 360.")
    args.out.mkdir(parents=True, exist_ok=True)
    data = load_cifar10(args.root, source=args.source)
    try:
        state, record = start(args, data)
        run(args, state, record, data)
    except Interrupted:
        sys.exit(f"Interrupted; the run in {args.out} is saved, and the same command goes on.")
    except ValueError as error:
        sys.exit(str(error))
    if args.compare:
        parted = compare(state.losses.tolist(), load_record(args.compare)["losses"])
        sys.exit(parted) if parted else print(f"The first {state.index} losses are the record's.")


if __name__ == "__main__":
    main()
