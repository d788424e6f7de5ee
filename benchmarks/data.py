"""Batches a second: python -m benchmarks.data [--quick] [--write]

ResidentLoader against DataLoaders with 0 and 2 workers: the usual torchvision data set with its
transforms, as in most code for CIFAR-10, and the course's own make_loader.
"""

import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip, ToTensor

from benchmarks.common import bars, finish, in_turns, machine, options
from cdiff_helpers.data import ImageSet, ResidentLoader, load_cifar10, make_loader

BATCH = 128


class Usual(Dataset):
    """What torchvision's CIFAR10 does for a picture: PIL, flip, ToTensor, Normalize."""

    transform = Compose([RandomHorizontalFlip(), ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)])

    def __init__(self, data: ImageSet):
        self.pixels = np.ascontiguousarray(data.images.permute(0, 2, 3, 1).numpy())
        self.labels = data.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[i])), self.labels[i]


def rate(loader, count: int) -> float:
    """Pictures a second over one pass, workers' start included."""
    start = time.perf_counter()
    for x0, _ in loader:
        assert x0.dtype == torch.float32
    return count / (time.perf_counter() - start)


def main() -> None:
    args = options(__doc__)
    data, device = load_cifar10(), "cuda" if torch.cuda.is_available() else "cpu"
    count = 6_400 if args.quick else 25_600
    part = ImageSet(data.images[:count], data.labels[:count], data.classes, data.source)
    usual = {"shuffle": True, "batch_size": BATCH}
    loaders = {
        "DataLoader, torchvision": DataLoader(Usual(part), **usual),
        "DataLoader, torchvision, 2 workers": DataLoader(Usual(part), num_workers=2, **usual),
        "make_loader": make_loader(part, BATCH),
        "make_loader, 2 workers": make_loader(part, BATCH, num_workers=2),
        "ResidentLoader": ResidentLoader(part, BATCH, device=device, flip=True),
    }
    ways = {name: lambda loader=loader: rate(loader, count) for name, loader in loaders.items()}
    rates = in_turns(ways, rounds=3 if args.quick else 7)
    resident = rates["ResidentLoader"]
    rows = [["loader", "pictures a second", "ResidentLoader is faster by"]]
    rows += [[name, f"{value:,.0f}", f"{resident / value:.1f}"] for name, value in rates.items()]
    keys = {
        "resident_vs_dataloader": resident / rates["DataLoader, torchvision"],
        "resident_vs_dataloader_2_workers": resident / rates["DataLoader, torchvision, 2 workers"],
        "resident_vs_make_loader": resident / rates["make_loader"],
    }
    figure = bars(rates, "pictures a second", f"batches of {BATCH}, shuffled, flipped, in [-1, 1]")
    finish("data", machine("torchvision"), rows, keys, figure, args.write)


if __name__ == "__main__":
    main()
