"""What thirty minutes are worth, against diffusers' training example, by the same judge.

python -m benchmarks.quality train --out FOLDER [--minutes 30]
python -m benchmarks.quality score --out FOLDER --ours EMA_WEIGHTS [--write]

`train` trains diffusers' `UNet2DModel` on all of CIFAR-10 with the recipe of its example
`train_unconditional.py` (AdamW 1e-4, cosine with 500 steps of warm-up, batches of 16, linear
schedule, EMA), with classes and mirrored pictures, and about as many parameters as ours. `score`
draws with its DDIM in 50 steps, and with ours, whose weights tools/train_reference.py leaves after
30 minutes, in the default solver's; the same number of pictures of the same classes.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from benchmarks.common import bars, finish, machine
from benchmarks.training import DEVICE, diffusers_network
from cdiff_helpers.data import ResidentLoader, load_cifar10, to_image_range
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.evaluation import score
from cdiff_helpers.runtime import seed_everything
from cdiff_helpers.sampling import sample_conditional_images, seeded_noise
from cdiff_helpers.training import autocast, endless
from cdiff_helpers.unet import ConditionalUNet

CHANNELS, LAYERS, BATCH = (64, 96, 128), 1, 16
SAMPLES = 2_000
KEYS = ("agreement", "judge_fd", "kid", "coverage")


def peer():
    """diffusers' network, with about our number of parameters."""
    return diffusers_network(CHANNELS, LAYERS).to(DEVICE)


def train_peer(folder: Path, minutes: float, source: str) -> None:
    """The example's loop for so many minutes; as many updates as a trial says will fit."""
    from diffusers.optimization import get_cosine_schedule_with_warmup
    from diffusers.training_utils import EMAModel

    seed_everything(0)
    model = peer().train()
    batches = endless(ResidentLoader(load_cifar10(source=source), BATCH, 0, DEVICE))
    loss = peer_loss()
    planned = max(1, round(60 * minutes / seconds_per_update(model, loss, batches)))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, 500, planned)
    ema = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    since, done = time.monotonic(), 0
    for _ in tqdm(range(planned), mininterval=30):
        loss(model, *next(batches)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        ema.step(model.parameters())
        done += 1
        if time.monotonic() - since > 60 * minutes:
            break
    record = {"minutes": (time.monotonic() - since) / 60, "updates": done, "planned": planned}
    ema.copy_to(model.parameters())
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "peer.safetensors")
    (folder / "peer.json").write_text(json.dumps(record | {"images_seen": done * BATCH}))
    print(record)


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


def score_both(folder: Path, ours: Path, write: bool) -> None:
    """Draw with both, ask the judge, print the table."""
    labels = torch.arange(SAMPLES) % 10
    model = peer().eval()
    model.load_state_dict(load_file(folder / "peer.safetensors"))
    record = json.loads((folder / "peer.json").read_text())
    drawn = {"diffusers' example, DDIM 50": draw_peer(model, labels)}
    own = ConditionalUNet().eval()
    own.load_state_dict(load_file(ours))
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
    title = f"{SAMPLES:,} samples after {record['minutes']:.0f} minutes of training"
    figure = bars(values, "judge-FD (less is better)", title)
    counts = [sum(p.numel() for p in network.parameters()) for network in (model, own)]
    keys = {"peer": record, "parameters": {"diffusers": counts[0], "ours": counts[1]}}
    keys["judge_fd_ratio"] = values["ours, guidance scale 1.0"] / next(iter(values.values()))
    finish("quality", machine("diffusers"), rows, keys, figure, write)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("train", "score"))
    parser.add_argument("--out", type=Path, required=True, help="the peer's folder")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--source", default="auto", help="of the pictures")
    parser.add_argument("--ours", type=Path, help="our averaged weights after as many minutes")
    parser.add_argument("--write", action="store_true", help="keep the scores in results/")
    args = parser.parse_args()
    if args.command == "train":
        train_peer(args.out, args.minutes, args.source)
    else:
        score_both(args.out, args.ours, args.write)


if __name__ == "__main__":
    main()
