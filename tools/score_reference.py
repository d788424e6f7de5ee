"""Score the bundled reference: python tools/score_reference.py [--run RUN_FOLDER] [--samples 2000]

Draws with it at several guidance scales, and at scale 1 with several solvers and numbers of steps,
always for the same labels from the same seeds, and keeps the judge's scores in the package's
`bundled/reference/scores.json`, which notebooks 06 to 08 plot. With the folder that
tools/train_reference.py wrote, its snapshots are scored too. What is in the file already, for these
weights, is not drawn again, so an interrupted call goes on.
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
from cdiff_helpers.runtime import processor_name, write_whole
from cdiff_helpers.sampling import sample_conditional_images

SCALES = (1.5, 1, 2.5, 0, 1.25, 2, 3, 4)  # the most asked for first
SOLVERS = {"dpm++2m": (5, 10, 20, 40), "ddim": (10, 20, 50, 100), "ddpm": (50, 200)}
SNAPSHOT_SCALE = 1.5


def cases(run: Path | None) -> Iterator[dict]:
    """Everything that is drawn and scored: which weights, and the sampler's options."""
    for scale in SCALES:
        yield {"of": "guidance", "guidance_scale": scale}
    for solver, counts in SOLVERS.items():
        for count in counts:
            yield {"of": "solvers", "guidance_scale": 1, "solver": solver, "num_steps": count}
    snapshots = json.loads((run / "record.json").read_text())["snapshots"] if run else ()
    for snapshot in snapshots:
        kept = {key: snapshot[key] for key in ("minutes", "images_seen", "weights")}
        yield {"of": "snapshots", "guidance_scale": SNAPSHOT_SCALE} | kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, help="the folder that tools/train_reference.py wrote")
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--only", choices=("guidance", "solvers", "snapshots"))
    args = parser.parse_args()
    model, process, card = load_reference()
    path, labels = REFERENCE / "scores.json", torch.arange(args.samples) % 10
    made_of = {"weights": card["sha256"], "judge": judge_card()["sha256"]["judge.safetensors"]}
    made_of |= {"samples": args.samples, "seed": 0}
    kept = json.loads(path.read_text()) if path.exists() else {}
    if {key: kept.get(key) for key in made_of} != made_of:
        kept = made_of | {"hardware": processor_name(), "scores": []}
    done = [entry["case"] for entry in kept["scores"]]
    for case in tqdm(list(cases(args.run)), mininterval=30):
        if case in done or args.only not in (None, case["of"]):
            continue
        drawing = model
        if case["of"] == "snapshots":
            drawing, _, _ = load_reference()
            drawing.load_state_dict(load_tensors((args.run / case["weights"]).read_bytes()))
        names = ("guidance_scale", "solver", "num_steps")
        options = {name: case[name] for name in names if name in case}
        images = sample_conditional_images(drawing, process, labels, seed=0, **options)
        scores = score(images, labels, allow_few=args.samples < 2_000)
        kept["scores"].append({"case": case} | scores)
        write_whole(path, (json.dumps(kept, indent=1) + "\n").encode())
        print(case, {key: round(scores[key], 4) for key in ("agreement", "judge_fd", "coverage")})


if __name__ == "__main__":
    main()
