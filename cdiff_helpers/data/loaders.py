"""Batches in an order that the seed and the epoch give, and a resumed run can go on with."""

import random
from collections.abc import Iterator
from numbers import Integral

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cdiff_helpers.data.images import ImageSet, to_model_range
from cdiff_helpers.runtime import pick_device


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
    the order it would have had. `workers` is the generator from which a DataLoader's workers draw
    their seeds: it is set to the epoch's, too.
    """

    def __init__(self, length: int, seed: int, workers: torch.Generator | None = None):
        self.length, self.seed, self.epoch, self.workers = length, seed, 0, workers

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if self.workers is not None:
            self.workers.set_state(epoch_generator(self.seed, epoch).get_state())

    def __iter__(self) -> Iterator[int]:
        generator = epoch_generator(self.seed, self.epoch)
        self.epoch += 1
        return iter(torch.randperm(self.length, generator=generator, device="cpu").tolist())


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator of its own for each pair of seed and epoch."""
    mixed = np.random.SeedSequence([seed, epoch]).generate_state(1)[0]
    return torch.Generator().manual_seed(int(mixed))


class SeededLoader(DataLoader):
    """A DataLoader that draws its workers' seeds on the CPU, where its generator is.

    torch itself draws them on the default device, which may be another one.
    """

    def __iter__(self) -> Iterator:
        with torch.device("cpu"):
            return super().__iter__()


def make_loader(
    data: Dataset, batch_size: int = 128, seed: int = 0, *, num_workers: int = 0
) -> DataLoader:
    """Batches (x0 (B, 3, 32, 32) in [-1, 1], y (B,) int64), shuffled anew each epoch from the seed.

    The last batch of an epoch may be smaller. Raises ValueError for an empty data set or batch.
    """
    check_batches(data, batch_size=batch_size, seed=seed, num_workers=num_workers)
    generator = torch.Generator().manual_seed(seed)
    return SeededLoader(
        data,
        batch_size=batch_size,
        sampler=EpochShuffle(len(data), seed, generator),
        num_workers=num_workers,
        worker_init_fn=worker_init_fn,
        generator=generator,
    )


class ResidentLoader:
    """The same kind of batches, from a set that lies as uint8 on the device.

    Indexing and scaling happen there, a whole batch at a time. `flip` mirrors each picture with
    probability 1/2: a mirrored copy of the set lies beside it, so that a coin is an index.
    Iterating, `len` and the order are as in `make_loader`. `share` (k, n) gives every n-th picture
    of each batch, from the k-th on: one of n processes'. On a GPU an epoch's last batch is filled
    with its first images, since kernels are chosen anew for each batch size.
    """

    def __init__(
        self,
        data: ImageSet,
        batch_size: int = 128,
        seed: int = 0,
        device: str | torch.device = "cpu",
        flip: bool = True,
        share: tuple[int, int] = (0, 1),
    ):
        check_share(share, batch_size)
        check_batches(data, batch_size=batch_size, seed=seed)
        device = pick_device(str(device))
        images, self.labels = data.images.to(device), data.labels.to(device)
        self.images = torch.cat([images, images.flip(-1)]) if flip else images
        self.batch_size, self.seed, self.flip, self.epoch = batch_size, seed, flip, 0
        self.share = share

    def __len__(self) -> int:
        whole, rest = divmod(len(self.labels), self.batch_size)
        return whole + (rest >= self.share[1])  # a last one that has a picture for each process

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator, N = epoch_generator(self.seed, self.epoch), len(self.labels)
        self.epoch += 1
        order = torch.randperm(N, generator=generator, device="cpu")
        coins = torch.rand(N, generator=generator, device="cpu", dtype=torch.float32)
        mirrored = (coins < 0.5) & self.flip  # one coin a picture
        if self.labels.device.type != "cpu":
            places = len(self) * self.batch_size
            order = order.repeat(-(-places // N))[:places]
        rows = to_device(order + N * mirrored[order], self.labels.device)  # of the whole epoch
        labels = self.labels[rows % N]
        k, n = self.share
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            count = min(self.batch_size, len(order) - start) // n * n  # as many for each process
            mine = slice(start + k, start + count, n)
            yield to_model_range(self.images.index_select(0, rows[mine])), labels[mine]


def to_device(rows: Tensor, device: torch.device) -> Tensor:
    """Whole numbers of the CPU on the device; CUDA copies them while the host goes on."""
    if device.type != "cuda":
        return rows.to(device)
    return rows.pin_memory().to(device, non_blocking=True)


LOWEST = {"batch_size": 1, "seed": 0, "num_workers": 0}


def check_batches(data: Dataset, **numbers: int) -> None:
    """Raise ValueError unless there are pictures, and each of the named numbers can be."""
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise ValueError(f"data is {data!r}; expected a data set, such as load_cifar10()'s.")
    if len(data) < 1:
        raise ValueError("the data set is empty; expected at least one image. Which classes?")
    for name, number in numbers.items():
        whole = isinstance(number, Integral) and not isinstance(number, bool)
        if not whole or not LOWEST[name] <= number < 2**63:
            raise ValueError(
                f"{name} is {number!r}; expected a whole number of at least {LOWEST[name]}."
            )


def check_share(share: tuple[int, int], batch_size: int) -> None:
    """Raise ValueError unless the share is number k of n, and a batch has a picture for each."""
    k, n = share
    if not 0 <= k < n or (isinstance(batch_size, Integral) and 0 < batch_size < n):
        raise ValueError(
            f"share is {share!r} of a batch of {batch_size!r}; expected (k, n) with k from 0 to "
            "n - 1, and an image for each of the n."
        )
