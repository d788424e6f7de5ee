"""Score the bundled reference.

python -m tools.models.score_reference [--run RUN_FOLDER] [--samples 2000]

Draws with it at several guidance scales, and at two of them with several solvers and numbers of
steps, always for the same labels from the same seeds, in the device's own number format, and keeps
the judge's scores in the package's `bundled/reference/scores.json`, which notebooks 05 to 07 plot.
With the folder that train_reference wrote, its snapshots are scored too. What is in the
file already, for these weights, is not drawn again, so an interrupted call goes on.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from tqdm.auto import tqdm

from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.evaluation import judge_card, load_judge, score
from cdiff_helpers.reference import REFERENCE, load_reference
from cdiff_helpers.runtime import pick_device, write_atomically
from cdiff_helpers.sampling import GUIDANCE_SCALE, sample_conditional_images
from cdiff_helpers.training import autocast
from cdiff_helpers.unet import ConditionalUNet
from tools.models.records import describe_compute, write_digests

FINE = {"solver": "dpm++2m", "num_steps": 20}  # how the curves over scales and images are drawn
SCALES = (1, 1.5, 2, 2.5, 3, 4, 0, 6, 8)
SOLVERS = {
    "dpm++2m": (5, 6, 8, 10, 15, 20, 30, 50),
    "ddim": (5, 10, 20, 50, 100, 200),
    "ddpm": (5, 10, 20, 50, 200),
}
SOLVER_SCALES = (1, GUIDANCE_SCALE)
SNAPSHOT_SCALE = 1.5
DRAWN_WITH = ("weights", "ema_decay", "guidance_scale", "solver", "num_steps")


def cases(run: Path | None, card: dict) -> Iterator[dict]:
    """Everything that is drawn and scored: which weights, and the sampler's options."""
    for scale in SCALES:
        yield {"of": "guidance", "guidance_scale": scale, **FINE}
    for scale in SOLVER_SCALES:
        for solver, counts in SOLVERS.items():
            for count in counts:
                options = {"solver": solver, "num_steps": count}
                yield {"of": "solvers", "guidance_scale": scale, **options}
    if run:
        snapshots = json.loads((run / "record.json").read_text(encoding="utf-8"))["snapshots"]
        final = {"images_seen": card["images_seen"]}  # the card's own weights
        for snapshot in [*snapshots[:-1], final]:
            kept = {key: snapshot[key] for key in ("images_seen", "weights") if key in snapshot}
            yield {"of": "snapshots", "guidance_scale": SNAPSHOT_SCALE, **FINE} | kept


def asked(case: dict) -> dict:
    """What a case draws with, whatever it is of: two cases with the same are drawn once."""
    return {key: case.get(key) for key in DRAWN_WITH}


def network(case: dict, run: Path | None) -> ConditionalUNet:
    """The network of a case: the bundled one, or a snapshot's of the run."""
    model, _, _ = load_reference()
    if "weights" in case:
        model.load_state_dict(load_tensors((run / case["weights"]).read_bytes()))
    return model


def scored(model: ConditionalUNet, case: dict, labels: torch.Tensor) -> dict:
    """A case's entry: its images are drawn, and the judge is asked."""
    device = pick_device()
    process = DiffusionProcess(model.num_steps).to(device)
    options = {key: case[key] for key in ("guidance_scale", "solver", "num_steps")}
    options |= {"seed": 0, "batch_size": 2_000 if device.type == "cuda" else 100}
    with autocast(device):
        images = sample_conditional_images(model.to(device), process, labels, **options)
    judge = load_judge().to(device)
    scores = score(images.cpu(), labels, judge=judge, allow_few=len(labels) < 2_000)
    return {"case": case, "drawn_on": describe_compute(device)} | scores


def empty_record(card: dict, samples: int) -> dict:
    """A record without scores yet: which weights, which judge, how many samples."""
    judge = judge_card()["sha256"]["judge.safetensors"]
    return {"weights": card["sha256"], "judge": judge, "samples": samples, "seed": 0, "scores": []}


def record_bytes(record: dict) -> bytes:
    """A record as the bytes of its file."""
    return (json.dumps(record, indent=1) + "\n").encode()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, help="the folder that train_reference wrote")
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--only", choices=("guidance", "solvers", "snapshots"))
    args = parser.parse_args(arguments)
    card = load_reference()[2]
    path, labels = REFERENCE / "scores.json", torch.arange(args.samples) % 10
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    new = empty_record(card, args.samples)
    if new | {"scores": kept.get("scores")} != kept:
        kept = new
    for case in tqdm(list(cases(args.run, card)), mininterval=30):
        entries = kept["scores"]
        if case in [entry["case"] for entry in entries] or args.only not in (None, case["of"]):
            continue
        same = [entry for entry in entries if asked(entry["case"]) == asked(case)]
        entry = same[0] if same else scored(network(case, args.run), case, labels)
        entries.append(entry | {"case": case})
        write_atomically(path, record_bytes(kept))
        write_digests(REFERENCE)
        print(case, {key: round(entry[key], 4) for key in ("agreement", "judge_fd", "coverage")})


if __name__ == "__main__":
    main()
