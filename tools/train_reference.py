"""Train the reference model: python tools/train_reference.py --out FOLDER [--updates N] [--seed 0]

The default network on all of CIFAR-10, checkpointed each three minutes; the same command goes on
where it stopped. Beside the checkpoint the run keeps `record.json` (what, where, how long) and,
after 1, 2, 5, 10, 20, 30, 40, 60, … minutes of training, the averaged weights and a grid of their
fixed-seed samples. `tools/bundle_reference.py` makes the bundled files from such a folder.
`--compare FOLDER` tells afterwards whether the losses are exactly those of the card in that folder.

With a GPU, in slices of ten minutes: `--channels 88 136 184 --batch-size 256 --minutes 9`, and as
many `--updates` as `python -m benchmarks.sweep` finds room for.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm

from cdiff_helpers.data import SOURCES, ImageSet, ResidentLoader, load_cifar10
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.runtime import pick_device, provenance, seed_everything, write_whole
from cdiff_helpers.sampling import sample_conditional_images
from cdiff_helpers.training import (
    RECIPE,
    TrainConfig,
    TrainState,
    checkpointed,
    load_checkpoint,
    tensor_bytes,
    train,
)
from cdiff_helpers.unet import ConditionalUNet
from cdiff_helpers.visualization import tile_images

SNAPSHOT_MINUTES = (1, 2, 5, 10, 20, 30, 40, 60, 80, 100, 120)
CHANNELS, UPDATES = (64, 96, 128), 7_900  # 1,011,200 images in an hour on two cores
FILES = ("samples_{:03.0f}_minutes.webp", "ema_{:03.0f}_minutes.safetensors")
PER_CLASS = 8
SAMPLER = {"solver": "dpm++2m", "num_steps": 20, "guidance_scale": 1.5, "seed": 0}


def start(folder: Path, config: TrainConfig, channels: tuple[int, ...]) -> tuple[TrainState, dict]:
    """The run in the folder and its record, or a new one."""
    device = pick_device()
    if (folder / "record.json").exists():
        return load_checkpoint(folder, device=device), json.loads(
            (folder / "record.json").read_text()
        )
    seed_everything(config.seed)
    model = ConditionalUNet(channels=channels).to(device)
    record = provenance(device) | {
        "seed": config.seed,
        "sampler": SAMPLER,
        "seconds": 0.0,
        "snapshots": [],
    }
    return TrainState(model, config), record


def snapshot(state: TrainState, process: DiffusionProcess, folder: Path, record: dict) -> None:
    """Keep the averaged weights and their fixed-seed grid (10 classes down), and note when."""
    labels = torch.arange(10).repeat_interleave(PER_CLASS)
    images = sample_conditional_images(state.ema.model, process, labels, **SAMPLER)
    minutes = record["seconds"] / 60
    name, weights = (form.format(minutes) for form in FILES)
    Image.fromarray(tile_images(images, PER_CLASS)).save(folder / name, lossless=True)
    write_whole(folder / weights, tensor_bytes(state.ema.model, state.index))
    entry = {"minutes": minutes, "images_seen": state.index * state.config.batch_size}
    record["snapshots"].append(entry | {"file": name, "weights": weights})


def run(
    state: TrainState,
    record: dict,
    folder: Path,
    data: ImageSet,
    *,
    stop_after: int = 0,
    minutes: float = math.inf,
) -> None:
    """Train on, keeping the record; only the time spent training counts.

    Stops early after update number `stop_after`, or when this call has taken so many minutes.
    """
    until = time.monotonic() + 60 * minutes
    loader = ResidentLoader(data, state.config.batch_size, state.config.seed, state.device)
    process = DiffusionProcess().to(state.device)
    steps = checkpointed(train(state, process, loader), state, folder, every_seconds=180)
    progress = tqdm(total=state.config.num_updates, initial=state.index, mininterval=30)
    since = time.monotonic()
    for step in steps:
        progress.update()
        now = time.monotonic()
        record["seconds"] += now - since
        due = [m for m in SNAPSHOT_MINUTES if m * 60 <= record["seconds"]]
        last = step.index + 1 in (state.config.num_updates, stop_after)
        drawn = len(due) > len(record["snapshots"]) or last
        if drawn:
            snapshot(state, process, folder, record)
        if step.index % 50 == 0 or drawn:
            progress.set_postfix(loss=f"{state.losses[-50:].mean():.4f}")
            write_whole(folder / "record.json", json.dumps(record, indent=2).encode())
        if last or time.monotonic() > until:
            break
        since = time.monotonic()
    steps.close()


def compare(losses: list[float], card: Path) -> str | None:
    """None where the losses begin as the card's in that folder do, else where they part."""
    recorded = json.loads((card / "card.json").read_text(encoding="utf-8"))["losses"]
    for i, (ours, theirs) in enumerate(zip(losses, recorded)):
        if ours != theirs:
            return f"update {i}: the loss is {ours}, the card's {theirs}"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--root", help="folder of the data set (default: the course folder's)")
    parser.add_argument("--updates", type=int, default=UPDATES, help="planned in all")
    parser.add_argument("--stop-after", type=int, default=0, help="stop early, after this update")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop this call after them")
    parser.add_argument("--batch-size", type=int, default=128, help="images an update")
    parser.add_argument("--channels", type=int, nargs="+", default=CHANNELS, help="of the network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", choices=SOURCES, default="auto", help="of the pictures")
    parser.add_argument("--compare", type=Path, help="folder of a card whose losses to compare")
    args = parser.parse_args()
    sizes = {"num_updates": args.updates, "batch_size": args.batch_size}
    config = TrainConfig(seed=args.seed, **sizes, **RECIPE)
    args.out.mkdir(parents=True, exist_ok=True)
    state, record = start(args.out, config, tuple(args.channels))
    data = load_cifar10(args.root, source=args.source)
    run(state, record, args.out, data, stop_after=args.stop_after, minutes=args.minutes)
    if args.compare:
        parted = compare(state.losses.tolist(), args.compare)
        sys.exit(parted) if parted else print(f"The first {state.index} losses are the card's.")


if __name__ == "__main__":
    main()
