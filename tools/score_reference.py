"""Score the bundled reference: python tools/score_reference.py [--run RUN_FOLDER] [--samples 2000]

Draws with it at several guidance scales, and at scale 1 with several solvers and numbers of steps,
always for the same labels from the same seeds, in the device's own number format, and keeps the
judge's scores in the package's `bundled/reference/scores.json`, which notebooks 05 to 07 plot.
With the folder that `benchmarks.quality train` or tools/train_reference.py wrote, its snapshots are
scored too. What is in the file already, for these weights, is not drawn again, so an interrupted
call goes on.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from tqdm.auto import tqdm

from cdiff_helpers.evaluation import judge_card, score
from cdiff_helpers.reference import REFERENCE, load_reference
from cdiff_helpers.runtime import pick_device, processor_name, write_digests, write_whole
from cdiff_helpers.sampling import DEFAULT_SOLVER, DEFAULT_STEPS, sample_conditional_images
from cdiff_helpers.training import autocast

SCALES = (1.5, 1, 2.5, 0, 4, 8)  # the most asked for first
SOLVERS = {"dpm++2m": (5, 10, 20), "ddpm": (200, 50), "ddim": (20, 50)}
SNAPSHOT_SCALE = 1.5


def cases(run: Path | None, card: dict) -> Iterator[dict]:
    """Everything that is drawn and scored: which weights, and the sampler's options."""
    for scale in SCALES:
        yield {"of": "guidance", "guidance_scale": scale}
    for solver, counts in SOLVERS.items():
        for count in counts:
            yield {"of": "solvers", "guidance_scale": 1, "solver": solver, "num_steps": count}
    if run:
        snapshots = json.loads((run / "record.json").read_text())["snapshots"]
        for snapshot in [*snapshots, card]:  # the card's own weights are the last
            kept = {key: snapshot[key] for key in ("minutes", "images_seen")}
            kept |= {"weights": snapshot["weights"]} if "weights" in snapshot else {}
            yield {"of": "snapshots", "guidance_scale": SNAPSHOT_SCALE} | kept


def asked(case: dict) -> dict:
    """What a case draws with, whatever it is of: two cases with the same are drawn once."""
    default = {"solver": DEFAULT_SOLVER, "num_steps": DEFAULT_STEPS[DEFAULT_SOLVER]}
    drawn_with = ("weights", "guidance_scale", "solver", "num_steps")
    return default | {key: case[key] for key in drawn_with if key in case}


def scored(case: dict, run: Path | None, labels: torch.Tensor) -> dict:
    """Draw a case's pictures and ask the judge."""
    device = pick_device()
    model, process, _ = load_reference()
    if "weights" in case:
        model.load_state_dict(load_tensors((run / case["weights"]).read_bytes()))
    options = {key: asked(case)[key] for key in ("guidance_scale", "solver", "num_steps")}
    with autocast(device):
        images = sample_conditional_images(
            model.to(device), process.to(device), labels, seed=0, **options
        )
    return score(images.cpu(), labels, allow_few=len(labels) < 2_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, help="the folder that tools/train_reference.py wrote")
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--only", choices=("guidance", "solvers", "snapshots"))
    args = parser.parse_args()
    card = load_reference()[2]
    path, labels = REFERENCE / "scores.json", torch.arange(args.samples) % 10
    made_of = {"weights": card["sha256"], "judge": judge_card()["sha256"]["judge.safetensors"]}
    made_of |= {"samples": args.samples, "seed": 0}
    kept = json.loads(path.read_text()) if path.exists() else {}
    if {key: kept.get(key) for key in made_of} != made_of:
        kept = made_of | {"hardware": processor_name(), "scores": []}
    for case in tqdm(list(cases(args.run, card)), mininterval=30):
        entries = kept["scores"]
        if case in [entry["case"] for entry in entries] or args.only not in (None, case["of"]):
            continue
        same = [entry for entry in entries if asked(entry["case"]) == asked(case)]
        scores = same[0] if same else scored(case, args.run, labels)
        entries.append(scores | {"case": case})
        write_whole(path, (json.dumps(kept, indent=1) + "\n").encode())
        write_digests(REFERENCE)
        print(case, {key: round(scores[key], 4) for key in ("agreement", "judge_fd", "coverage")})


if __name__ == "__main__":
    main()
