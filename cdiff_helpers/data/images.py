"""Images in memory: their range, their labels, their classes."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cdiff_helpers import validation

CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def to_model_range(images: Tensor) -> Tensor:
    """Images as the network sees them: uint8 in 0 … 255 or float in [0, 1] -> float in [-1, 1].

    Any shape. Raises ValueError for floats outside [0, 1], such as images scaled already.
    """
    validation.tensor("images", images)
    if not images.is_floating_point():
        return images.float().div_(255).mul_(2).sub_(1)  # in place: one pass less over a batch each
    if images.numel() and not 0 <= images.min() <= images.max() <= 1:
        remedy = "Were they scaled before? Use to_image_range to go back."
        found = f"the images lie in [{images.min():.3g}, {images.max():.3g}]"
        validation.refuse(found, "[0, 1], or uint8 in 0 … 255", remedy)
    return images * 2 - 1


def to_image_range(x: Tensor) -> Tensor:
    """Images for the eye: float in [-1, 1] -> float in [0, 1], clamped."""
    return ((floats("x", x, "[-1, 1]") + 1) / 2).clamp(0, 1)


def to_uint8(images: Tensor) -> Tensor:
    """Images as files hold them: float in [0, 1] -> uint8 in 0 … 255, rounded."""
    return (floats("images", images, "[0, 1]") * 255).round().to(torch.uint8)


def floats(name: str, x: Tensor, expected: str) -> Tensor:
    """The tensor, if it holds floats; raises ValueError otherwise."""
    if not validation.tensor(name, x).is_floating_point():
        validation.refuse(f"{name} has dtype {x.dtype}", f"floats in {expected}")
    return x


class ImageSet(Dataset):
    """Images and labels in memory: len(data), data[i] -> (x0 (3, 32, 32) in [-1, 1], y int).

    `images` is uint8 (N, 3, 32, 32), `labels` int64 (N,), `classes` the name of each label and
    `source` where the images came from.
    """

    def __init__(self, images: Tensor, labels: Tensor, classes: Sequence[str], source: str):
        self.images, self.labels = images, labels
        self.classes, self.source = tuple(classes), source

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return to_model_range(self.images[i]), int(self.labels[i])


def class_indices(classes: Any) -> list[int]:
    """The labels 0 … 9 of classes given by name or index; raises ValueError for any other."""
    one = isinstance(classes, str) or not isinstance(classes, Iterable)
    labels = [class_index(name) for name in ([classes] if one else classes)]
    if not labels or len(set(labels)) < len(labels):
        validation.refuse(f"classes is {classes}", "at least one, each of them once")
    return labels


def class_index(name: Any) -> int:
    """The label of one class."""
    if isinstance(name, str) and name in CLASS_NAMES:
        return CLASS_NAMES.index(name)
    try:
        return validation.whole("class", name, 0, len(CLASS_NAMES) - 1)
    except ValueError:
        known = ", ".join(f"{i} {known}" for i, known in enumerate(CLASS_NAMES))
        validation.refuse(f"there is no class {name!r}", f"names or indices of: {known}")
