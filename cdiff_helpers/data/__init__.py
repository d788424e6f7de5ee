"""CIFAR-10: where the images come from, and how they become batches in [-1, 1].

Home: notebook 02. Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

from cdiff_helpers.data.images import (
    CLASS_NAMES,
    ImageSet,
    class_indices,
    to_image_range,
    to_model_range,
    to_uint8,
)
from cdiff_helpers.data.loaders import EpochShuffle, ResidentLoader, make_loader, worker_init_fn
from cdiff_helpers.data.sources import BUNDLE, BinaryCIFAR10, copy_dataset, load_cifar10, untile
