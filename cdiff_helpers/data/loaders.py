"""Batches in an order that the seed and the epoch give, and a resumed run can go on with."""

import math
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cdiff_helpers.data.images import ImageSet, to_model_range


def worker_init_fn(worker_id: int) -> None:
    """Seed Python's and numpy's generators in a DataLoader's worker, as torch's own is seeded.

    torch gives worker k the seed (base + k), and draws the base from the loader's generator: the
    same loader seed gives the same numbers in every worker.
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
        order = torch.randperm(self.length, generator=epoch_generator(self.seed, self.epoch))
        self.epoch += 1
        return iter(order.tolist())


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator of its own for each pair of seed and epoch."""
    mixed = np.random.SeedSequence([seed, epoch]).generate_state(1)[0]
    return torch.Generator().manual_seed(int(mixed))


def make_loader(
    data: Dataset, batch_size: int = 128, seed: int = 0, *, num_workers: int = 0
) -> DataLoader:
    """Batches (x0 (B, 3, 32, 32) in [-1, 1], y (B,) int64), shuffled anew each epoch from the seed.

    The last batch of an epoch may be smaller. Raises ValueError for an empty data set or batch.
    """
    check_batches(data, batch_size)
    return DataLoader(
        data,
        batch_size=batch_size,
        sampler=EpochShuffle(len(data), seed),
        num_workers=num_workers,
        worker_init_fn=worker_init_fn,
        generator=torch.Generator().manual_seed(seed),
    )


class ResidentLoader:
    """The same kind of batches, from a set that lies as uint8 on the device.

    Indexing, scaling and flipping happen there, a whole batch at a time. `flip` mirrors each
    picture with probability 1/2. Iterating, `len` and the order are as in `make_loader`.
    """

    def __init__(
        self,
        data: ImageSet,
        batch_size: int = 128,
        seed: int = 0,
        device: str | torch.device = "cpu",
        flip: bool = True,
    ):
        check_batches(data, batch_size)
        self.images, self.labels = data.images.to(device), data.labels.to(device)
        self.batch_size, self.seed, self.flip, self.epoch = batch_size, seed, flip, 0

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = epoch_generator(self.seed, self.epoch)
        self.epoch += 1
        order = torch.randperm(len(self.labels), generator=generator).to(self.labels.device)
        mirrored = torch.rand(len(self.labels), generator=generator) < 0.5  # one coin a picture
        mirrored = mirrored.to(self.labels.device) & self.flip
        for index in order.split(self.batch_size):
            x0 = to_model_range(self.images[index])  # (B, 3, 32, 32)
            x0 = torch.where(mirrored[index, None, None, None], x0.flip(-1), x0)
            yield x0, self.labels[index]


def check_batches(data: Dataset, batch_size: int) -> None:
    """Raise ValueError unless there are pictures and a batch has room for one."""
    if len(data) < 1:
        raise ValueError("the data set is empty; expected at least one picture.")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1, such as 128.")
