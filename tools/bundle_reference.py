"""Bundle a finished reference run: python tools/bundle_reference.py RUN_FOLDER

Reads what tools/train_reference.py left, measures the noise error on test images, and writes
float16 weights, the card (JSON and Markdown) and the sample grids into the package, and the last
grid, twice as large, into the README's picture.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from cdiff_helpers.data import load_cifar10, to_model_range
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.reference import REFERENCE, load_reference
from cdiff_helpers.runtime import write_digests, write_whole
from cdiff_helpers.training import diffusion_loss, load_checkpoint
from cdiff_helpers.visualization import png_bytes

HOUSE = Path(__file__).resolve().parent.parent
PICTURE = HOUSE / "images" / "reference_samples.png"
TRIALS = HOUSE / "benchmarks" / "results" / "recipes.json"  # of benchmarks/recipes.py


def test_error(model: torch.nn.Module, count: int = 1_000) -> float:
    """The mean squared error of the predicted noise on test images, ten uniform times each."""
    data = load_cifar10(train=False)
    process, generator = DiffusionProcess(model.num_steps), torch.Generator().manual_seed(0)
    x0, y = to_model_range(data.images[:count]), data.labels[:count]
    with torch.no_grad():
        losses = [
            diffusion_loss(model, process, *batch, generator)
            for _ in range(10)
            for batch in zip(x0.split(250), y.split(250))
        ]
    return torch.stack(losses).mean().item()


def markdown(card: dict) -> str:
    """The card for people."""
    rows = [
        f"| {s['minutes']:.0f} | {s['images_seen']:,} | `{s['file']}` |" for s in card["snapshots"]
    ]
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    return "\n".join(
        [
            "# The reference model",
            "",
            f"The default `ConditionalUNet` ({card['parameters']:,} parameters) after "
            f"{card['images_seen']:,} images of CIFAR-10's training set in {card['minutes']:.0f} "
            f"minutes of training on {card['hardware']}. These are the averaged (EMA) weights in "
            "float16.",
            "",
            f"- Command: `{card['command']}`",
            f"- Seed {card['seed']}; {versions}",
            f"- {card['updates']:,} of the {card['training']['num_updates']:,} planned updates. "
            f"{card['note']}".rstrip(),
            f"- Settings: `{json.dumps(card['training'])}`",
            f"- Mean squared error of the noise on 1,000 test images over uniform t: "
            f"{card['test_noise_mse']:.4f}",
            f"- Mean training loss of the last 500 updates: {card['last_loss']:.4f} "
            f"({card['training']['time_distribution']} times)",
            f"- Samples: {json.dumps(card['sampler'])}, ten classes from top to bottom",
            "",
            "| minutes | images seen | samples |",
            "| --- | --- | --- |",
            *rows,
            "",
            "The recipe was chosen by these trials: about ten minutes each on two cores, then "
            f"{card['trials']['samples']:,} samples at guidance scale "
            f"{card['trials']['guidance_scale']}, scored by [the judge](../judge/card.md).",
            "",
            *trial_lines(card["trials"]),
            "",
            "For teaching only: small, blurred pictures of ten classes; it knows nothing else. "
            "Data: Krizhevsky 2009, *Learning Multiple Layers of Features from Tiny Images*.",
            "",
        ]
    )


def trial_lines(trials: dict) -> list[str]:
    """The trials' table in Markdown, with what each arm asked."""
    head, *rows = trials["rows"]
    lines = [[*head, "what was tried"], ["---"] * (len(head) + 1)]
    lines += [[*row, trials["questions"][row[0]]] for row in rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="the folder that tools/train_reference.py wrote")
    parser.add_argument("--note", default="", help="what a reader of the card should know besides")
    args = parser.parse_args()
    run = args.run
    state = load_checkpoint(run)
    weights = save({n: w.half().contiguous() for n, w in state.ema.model.state_dict().items()})
    card = json.loads((run / "record.json").read_text())
    config = json.loads((run / "config.json").read_text())
    losses, trials = state.losses.tolist(), json.loads(TRIALS.read_text())
    card |= {
        "model": config["model"],
        "training": config["training"],
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "updates": state.index,
        "note": args.note,
        "images_seen": state.index * state.config.batch_size,
        "minutes": card.pop("seconds") / 60,
        "last_loss": sum(losses[-500:]) / len(losses[-500:]),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "trials": {k: trials[k] for k in ("rows", "questions", "samples", "guidance_scale")},
        "losses": losses,
    }
    shutil.rmtree(REFERENCE, ignore_errors=True)
    REFERENCE.mkdir(parents=True)
    for snapshot in card["snapshots"]:
        shutil.copy(run / snapshot["file"], REFERENCE)
        snapshot.pop("weights")  # these stay in the run's folder
    write_whole(REFERENCE / "ema.safetensors", weights)
    write_whole(REFERENCE / "card.json", json.dumps(card).encode())
    write_digests(REFERENCE)
    card["test_noise_mse"] = test_error(load_reference()[0])  # of the float16 weights, as bundled
    write_whole(REFERENCE / "card.json", (json.dumps(card, indent=1) + "\n").encode())
    write_whole(REFERENCE / "card.md", markdown(card).encode())
    write_digests(REFERENCE)
    with Image.open(REFERENCE / card["snapshots"][-1]["file"]) as grid:
        write_whole(PICTURE, png_bytes(np.asarray(grid), scale=2))
    print(markdown(card))


if __name__ == "__main__":
    main()
