"""Pictures in memory: their range, their labels, their classes."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def to_model_range(images: Tensor) -> Tensor:
    """Pictures as the network sees them: uint8 in 0 … 255 or float in [0, 1] -> float in [-1, 1].

    Any shape. Raises ValueError for floats outside [0, 1], such as pictures scaled already.
    """
    check_tensor(images)
    if not images.is_floating_point():
        return images.float().div_(255).mul_(2).sub_(1)  # in place: one pass less over a batch each
    if images.numel() and not 0 <= images.min() <= images.max() <= 1:
        raise ValueError(
            f"the images lie in [{images.min():.3g}, {images.max():.3g}]; expected [0, 1], or "
            "uint8 in 0 … 255. Were they scaled before? Use to_image_range to go back."
        )
    return images * 2 - 1


def to_image_range(x: Tensor) -> Tensor:
    """Pictures as eyes see them: float in [-1, 1] -> float in [0, 1], clamped."""
    check_tensor(x)
    if not x.is_floating_point():
        raise ValueError(f"x has dtype {x.dtype}; expected floats in [-1, 1]. Are they scaled yet?")
    return ((x + 1) / 2).clamp(0, 1)


def to_uint8(images: Tensor) -> Tensor:
    """Images float in [0, 1] -> uint8 in 0 … 255, rounded."""
    return (images * 255).round().to(torch.uint8)


def check_tensor(images: Tensor) -> None:
    """Raise ValueError unless these are pictures in a tensor."""
    if not isinstance(images, Tensor):
        raise ValueError(
            f"the images are a {type(images).__name__}; expected a torch.Tensor. Try "
            "torch.as_tensor(…), or torchvision's pil_to_tensor for a PIL image."
        )


class ImageSet(Dataset):
    """Pictures and labels in memory: len(data), data[i] -> (x0 (3, 32, 32) in [-1, 1], y int).

    `images` is uint8 (N, 3, 32, 32), `labels` int64 (N,), `classes` the name of each label and
    `source` where the pictures came from.
    """

    def __init__(self, images: Tensor, labels: Tensor, classes: Sequence[str], source: str):
        self.images, self.labels = images, labels
        self.classes, self.source = tuple(classes), source

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return to_model_range(self.images[i]), int(self.labels[i])


def class_indices(classes: Sequence[str | int]) -> list[int]:
    """The labels 0 … 9 of classes given by name or index; raises ValueError for any other."""
    one = not isinstance(classes, Iterable) or isinstance(classes, str)
    classes = [classes] if one else list(classes)
    known = ", ".join(f"{i} {name}" for i, name in enumerate(CLASS_NAMES))
    labels = []
    for name in classes:
        if isinstance(name, str) and name in CLASS_NAMES:
            labels.append(CLASS_NAMES.index(name))
        elif not isinstance(name, str | bool) and name in range(len(CLASS_NAMES)):
            labels.append(int(name))
        else:
            raise ValueError(f"there is no class {name!r}; expected names or indices of: {known}.")
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(f"classes is {classes}; expected at least one, each of them once.")
    return labels
