"""What thirty minutes are worth, against diffusers' training example, by the same judge.

python -m benchmarks.quality train --out FOLDER [--minutes 30]
python -m benchmarks.quality score --out FOLDER [--write]

`train` trains both on all of CIFAR-10, in turns of a minute, so that a slow minute of the machine
hits both, until each has had its minutes: the two-core record's run, again from its first update
and with its own plan, and diffusers' `UNet2DModel` with the recipe of its example
`train_unconditional.py` (AdamW 1e-4, cosine with 500 steps of warm-up over as many updates as its
minutes hold, batches of 16, linear schedule, EMA), with classes and mirrored pictures, and about as
many parameters as ours. What our run has after 1, 2, 5, 10, … minutes is kept on the way. `score`
draws with its DDIM in 50 steps, and with ours in the default solver's; the same number of pictures
of the same classes.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm.auto import tqdm

from benchmarks.common import bars, finish, machine
from benchmarks.training import DEVICE, diffusers_network
from cdiff_helpers.data import ResidentLoader, load_cifar10, to_image_range
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.evaluation import score
from cdiff_helpers.reference import load_record
from cdiff_helpers.runtime import seed_everything, write_atomically
from cdiff_helpers.sampling import sample_conditional_images, seeded_noise
from cdiff_helpers.training import (
    RECIPE,
    TrainConfig,
    TrainState,
    autocast,
    endless,
    tensor_bytes,
    train,
)
from cdiff_helpers.unet import ConditionalUNet

CHANNELS, LAYERS, BATCH = (64, 96, 128), 1, 16
SNAPSHOT_MINUTES = (1, 2, 5, 10, 20, 30, 40, 60)
SAMPLES = 2_000
KEYS = ("agreement", "judge_fd", "kid", "coverage")


def peer_network():
    """diffusers' network, with about our number of parameters."""
    return diffusers_network(CHANNELS, LAYERS).to(DEVICE)


class Trainee:
    """Someone who trains: `steps` does an update a turn, `seconds` were spent, `updates` done."""

    def __init__(self, steps: Iterator, batch_size: int):
        self.steps, self.batch_size = steps, batch_size
        self.seconds, self.updates = 0.0, 0

    def train_until(self, seconds: float) -> None:
        """Go on until so many seconds were spent in all; only this time counts."""
        while self.seconds < seconds:
            since = time.monotonic()
            if next(self.steps, "over") == "over":
                raise RuntimeError("the plan was done before its minutes were over; plan more")
            self.seconds += time.monotonic() - since
            self.updates += 1

    def record(self) -> dict:
        """How long, and how much was seen."""
        seen = self.updates * self.batch_size
        return {"minutes": self.seconds / 60, "updates": self.updates, "images_seen": seen}


def train_both(folder: Path, minutes: float, source: str) -> None:
    """Both in turns; kept are what ours has at the snapshot minutes, and theirs at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    data, snapshots = load_cifar10(source=source), []
    seed_everything(0)
    recorded = load_record("two_cores")
    config = TrainConfig(num_updates=recorded["training"]["num_updates"], **RECIPE)
    state = TrainState(ConditionalUNet().to(DEVICE), config)
    loader = ResidentLoader(data, state.config.batch_size, state.config.seed, DEVICE)
    ours = Trainee(train(state, DiffusionProcess().to(DEVICE), loader), loader.batch_size)
    seed_everything(0)
    peer = Peer(ResidentLoader(data, BATCH, 0, DEVICE), minutes)
    theirs = Trainee(peer.steps(), BATCH)
    turns = [m for m in range(1, math.ceil(minutes)) if m < minutes] + [minutes]
    for minute in tqdm(turns, desc="minutes of each", mininterval=30):
        ours.train_until(60 * minute)
        if minute in (*SNAPSHOT_MINUTES, minutes):
            weights = f"ours_{minute:03.0f}_minutes.safetensors"
            write_atomically(folder / weights, tensor_bytes(state.ema.model, state.index))
            snapshots.append(ours.record() | {"weights": weights})
        theirs.train_until(60 * minute)
    write_atomically(folder / "peer.safetensors", tensor_bytes(peer.averaged(), theirs.updates))
    record = {"snapshots": snapshots, "peer": theirs.record() | {"planned": peer.planned}}
    losses = state.losses.tolist()
    record |= {"repeats_the_card": losses == recorded["losses"][: len(losses)]}
    write_atomically(folder / "record.json", json.dumps(record, indent=1).encode())
    print(json.dumps(record))


class Peer:
    """The example's loop, with as many updates planned as a trial says will fit."""

    def __init__(self, loader: ResidentLoader, minutes: float):
        from diffusers.optimization import get_cosine_schedule_with_warmup
        from diffusers.training_utils import EMAModel

        self.model, self.batches = peer_network().train(), endless(loader)
        seconds = seconds_per_update(self.model, peer_loss(), self.batches)
        self.planned = max(1, round(60 * minutes / seconds))
        parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(
            parameters, lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6
        )
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, 500, self.planned)
        self.ema = EMAModel(parameters, 0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)

    def steps(self) -> Iterator[None]:
        """An update a turn, without end: past the plan its rate is 0."""
        loss = peer_loss()
        for x0, y in self.batches:
            loss(self.model, x0, y).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
            self.ema.step(self.model.parameters())
            yield

    def averaged(self) -> torch.nn.Module:
        """The network with the averaged weights."""
        self.ema.copy_to(self.model.parameters())
        return self.model


def peer_loss():
    """The example's loss: the noise's squared error, its scheduler's linear schedule."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")

    def loss(model, x0: Tensor, y: Tensor) -> Tensor:
        noise = torch.randn_like(x0)
        t = torch.randint(0, 1000, (len(x0),), device=x0.device)
        with autocast(DEVICE):
            eps = model(scheduler.add_noise(x0, noise, t), t, y)
        return torch.nn.functional.mse_loss(eps.float(), noise)

    return loss


def seconds_per_update(model, loss, batches, count: int = 20) -> float:
    """A trial on a copy's gradients alone: the weights stay."""
    for i in range(count):
        if i == 2:  # the first ones prepare
            since = time.monotonic()
        loss(model, *next(batches)).backward()
    model.zero_grad()
    return (time.monotonic() - since) / (count - 2)


@torch.no_grad()
def draw_peer(model, labels: Tensor, batch_size: int = 100) -> Tensor:
    """diffusers' DDIM in 50 steps, picture i from seed i: (N, 3, 32, 32) in [0, 1]."""
    from diffusers import DDIMScheduler

    images = []
    for start in tqdm(range(0, len(labels), batch_size), desc="diffusers, DDIM 50"):
        scheduler = DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear")
        scheduler.set_timesteps(50)
        y = labels[start : start + batch_size].to(DEVICE)
        xt = seeded_noise(start, len(y), DEVICE)()
        for t in scheduler.timesteps:
            with autocast(DEVICE):
                eps = model(xt, t.expand(len(y)).to(DEVICE), y)
            xt = scheduler.step(eps.float(), t, xt).prev_sample
        images.append(to_image_range(xt).cpu())
    return torch.cat(images)


def score_both(folder: Path, write: bool) -> None:
    """Draw with both, ask the judge, print the table."""
    labels = torch.arange(SAMPLES) % 10
    model = peer_network().eval()
    model.load_state_dict(load_file(folder / "peer.safetensors"))
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    drawn = {"diffusers' example, DDIM 50": draw_peer(model, labels)}
    own = ConditionalUNet().eval()
    own.load_state_dict(load_file(folder / record["snapshots"][-1]["weights"]))
    process = DiffusionProcess().to(DEVICE)
    for scale in (1.0, 1.5):
        with autocast(DEVICE):
            drawn[f"ours, guidance scale {scale}"] = sample_conditional_images(
                own.to(DEVICE), process, labels, guidance_scale=scale
            )
    scores = {name: score(images, labels) for name, images in drawn.items()}
    rows = [["model", *KEYS]]
    rows += [[name, *(f"{s[key]:.4f}" for key in KEYS)] for name, s in scores.items()]
    values = {name: s["judge_fd"] for name, s in scores.items()}
    title = f"{SAMPLES:,} samples after {record['peer']['minutes']:.0f} minutes of training"
    figure = bars(values, "judge-FD (less is better)", title)
    counts = [sum(p.numel() for p in network.parameters()) for network in (model, own)]
    keys = {"record": record, "parameters": {"diffusers": counts[0], "ours": counts[1]}}
    first, *others = values
    keys["judge_fd_ratio"] = {name: values[name] / values[first] for name in others}
    finish("quality", machine("diffusers"), rows, keys, figure, write)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("train", "score"))
    parser.add_argument("--out", type=Path, required=True, help="a folder for the weights")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--source", default="auto", help="of the training pictures")
    parser.add_argument("--write", action="store_true", help="keep the scores in results/")
    args = parser.parse_args()
    if args.command == "train":
        train_both(args.out, args.minutes, args.source)
    else:
        score_both(args.out, args.write)


if __name__ == "__main__":
    main()
