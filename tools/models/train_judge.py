"""Train the judge.

python -m tools.models.train_judge --out FOLDER [--epochs 14] [--seed 0]

The recipe of airbench94 (Jordan 2024, arXiv:2404.00498, section 3) but for the averaging: in place
of its lookahead, the course's EMA. About twenty minutes on two CPU cores. Writes the averaged
weights and what they score on all test images; `bundle_judge` makes the bundled files.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from cdiff_helpers.data import ResidentLoader, load_cifar10, to_image_range
from cdiff_helpers.evaluation.judge import Judge, classify
from cdiff_helpers.runtime import pick_device, seed_everything, write_atomically
from cdiff_helpers.training import EMA, autocast, tensor_bytes
from tools.models.records import provenance

BATCH_SIZE = 512
MOMENTUM = 0.85
LEARNING_RATE = 11.5 / (1024 * (1 + 1 / (1 - MOMENTUM)))  # per picture, as the paper counts it
WEIGHT_DECAY = 0.0153 / (1024 * (1 + 1 / (1 - MOMENTUM)))  # per picture and update
BIAS_SCALE = 64  # of the normalisations' shifts' learning rate
LABEL_SMOOTHING = 0.2
SHIFT = 2  # pixels, at most
WHITENING_EPOCHS = 3  # after which the whitening's bias stays
EMA_DECAY = 0.98
SMALLEST_VARIANCE = 5e-4  # added to each direction's, so that none is amplified too much


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture moved by up to SHIFT pixels each way, its border mirrored: the same shape."""
    B, C, H, W = images.shape
    padded = F.pad(images, (SHIFT,) * 4, "reflect")
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, B), generator=generator)
    rows = (down[:, None] + torch.arange(H))[:, None, :, None].to(images.device)
    columns = (right[:, None] + torch.arange(W))[:, None, None, :].to(images.device)
    each = torch.arange(B, device=images.device)[:, None, None, None]
    return padded[each, torch.arange(C, device=images.device)[:, None, None], rows, columns]


def whitening_filters(images: Tensor) -> Tensor:
    """Filters that make the 2 x 2 patches of normalized images uncorrelated: (24, 3, 2, 2).

    The eigenvectors of the patches' covariance, each over the root of its variance, and their
    negatives (the paper's section 3.1).
    """
    patches = F.unfold(images, 2).transpose(1, 2).flatten(0, 1)  # (B, 3, H, W) -> (B*31*31, 12)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    scaled = (directions / (variances + SMALLEST_VARIANCE).sqrt()).T.flip(0)  # the largest first
    filters = scaled.reshape(-1, 3, 2, 2)
    return torch.cat([filters, -filters])


def make_optimizer(judge: Judge) -> torch.optim.SGD:
    """Nesterov's SGD; the decay does not depend on the learning rate."""
    shifts = [p for m in judge.modules() if isinstance(m, nn.BatchNorm2d) for p in [m.bias]]
    known = {id(p) for p in shifts}
    others = [p for p in judge.parameters() if p.requires_grad and id(p) not in known]
    decay, lr = WEIGHT_DECAY * BATCH_SIZE, LEARNING_RATE * BATCH_SIZE
    fast = lr * BIAS_SCALE
    groups = [
        {"params": shifts, "lr": fast, "weight_decay": decay / fast},
        {"params": others, "lr": lr, "weight_decay": decay / lr},
    ]
    return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)


def train(judge: Judge, loader: ResidentLoader, epochs: int, seed: int) -> EMA:
    """Train the judge; its averaged weights."""
    device = next(judge.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    optimizer, ema = make_optimizer(judge), EMA(judge, EMA_DECAY)
    total = epochs * len(loader)
    triangle = np.interp(np.arange(total + 1), [0, int(0.23 * total), total], [0.2, 1, 0.07])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, triangle.__getitem__)
    with tqdm(total=total, mininterval=10) as progress:
        for epoch in range(epochs):
            judge.whiten.bias.requires_grad_(epoch < WHITENING_EPOCHS)
            for x0, y in loader:
                images = shifted(to_image_range(x0), generator)
                images = images.contiguous(memory_format=torch.channels_last)
                with autocast(device):
                    logits = judge(images)
                loss = F.cross_entropy(logits.float(), y, label_smoothing=LABEL_SMOOTHING)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                ema.update(judge)
                progress.update()
            progress.set_postfix(epoch=epoch + 1, loss=f"{loss.item():.3f}")
    return ema


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    parser.add_argument("--root", help="folder of the data set (default: the course folder's)")
    parser.add_argument("--source", default="auto", help="of the pictures")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    device = pick_device()
    seed_everything(args.seed)
    data = load_cifar10(args.root, source=args.source)
    judge = Judge()
    first = (data.images[:5_000].float() / 255 - judge.mean) / judge.std
    judge.whiten.weight.data.copy_(whitening_filters(first))
    judge = judge.to(device, memory_format=torch.channels_last)
    since = time.monotonic()
    loader = ResidentLoader(data, BATCH_SIZE, args.seed, device)
    ema = train(judge.train(), loader, args.epochs, args.seed)
    seconds = time.monotonic() - since
    test = load_cifar10(args.root, train=False, source=args.source)
    right = classify(ema.model, test.images)[1].argmax(1).eq(test.labels).sum().item()
    record = provenance(device) | {
        "seed": args.seed,
        "epochs": args.epochs,
        "minutes": seconds / 60,
        "test_right": right,
        "test_images": len(test),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out / "judge.safetensors", tensor_bytes(ema.model, args.epochs))
    write_atomically(args.out / "record.json", json.dumps(record, indent=2).encode())
    print(f"{right} of {len(test)} test images right, {seconds / 60:.1f} minutes of training")


if __name__ == "__main__":
    main()
