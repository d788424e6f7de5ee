"""Make the bundled subset.

python -m tools.models.make_subset [--root FOLDER]

The rule: for class c take the images of that class in the data set's standard order, permute them
with numpy.random.default_rng([SEED, c]), keep the first 200 (training) or 50 (test), and put all
that was kept back into the standard order. They are stored as one lossless WebP mosaic a part,
50 tiles a row, with labels, standard indices and the sha256 of the pixels in subset.json.
"""

import argparse
import hashlib
import json

import numpy as np
from PIL import Image

from cdiff_helpers.data import BUNDLE, load_cifar10
from tools.models.records import write_digests

SEED = 10
PER_CLASS = {"train": 200, "test": 50}
COLUMNS = 50


def chosen(labels: np.ndarray, per_class: int) -> np.ndarray:
    """The standard indices that the rule keeps, rising."""
    kept = [
        np.random.default_rng([SEED, c]).permutation(np.flatnonzero(labels == c))[:per_class]
        for c in range(10)
    ]
    return np.sort(np.concatenate(kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", help="folder of the full set (default: the course folder)")
    root = parser.parse_args().root
    BUNDLE.mkdir(exist_ok=True)
    about = {"seed": SEED, "rule": " ".join(__doc__.split("\n\n")[1].split())}
    for part, per_class in PER_CLASS.items():
        data = load_cifar10(root, train=part == "train")
        if len(data) < 10_000:
            raise SystemExit("make_subset: the full set is needed; see --root")
        index = chosen(data.labels.numpy(), per_class)
        images = data.images[index].permute(0, 2, 3, 1).numpy()  # (N, 32, 32, 3)
        rows = len(images) // COLUMNS
        tiles = images.reshape(rows, COLUMNS, 32, 32, 3).swapaxes(1, 2)
        mosaic = Image.fromarray(tiles.reshape(rows * 32, COLUMNS * 32, 3))
        mosaic.save(BUNDLE / f"{part}.webp", lossless=True, quality=100, method=6)
        about[part] = {
            "sha256": hashlib.sha256(images.tobytes()).hexdigest(),
            "labels": data.labels[index].tolist(),
            "indices": index.tolist(),
        }
    (BUNDLE / "subset.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    write_digests(BUNDLE)


if __name__ == "__main__":
    main()
