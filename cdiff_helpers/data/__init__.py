"""CIFAR-10: where the pictures come from, and how they become batches in [-1, 1].

Home: notebook 02. Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

from cdiff_helpers.data.download import ARCHIVE
from cdiff_helpers.data.images import (
    CLASS_NAMES,
    ImageSet,
    class_indices,
    to_image_range,
    to_model_range,
)
from cdiff_helpers.data.loaders import (
    EpochShuffle,
    ResidentLoader,
    epoch_generator,
    make_loader,
    worker_init_fn,
)
from cdiff_helpers.data.sources import (
    BUNDLE,
    BinaryCIFAR10,
    carry,
    load_cifar10,
    untile,
)
from cdiff_helpers.defaults import MIN_RATE, SOURCES

__all__ = [
    "ARCHIVE",
    "BUNDLE",
    "CLASS_NAMES",
    "MIN_RATE",
    "SOURCES",
    "BinaryCIFAR10",
    "EpochShuffle",
    "ImageSet",
    "ResidentLoader",
    "carry",
    "class_indices",
    "epoch_generator",
    "load_cifar10",
    "make_loader",
    "to_image_range",
    "to_model_range",
    "untile",
    "worker_init_fn",
]
