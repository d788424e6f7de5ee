"""Batches in an order that the seed and the epoch give, and a resumed run can go on with."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from cdiff_helpers import validation
from cdiff_helpers.data.images import ImageSet, to_model_range
from cdiff_helpers.runtime import pick_device


def worker_init_fn(worker_id: int) -> None:
    """Seed Python's and numpy's generators in a DataLoader's worker, as torch's own is seeded.

    torch gives worker k the seed (base + k), and draws the base from the loader's generator.
    """
    seed = torch.initial_seed() % 2**32  # numpy takes 32 bits
    random.seed(seed)
    np.random.seed(seed)


class EpochShuffle(Sampler):
    """Every index once, in an order that depends on the seed and the epoch alone.

    Each pass is the next epoch; `set_epoch` goes to a chosen one, which is how a resumed run gets
    the order it would have had.
    """

    def __init__(self, length: int, seed: int):
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = epoch_generator(self.seed, self.epoch)
        self.epoch += 1
        return iter(torch.randperm(self.length, generator=generator, device="cpu").tolist())


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator of its own for each pair of seed and epoch."""
    mixed = np.random.SeedSequence([seed, epoch]).generate_state(1)[0]
    return torch.Generator().manual_seed(int(mixed))


class SeededLoader(DataLoader):
    """A DataLoader whose workers' seeds follow from its EpochShuffle's seed and epoch, too.

    They are drawn on the CPU: torch itself draws them on the default device.
    """

    def __iter__(self) -> Any:
        order: Any = self.sampler
        self.generator = epoch_generator(order.seed, order.epoch)
        with torch.device("cpu"):
            return super().__iter__()


def make_loader(
    data: Any, batch_size: int = 128, seed: int = 0, *, num_workers: int = 0
) -> DataLoader:
    """Batches (x0 (B, 3, 32, 32) in [-1, 1], y (B,) int64), shuffled anew each epoch from the seed.

    The last batch of an epoch may be smaller. Raises ValueError for an empty data set or batch.
    """
    check_dataset(data, "__getitem__", "__len__")
    return SeededLoader(
        data,
        batch_size=validation.whole("batch_size", batch_size),
        sampler=EpochShuffle(len(data), validation.seed(seed)),
        num_workers=validation.whole("num_workers", num_workers, 0),
        worker_init_fn=worker_init_fn,
    )


class ResidentLoader:
    """The same kind of batches, from a set that lies as uint8 on the device.

    Indexing and scaling happen there, a whole batch at a time, in `make_loader`'s order. `flip`
    mirrors each image with probability 1/2, from a mirrored copy of the set. `share` (k, n) gives
    every n-th image of each batch, from the k-th on. On a GPU the last batch is filled with the
    first images: each batch size would need new kernels.
    """

    def __init__(
        self,
        data: ImageSet,
        batch_size: int = 128,
        seed: int = 0,
        device: str | torch.device = "cpu",
        *,
        flip: bool = True,
        share: tuple[int, int] = (0, 1),
    ):
        check_dataset(data, "images", "labels")
        self.batch_size = validation.whole("batch_size", batch_size)
        self.seed = validation.seed(seed)
        self.share, self.flip, self.epoch = validation.share(share, self.batch_size), flip, 0
        device = pick_device(str(device))
        images = torch.as_tensor(data.images, device=device)
        self.images = torch.cat([images, images.flip(-1)]) if flip else images
        self.labels = torch.as_tensor(data.labels, device=device)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.labels), self.batch_size)
        return whole + (rest >= self.share[1])  # a last one that has an image for each process

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_rows(self) -> Tensor:
        """The rows of `images` that this epoch shows, in its order: int64, on the device."""
        count, device = len(self.labels), self.labels.device
        generator = epoch_generator(self.seed, self.epoch)
        order = torch.randperm(count, generator=generator, device="cpu")
        coins = torch.rand(count, generator=generator, device="cpu", dtype=torch.float32)
        mirrored = (coins < 0.5) & self.flip  # one coin per image
        rows = order + count * mirrored[order]  # the mirrored copies follow the images
        if device.type == "cpu":
            return rows
        rows = rows[torch.arange(len(self) * self.batch_size, device="cpu") % count]
        if device.type != "cuda":
            return rows.to(device)
        return rows.pin_memory().to(device, non_blocking=True)  # copied while the host goes on

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rows = self.epoch_rows()
        self.epoch += 1
        labels = self.labels[rows % len(self.labels)]
        batches = zip(rows.split(self.batch_size), labels.split(self.batch_size))
        first, step = self.share
        for batch, y in islice(batches, len(self)):
            mine = slice(first, len(batch) // step * step, step)  # as many for each process
            yield to_model_range(self.images.index_select(0, batch[mine])), y[mine]


def check_dataset(data: Any, *attributes: str) -> None:
    """Raise ValueError unless a data set has these attributes, and images."""
    if not all(hasattr(data, name) for name in attributes):
        expected = "a data set of images and labels, such as load_cifar10()'s"
        validation.refuse(f"data is {validation.format_value(data)}", expected)
    if not len(data.labels if "labels" in attributes else data):
        validation.refuse("the data set is empty", "at least one image", "Which classes?")
