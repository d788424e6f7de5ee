"""The judge: a small classifier of CIFAR-10's ten classes that looks at pictures as we do.

Home: notebook 08. The airbench94 network (Jordan 2024, arXiv:2404.00498, section 3), which learns
CIFAR-10 in minutes; `tools/train_judge.py` trains it.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from cdiff_helpers.runtime import verified_bytes

JUDGE = Path(__file__).parent.parent / "bundled" / "judge"

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training set's colours
SMALLEST_VARIANCE = 5e-4  # of a direction of the patches, so that none is blown up beyond reason


class Group(nn.Module):
    """Two 3 x 3 convolutions, the first halving the picture: (B, C, H, W) -> (B, C', H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = convolution(in_channels, out_channels)
        self.norm1 = normalisation(out_channels)
        self.conv2 = convolution(out_channels, out_channels)
        self.norm2 = normalisation(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class Judge(nn.Module):
    """Logits of the ten classes: pictures (B, 3, 32, 32) in [0, 1] -> (B, 10).

    `features` gives what the last layer sees: (B, widths[-1]).
    """

    def __init__(self, widths: tuple[int, ...] = (64, 256, 256), num_classes: int = 10):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        self.config = {"widths": list(widths), "num_classes": num_classes}
        self.whiten = nn.Conv2d(3, 2 * 3 * 2 * 2, 2)  # each direction of a 2 x 2 patch, + and -
        self.whiten.weight.requires_grad_(False)
        pairs = zip((self.whiten.out_channels, *widths), widths)
        self.groups = nn.Sequential(*(Group(*pair) for pair in pairs))
        self.head = nn.Linear(widths[-1], num_classes, bias=False)

    def features(self, images: Tensor) -> Tensor:
        h = F.gelu(self.whiten((images - self.mean) / self.std))  # (B, 24, 31, 31)
        h = self.groups(h)  # (B, 64, 15, 15) -> (B, 256, 7, 7) -> (B, 256, 3, 3)
        return F.max_pool2d(h, 3).flatten(1)  # (B, 256)

    def verdict(self, features: Tensor) -> Tensor:
        return self.head(features) / 9  # the paper's scale of the logits

    def forward(self, images: Tensor) -> Tensor:
        return self.verdict(self.features(images))


def convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3 x 3 convolution that starts by handing its input on (the paper's section 3.2)."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight.data[:in_channels])
    return conv


def normalisation(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation that learns a shift but no scale, and follows the last few batches."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


def whitening_filters(images: Tensor) -> Tensor:
    """Filters that make the 2 x 2 patches of normalised pictures uncorrelated: (24, 3, 2, 2).

    The eigenvectors of the patches' covariance, each over the root of its variance, and their
    negatives (the paper's section 3.1).
    """
    patches = F.unfold(images, 2).transpose(1, 2).flatten(0, 1)  # (B, 3, H, W) -> (B*31*31, 12)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    scaled = (directions / (variances + SMALLEST_VARIANCE).sqrt()).T.flip(0)  # the largest first
    filters = scaled.reshape(-1, 3, 2, 2)
    return torch.cat([filters, -filters])


@cache
def load_judge(device: str | torch.device = "cpu") -> Judge:
    """The bundled judge in eval mode on the device. Raises RuntimeError where it is damaged."""
    card = judge_card()
    tensors = bundled_tensors("judge.safetensors", card)
    judge = Judge(**card["model"]).float()
    judge.load_state_dict({name: value.float() for name, value in tensors.items()})
    return judge.to(device).eval().requires_grad_(False)


@cache
def judge_card() -> dict:
    """How the judge was made, what it scores on the test set, and the digests of its files."""
    return json.loads(verified_bytes(JUDGE / "card.json"))


def bundled_tensors(name: str, card: dict) -> dict[str, Tensor]:
    """The tensors of one of the judge's files, if its digest is the card's; else RuntimeError."""
    content = verified_bytes(JUDGE / name)
    if hashlib.sha256(content).hexdigest() != card["sha256"][name]:
        raise RuntimeError(
            f"{JUDGE / name} is not the card's; expected the file that it describes: install the "
            "package again"
        )
    return load_tensors(content)


@torch.no_grad()
def look(judge: Judge, images: Tensor, batch_size: int = 250) -> tuple[Tensor, Tensor]:
    """What the judge makes of pictures: their features (N, 256) and class logits (N, 10).

    The logits are the mean over each picture and its mirror image; the features are the picture's.
    Pictures (N, 3, 32, 32): uint8, or float in [0, 1], which are rounded to 256 levels first, as a
    file would be. The judge's device computes; both answers are float32 on the CPU.
    """
    judge.eval()
    device = judge.mean.device
    features, logits = [], []
    for batch in images.split(batch_size):
        seen = as_seen(batch).to(device)
        features.append(judge.features(seen))
        logits.append((judge.verdict(features[-1]) + judge(seen.flip(-1))) / 2)
    return torch.cat(features).cpu(), torch.cat(logits).cpu()


def as_seen(images: Tensor) -> Tensor:
    """Pictures as a screen shows them: uint8, or float in [0, 1] -> float in 256 levels."""
    if images.is_floating_point():
        images = (images * 255).round()
    return images.float() / 255
