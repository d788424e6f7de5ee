"""Bundle a finished reference run.

python -m tools.models.bundle_reference RUN_FOLDER [--note WORDS]

Reads what train_reference left, has the judge choose between the averages, measures the
noise error on test images, and writes float16 weights, losses, the card (JSON and Markdown), the
sample grids and the averages' scores into the package. score_reference then goes on.
"""

import argparse
import hashlib
import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save

from cdiff_helpers.data import load_cifar10, to_model_range
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.reference import REFERENCE
from cdiff_helpers.runtime import write_atomically
from cdiff_helpers.training import diffusion_loss, load_checkpoint
from cdiff_helpers.unet import ConditionalUNet
from tools.models.records import write_digests
from tools.models.score_reference import FINE, empty_record, record_bytes, scored
from tools.models.train_reference import load_averages

SAMPLES = 2_000  # per average


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


def halved(model: torch.nn.Module) -> bytes:
    """The weights in float16, as the bytes of a safetensors file."""
    return save({name: w.half().contiguous() for name, w in model.state_dict().items()})


def network(weights: bytes, config: dict) -> ConditionalUNet:
    """The network that float16 weights are of, in eval mode."""
    model = ConditionalUNet(**config)
    model.load_state_dict({name: w.float() for name, w in load_tensors(weights).items()})
    return model.eval().requires_grad_(False)


def markdown(card: dict) -> str:
    """The card for people."""
    rows = [
        f"| {s['images_seen']:,} | {s['minutes']:.2f} | `{s['file']}` |" for s in card["snapshots"]
    ]
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    settings = {"method", "repeat", "commit"} & set(card)
    return "\n".join(
        [
            f"# {card['title']}",
            "",
            f"The default `ConditionalUNet` ({card['parameters']:,} parameters) after "
            f"{card['images_seen']:,} images of CIFAR-10's training set ({card['epochs']:.0f} "
            f"epochs, mirrored at random) in {card['minutes']:.1f} minutes of training on "
            f"{card['hardware']}.",
            "",
            f"- Command: `{card['command']}`",
            *(f"- {name.capitalize()}: `{card[name]}`" for name in sorted(settings)),
            f"- Seed {card['seed']}; {versions}",
            f"- {card['updates']:,} of the {card['training']['num_updates']:,} planned updates. "
            f"{card['note']}".rstrip(),
            f"- Settings: `{json.dumps(card['training'])}`",
            *average_lines(card),
            f"- Mean squared error of the noise on 1,000 test images over uniform t: "
            f"{card['test_noise_mse']:.4f}",
            f"- Mean training loss of the last 500 updates: {card['last_loss']:.4f} "
            f"({card['training']['time_distribution']} times)",
            f"- SHA-256 of the weights: `{card['sha256']}`",
            f"- Samples: {json.dumps(card['sampler'])}, ten classes from top to bottom",
            "",
            "| images seen | minutes | samples |",
            "| --- | --- | --- |",
            *rows,
            "",
            "For teaching only: 32 x 32 images of ten classes; it knows nothing else. "
            "Data: Krizhevsky 2009, *Learning Multiple Layers of Features from Tiny Images*.",
            "",
        ]
    )


def average_lines(card: dict) -> list[str]:
    """Which EMA it is, and what the judge said of the others."""
    if "averages" not in card:
        return [f"- EMA with decay {card['ema_decay']}."]
    distances = ", ".join(f"{decay}: {fd:.2f}" for decay, fd in card["averages"].items())
    return [
        f"- EMA with decay {card['ema_decay']}, in float16: of {len(card['averages'])} lengths the "
        f"one with the lowest judge-FD at guidance scale 1 ({distances})."
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="the folder that train_reference wrote")
    parser.add_argument("--note", default="", help="what a reader of the card should know besides")
    args = parser.parse_args(arguments)
    run = args.run
    state = load_checkpoint(run, device="cpu")
    card = json.loads((run / "record.json").read_text(encoding="utf-8"))
    config, losses = {"training": asdict(state.config), "model": state.model.config}, state.losses
    averages = {state.config.ema_decay: state.ema} | load_averages(run, state)
    weights = {decay: halved(average.model) for decay, average in averages.items()}
    entries, labels = [], torch.arange(SAMPLES) % 10
    for decay, each in weights.items():
        case = {"of": "averages", "guidance_scale": 1, "ema_decay": decay, **FINE}
        entries.append(scored(network(each, config["model"]), case, labels))
    distances = {entry["case"]["ema_decay"]: entry["judge_fd"] for entry in entries}
    best = min(distances, key=distances.get)
    images_seen = state.index * state.config.batch_size
    card |= {
        "title": "The reference",
        "model": config["model"],
        "training": config["training"],
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "updates": state.index,
        "note": args.note,
        "images_seen": images_seen,
        "epochs": round(images_seen / 50_000, 1),
        "minutes": card.pop("seconds") / 60,
        "ema_decay": best,
        "averages": {str(decay): round(value, 2) for decay, value in distances.items()},
        "last_loss": losses[-500:].mean().item(),
        "sha256": hashlib.sha256(weights[best]).hexdigest(),
        "test_noise_mse": test_error(network(weights[best], config["model"])),
    }
    shutil.rmtree(REFERENCE, ignore_errors=True)
    REFERENCE.mkdir(parents=True)
    for entry in card["snapshots"]:
        shutil.copy(run / entry["file"], REFERENCE)
        entry.pop("weights")  # these stay in the run's folder
    file = io.BytesIO()
    np.save(file, losses.numpy())
    write_atomically(REFERENCE / "losses.npy", file.getvalue())
    write_atomically(REFERENCE / "ema.safetensors", weights[best])
    record = empty_record(card, SAMPLES) | {"scores": entries}
    write_atomically(REFERENCE / "scores.json", record_bytes(record))
    write_atomically(REFERENCE / "card.json", (json.dumps(card, indent=1) + "\n").encode())
    write_atomically(REFERENCE / "card.md", markdown(card).encode())
    write_digests(REFERENCE)
    print(markdown(card))


if __name__ == "__main__":
    main()
