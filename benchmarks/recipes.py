"""Which recipe is best for its minutes? Arms of equal wall clock, scored by the judge.

python -m benchmarks.recipes plan --out FOLDER [--minutes 10]
python -m benchmarks.recipes train --out FOLDER ARM ...
python -m benchmarks.recipes score --out FOLDER [ARM ...] [--write]

`plan` times an update of each arm in turn and gives each as many as fit into the minutes, so that a
slow hour of the machine hits no arm more than another. `train` goes through the arms named; two at
a time on two cores, with OMP_NUM_THREADS=1, train more pictures than one after the other. `score`
draws the same labels from the same seeds for each arm and asks the judge.
"""

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common import bars, finish, in_turns, machine
from cdiff_helpers import validation
from cdiff_helpers.data import ResidentLoader, load_cifar10
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.evaluation import load_judge, score
from cdiff_helpers.runtime import seed_everything
from cdiff_helpers.sampling import sample_conditional_images
from cdiff_helpers.training import (
    RECIPE,
    TrainConfig,
    TrainState,
    autocast,
    checkpointed,
    load_checkpoint,
    train,
)
from cdiff_helpers.unet import ConditionalUNet

BASE = RECIPE | {"learning_rate": 2e-3}
SAMPLES, GUIDANCE, STEPS = 2_000, 1.5, 20


class NoiseInside(ConditionalUNet):
    """The same network, whose last layer says the noise itself: eps = model(xt, t, y)."""

    @validation.checked_network
    def forward(self, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        emb = self.time_embedding(t) + self.class_embedding(y)
        return self.velocity(xt, emb).float()


@dataclass(frozen=True)
class Arm:
    """What differs from the base recipe, and why it is asked."""

    question: str
    training: dict = field(default_factory=dict)
    channels: tuple[int, ...] = (64, 96, 128)
    network: type = ConditionalUNet
    drawn_in: str = "auto"  # the number format of its samples; noise itself cannot be in bfloat16

    def start(self, num_updates: int) -> TrainState:
        seed_everything(0)
        model = self.network(channels=self.channels)
        return TrainState(model, TrainConfig(num_updates=num_updates, **BASE | self.training))


ARMS = {
    "base": Arm("velocity inside, its squared error, logit-normal t, rate 2e-3"),
    "noise inside": Arm(
        "the noise inside and its squared error, as in DDPM",
        {"loss_weighting": "none"},
        network=NoiseInside,
        drawn_in="float32",
    ),
    "uniform t": Arm("t uniform", {"time_distribution": "uniform"}),
    "deeper": Arm("one more level, at 2 x 2, as many FLOPs", channels=(64, 96, 128, 128)),
    "wider below": Arm("narrow above and wide below, as many FLOPs", channels=(48, 96, 192)),
    "rate 1e-3": Arm("half the learning rate", {"learning_rate": 1e-3}),
    "batch 64": Arm("twice as many updates of half the pictures", {"batch_size": 64}),
    "second seed": Arm("the base recipe again: what chance alone does", {"seed": 1}),
}


def seconds_per_update(state: TrainState, data, count: int = 6) -> float:
    """The seconds an update takes, over `count` of them."""
    steps = train(state, DiffusionProcess(), ResidentLoader(data, state.config.batch_size))
    next(steps)
    since = time.perf_counter()
    for _ in range(count):
        next(steps)
    return (time.perf_counter() - since) / count


def plan(folder: Path, minutes: float) -> None:
    """Write how many updates each arm gets."""
    data = load_cifar10(source="bundled")
    ways = {
        name: lambda arm=arm: seconds_per_update(arm.start(100), data) for name, arm in ARMS.items()
    }
    seconds = in_turns(ways, 5)
    updates = {name: round(minutes * 60 / each) for name, each in seconds.items()}
    for name in updates:  # the same network on the same batches costs the same
        arm = ARMS[name]
        if arm.channels == ARMS["base"].channels and "batch_size" not in arm.training:
            updates[name] = updates["base"]
    folder.mkdir(parents=True, exist_ok=True)
    written = {"minutes": minutes, "updates": updates, "seconds_per_update": seconds}
    (folder / "plan.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    print(json.dumps(written, indent=1))


def train_arm(folder: Path, name: str) -> None:
    """Train one arm as planned, and note the minutes it took."""
    updates = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["updates"][name]
    state = ARMS[name].start(updates)
    loader = ResidentLoader(load_cifar10(), state.config.batch_size, state.config.seed)
    steps = train(state, DiffusionProcess(), loader)
    since = time.monotonic()
    for _ in checkpointed(steps, state, folder / name, every_seconds=300):
        pass
    minutes = (time.monotonic() - since) / 60
    (folder / name / "minutes.json").write_text(json.dumps(minutes), encoding="utf-8")
    print(
        f"{name}: {updates} updates, {minutes:.1f} minutes, loss {state.losses[-100:].mean():.4f}"
    )


def score_arm(folder: Path, name: str, weights: str = "ema") -> dict:
    """The judge's scores of an arm's averaged or raw weights, kept in its folder."""
    path = folder / name / f"scores_{weights}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    state = load_checkpoint(folder / name, model=ARMS[name].start(1).model)
    model = {"ema": state.ema.model, "raw": state.model}[weights]
    labels = torch.arange(SAMPLES) % 10
    with autocast(state.device, ARMS[name].drawn_in):
        images = sample_conditional_images(
            model, DiffusionProcess(), labels, guidance_scale=GUIDANCE, num_steps=STEPS, seed=0
        )
    scores = score(images, labels, judge=load_judge())
    seen = state.index * state.config.batch_size
    scores |= {"arm": name, "weights": weights, "images_seen": seen}
    path.write_text(json.dumps(scores, indent=1), encoding="utf-8")
    return scores


def score_all(folder: Path, write: bool) -> None:
    """Score each arm that is trained, in both weights for the base, and print the table."""
    scores = [score_arm(folder, name) for name in ARMS if (folder / name / "minutes.json").exists()]
    scores.append(score_arm(folder, "base", "raw"))
    rows = [
        ["arm", "weights", "images seen", "minutes", "agreement", "judge-FD", "KID", "coverage"]
    ]
    for s in scores:
        minutes = json.loads((folder / s["arm"] / "minutes.json").read_text(encoding="utf-8"))
        seen = f"{s['images_seen']:,}"
        of_set = [f"{s[key]:.4f}" for key in ("agreement", "judge_fd", "kid", "coverage")]
        rows.append([s["arm"], s["weights"], seen, f"{minutes:.1f}", *of_set])
    figure = bars(
        {f"{s['arm']} ({s['weights']})": s["judge_fd"] for s in scores},
        "judge-FD (less is better)",
        f"{SAMPLES:,} samples at guidance scale {GUIDANCE} after ten minutes of training",
    )
    keys = {"questions": {name: arm.question for name, arm in ARMS.items()}}
    keys |= {
        "plan": json.loads((folder / "plan.json").read_text(encoding="utf-8")),
        "samples": SAMPLES,
    }
    finish("recipes", machine(), rows, keys | {"guidance_scale": GUIDANCE}, figure, write)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("plan", "train", "score"))
    parser.add_argument("arms", nargs="*", help=f"some of: {', '.join(ARMS)}")
    parser.add_argument("--out", type=Path, required=True, help="the trials' folder")
    parser.add_argument("--minutes", type=float, default=10, help="of each arm, to plan with")
    parser.add_argument("--write", action="store_true", help="keep the scores in results/")
    args = parser.parse_intermixed_args()
    if args.command == "plan":
        plan(args.out, args.minutes)
    for name in args.arms:
        {"train": train_arm, "score": score_arm}[args.command](args.out, name)
    if args.command == "score" and not args.arms:
        score_all(args.out, args.write)


if __name__ == "__main__":
    main()
