"""Is the judge to be trusted? Real pictures, spoilt step by step, must score worse at each step.

Home: notebook 08.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from cdiff_helpers.evaluation.scores import score


def blurred(images: Tensor, sigma: float) -> Tensor:
    """uint8 pictures (N, 3, 32, 32) through a Gaussian of `sigma` pixels."""
    return gaussian_blur(images, [7, 7], [sigma, sigma])


def noised(images: Tensor, std: float) -> Tensor:
    """uint8 pictures with noise of `std`, in [0, 1]'s units, always the same."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0), device="cpu")
    return ((images / 255 + std * noise).clamp(0, 1) * 255).round().to(torch.uint8)


def compressed(images: Tensor, quality: int) -> Tensor:
    """uint8 pictures after a JPEG file of `quality`, from 100 down to 1."""
    spoilt = []
    for image in images.permute(0, 2, 3, 1).numpy():  # (N, 3, H, W) -> (N, H, W, 3)
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="JPEG", quality=quality)
        spoilt.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(spoilt)).permute(0, 3, 1, 2)


def shuffled(labels: Tensor, share: float) -> Tensor:
    """The labels, a `share` of them moved on by one class."""
    chosen = (
        torch.rand(len(labels), generator=torch.Generator().manual_seed(0), device="cpu") < share
    )
    return torch.where(chosen, (labels + 1) % 10, labels)


# What is spoilt: its unit, how, and how much; each step is worse than the one before
LADDERS: dict[str, tuple[str, Callable, tuple[float, ...]]] = {
    "blur": ("σ in pixels", blurred, (0.5, 0.65, 0.8, 1.2)),
    "noise": ("standard deviation", noised, (0.02, 0.05, 0.1, 0.2)),
    "JPEG": ("quality", compressed, (75, 40, 20, 8)),
    "shuffled labels": ("share", shuffled, (0.1, 0.25, 0.5, 1.0)),
}


def climb(images: Tensor, labels: Tensor, ladder: str, **options) -> list[dict]:
    """The scores of real pictures (uint8) at each step of a ladder, unspoilt first.

    Each is `score`'s answer, whose options these are, with the step's `strength` (None at first).
    """
    _, spoil, strengths = LADDERS[ladder]
    steps = [{"strength": None} | score(images, labels, **options)]
    for strength in strengths:
        of_labels = ladder == "shuffled labels"
        seen = images if of_labels else spoil(images, strength)
        asked = spoil(labels, strength) if of_labels else labels
        steps.append({"strength": strength} | score(seen, asked, **options))
    return steps
