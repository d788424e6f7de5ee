"""Can the judge be trusted? Real images must score worse, the more they are corrupted."""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from cdiff_helpers.data.images import to_uint8
from cdiff_helpers.evaluation import score


def blurred(images: Tensor, sigma: float) -> Tensor:
    """uint8 images (N, 3, 32, 32) through a Gaussian of `sigma` pixels."""
    return gaussian_blur(images, [7, 7], [sigma, sigma])


def noised(images: Tensor, std: float) -> Tensor:
    """uint8 images with noise of `std`, for images in [0, 1]; always the same noise."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0), device="cpu")
    return to_uint8((images / 255 + std * noise).clamp(0, 1))


def compressed(images: Tensor, quality: int) -> Tensor:
    """uint8 images after a JPEG file of `quality`, from 100 down to 1."""
    files = []
    for image in images.permute(0, 2, 3, 1).numpy():  # (N, 3, H, W) -> (N, H, W, 3)
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="JPEG", quality=quality)
        files.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(files)).permute(0, 3, 1, 2)


def shuffled(labels: Tensor, share: float) -> Tensor:
    """The labels, a `share` of them replaced by the next class."""
    coins = torch.rand(len(labels), generator=torch.Generator().manual_seed(0), device="cpu")
    return torch.where(coins < share, (labels + 1) % 10, labels)


# Each corruption's unit, function and strengths, every one worse than the one before
CORRUPTIONS: dict[str, tuple[str, Callable, tuple[float, ...]]] = {
    "blur": ("σ in pixels", blurred, (0.5, 0.65, 0.8, 1.2)),
    "noise": ("standard deviation", noised, (0.02, 0.05, 0.1, 0.2)),
    "JPEG": ("quality", compressed, (75, 40, 20, 8)),
    "shuffled labels": ("share", shuffled, (0.1, 0.25, 0.5, 1.0)),
}


def score_corruptions(images: Tensor, labels: Tensor, name: str, **options) -> list[dict]:
    """The scores of real images (uint8) at each strength of a corruption, untouched ones first.

    Each is what `score` returns, whose options these are, with the `strength` (None at first).
    """
    _, corrupt, strengths = CORRUPTIONS[name]
    steps = [{"strength": None} | score(images, labels, **options)]
    for strength in strengths:
        if name == "shuffled labels":
            scores = score(images, corrupt(labels, strength), **options)
        else:
            scores = score(corrupt(images, strength), labels, **options)
        steps.append({"strength": strength} | scores)
    return steps
