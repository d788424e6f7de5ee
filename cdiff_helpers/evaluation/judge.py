"""The judge: a small classifier of CIFAR-10's ten classes. Home: notebook 08.

The airbench94 network (Jordan 2024, arXiv:2404.00498); `tools.models.train_judge` trains it.
"""

import json
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from cdiff_helpers.data.images import to_uint8
from cdiff_helpers.runtime import verified_bytes

JUDGE = Path(__file__).parent.parent / "bundled" / "judge"

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training set's colors


class Group(nn.Module):
    """Two 3 x 3 convolutions that start as the identity (the paper's section 3.2).

    The first halves the image: (B, C, H, W) -> (B, C', H/2, W/2).
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels, eps=1e-12, momentum=0.4)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels, eps=1e-12, momentum=0.4)
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            nn.init.dirac_(conv.weight.data[: conv.in_channels])
            norm.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class Judge(nn.Module):
    """Logits of the ten classes: images (B, 3, 32, 32) in [0, 1] -> (B, 10)."""

    mean: Tensor
    std: Tensor

    def __init__(self, widths: tuple[int, ...] = (64, 256, 256), num_classes: int = 10):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        self.config = {"widths": list(widths), "num_classes": num_classes}
        self.whiten = nn.Conv2d(3, 2 * 3 * 2 * 2, 2)  # each direction of a 2 x 2 patch, + and -
        self.whiten.weight.requires_grad_(False)
        self.groups = nn.Sequential(*map(Group, (self.whiten.out_channels, *widths), widths))
        self.head = nn.Linear(widths[-1], num_classes, bias=False)

    def features(self, images: Tensor) -> Tensor:
        h = F.gelu(self.whiten((images - self.mean) / self.std))  # (B, 24, 31, 31)
        h = self.groups(h)  # (B, 64, 15, 15) -> (B, 256, 7, 7) -> (B, 256, 3, 3)
        return F.max_pool2d(h, 3).flatten(1)  # (B, 256)

    def logits(self, features: Tensor) -> Tensor:
        return self.head(features) / 9  # the paper's scale of the logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.features(images))


@cache
def load_judge(device: str | torch.device = "cpu") -> Judge:
    """The bundled judge in eval mode on the device. Raises RuntimeError where it is damaged."""
    judge = Judge(**judge_card()["model"]).float()
    weights = bundled_tensors("judge.safetensors")
    judge.load_state_dict({name: value.float() for name, value in weights.items()})
    return judge.to(device).eval().requires_grad_(False)


@cache
def judge_card() -> dict:
    """How the judge was made, what it scores on the test set, and the digests of its files."""
    return json.loads(verified_bytes(JUDGE / "card.json"))


def bundled_tensors(name: str) -> dict[str, Tensor]:
    """The tensors of one of the judge's files; raises RuntimeError where it is damaged."""
    return load_tensors(verified_bytes(JUDGE / name))


@torch.no_grad()
def classify(judge: Judge, images: Tensor, batch_size: int = 250) -> tuple[Tensor, Tensor]:
    """The judge's features (N, 256) and class logits (N, 10) of images (N, 3, 32, 32).

    Images are uint8, or float in [0, 1] and rounded to uint8 first. The logits are the mean over
    each image and its mirror image. Computed on the judge's device; both are float32 on the CPU.
    """
    judge.eval()
    features, logits = [], []
    for batch in images.split(batch_size):
        x = quantized(batch).to(judge.mean.device)
        features.append(judge.features(x))
        logits.append((judge.logits(features[-1]) + judge(x.flip(-1))) / 2)
    return torch.cat(features).cpu(), torch.cat(logits).cpu()


def quantized(images: Tensor) -> Tensor:
    """Images, uint8 or float in [0, 1] -> float in [0, 1] that is a multiple of 1/255."""
    return (to_uint8(images) if images.is_floating_point() else images).float() / 255
