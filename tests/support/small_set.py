"""A small made-up CIFAR-10 in both published forms, and a world in which it is the real one."""

import hashlib
import io
import json
import pickle
import tarfile

import numpy as np
import torch
from PIL import Image

from cdiff_helpers.data import CLASS_NAMES, download, sources
from cdiff_helpers.data.sources import ARCHIVE_FOLDER

TRAIN, TEST = 50, 20  # images of the made-up set


class OldPickler(pickle.Pickler):
    """Writes numpy's dtypes with 0 and 1 for False and True, as Python 2 did."""

    def reducer_override(self, value):
        if isinstance(value, np.dtype):
            return (np.dtype, ("u1", 0, 1), value.__reduce__()[2])
        return NotImplemented


def pickled(content):
    buffer = io.BytesIO()
    OldPickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def made_up_arrays():
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in (("train", TRAIN), ("test", TEST)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = rng.integers(0, 10, size, dtype=np.uint8)
    return arrays


def archive_files(arrays):
    """The archive's members, as Python 2 pickled them."""
    parts = [(f"data_batch_{i}", "train", slice((i - 1) * 10, i * 10)) for i in range(1, 6)]
    files = {"batches.meta": pickled({"label_names": list(CLASS_NAMES)})}
    for name, part, some in [*parts, ("test_batch", "test", slice(None))]:
        rows = arrays[f"x_{part}"][some].transpose(0, 3, 1, 2).reshape(-1, 3072)
        files[name] = pickled({"data": rows, "labels": arrays[f"y_{part}"][some].tolist()})
    return files


def tarball(files, folder):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def in_both_forms():
    """A small set in both published forms."""
    arrays = made_up_arrays()
    files = archive_files(arrays)
    package = {}
    for name, images in [
        *((f"data_batch_{i}.png", arrays["x_train"][(i - 1) * 10 : i * 10]) for i in range(1, 6)),
        ("test_batch.png", arrays["x_test"]),
    ]:
        buffer = io.BytesIO()
        Image.fromarray(images.reshape(-1, 1024, 3)).save(buffer, "PNG")
        package[name] = buffer.getvalue()
    for part in ("train", "test"):
        package[f"{part}_lables.json"] = json.dumps(arrays[f"y_{part}"].tolist()).encode()
    return {
        "arrays": arrays,
        "files": files,
        "archive": tarball(files, ARCHIVE_FOLDER),
        "package": tarball(package, "package"),
    }


def believe(made_up, monkeypatch):
    """Take the made-up set's digests for the published ones."""
    digest = {k: hashlib.sha256(v.tobytes()).hexdigest() for k, v in made_up["arrays"].items()}
    monkeypatch.setattr(sources, "SHA256", digest)
    monkeypatch.setattr(sources, "failures", {})


def mirrors(monkeypatch, made_up, *urls):
    whole = made_up["archive"]
    monkeypatch.setattr(download, "MIRRORS", urls)
    monkeypatch.setattr(download, "SIZE", len(whole))
    monkeypatch.setattr(download, "MD5", hashlib.md5(whole).hexdigest())


def same_as(made_up, data, part="train"):
    images = torch.from_numpy(made_up["arrays"][f"x_{part}"]).permute(0, 3, 1, 2)
    return torch.equal(data.images, images) and torch.equal(
        data.labels, torch.from_numpy(made_up["arrays"][f"y_{part}"]).long()
    )
