"""Trials of notebook 02: the data set."""

import numpy as np
import torch

from cdiff_exercises.answer import Answer, Wrong, sketch
from cdiff_exercises.room import exercise
from cdiff_helpers.validation import format_value


@exercise("build", points=3, minutes=10)
def standardise(answer, draw):
    """standardise(images: uint8 (N, 3, H, W)) -> float (N, 3, H, W)"""
    for n, h, w in ((300, 5, 3), (draw.whole(20, 40), draw.whole(8, 12), draw.whole(13, 16))):
        low, contrast = (torch.tensor(each).view(3, 1, 1) for each in ([5, 60, 190], [60, 110, 50]))
        contrast = contrast * (0.4 + 0.6 * draw.uniform(n, 1, 1, 1))
        images = (low + contrast * draw.uniform(n, 3, h, w)).to(torch.uint8)
        images[0, 0, 0, 0], images[-1, 2, -1, -1] = 255, 0  # far out, and looked at below
        value = answer(images, shape=images.shape)
        case = f"{n} images of {h} × {w} pixels"
        means, deviations = value.mean((0, 2, 3)), value.std((0, 2, 3))
        yield f"the mean of each channel of {case}", means.round(decimals=4) + 0.0, 1e-3
        yield f"the standard deviation of each channel of {case}", deviations, 1e-3
        yield f"the result for {case}, at 40 places,", sketch(value.flatten(), 40), 1e-3


def shuffled(draw, classes, counts):
    """Labels in a drawn order, so many of each of these classes: int64."""
    labels = torch.tensor(classes).repeat_interleave(torch.tensor(counts))
    return labels[draw.uniform(len(labels)).argsort()]


@exercise("build", points=3, minutes=10)
def balanced_places(answer, draw):
    """balanced_places(labels: int64 (N,), per_class: int) -> whole numbers (places,), rising"""
    several = [draw.whole(4, 7) for _ in range(10)]
    for labels, per_class, case in (
        (torch.tensor([2, 2, 0, 1, 2, 0, 1, 1, 0, 2]), 2, "of 10 images of 3 classes"),
        (shuffled(draw, [1, 4, 9], [3, 5, 4]), 3, "of images of the classes 1, 4 and 9"),
        (shuffled(draw, range(10), [3] * 10), 3, "where each of ten classes has 3 images"),
        (shuffled(draw, range(10), several), draw.whole(2, 4), "of images of ten classes"),
        (shuffled(draw, [0, 1, 2, 3, 4, 6, 7, 8, 9], [5] * 9), 2, "where class 5 is missing"),
        (shuffled(draw, [0, 1, 2], [2, 3, 4]), 1, "of one image per class"),
        (shuffled(draw, [0, 12, 40], [30, 120, 150]), 30, "of 300 images of classes 0, 12 and 40"),
    ):
        yield f"the list of places {case}", answer(labels, per_class, dtype="whole"), 0


@exercise("predict", points=1, minutes=5)
def batches_and_left_out(answer, draw):
    """batches_and_left_out = (number, number)"""
    names = ("the number of batches", "the number of images left out")
    pair = answer.value
    pair = pair.tolist() if isinstance(pair, torch.Tensor | np.ndarray) else pair
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        kind = "a pair of numbers, such as (10, 3)"
        raise Wrong(f"this is {format_value(answer.value)}; expected {kind}.", "no pair")
    for name, value in zip(names, Answer(dict(zip(names, pair))).number(names)):
        yield name, round(value, 3)


@exercise("bug", points=2, minutes=8)
def flip_some(answer, draw):
    """flip_some(x: (B, 3, H, W), coins: bool (B,)) -> (B, 3, H, W)"""
    for coins, h, w in (
        ([True, False, True], 3, 3),
        ([False, True, False, True, True], 2, 4),
        ([True], 2, 3),
        ([False, False], 3, 2),
        (draw.uniform(draw.whole(4, 5)) < 0.5, 2, draw.whole(2, 4)),
    ):
        x = draw.normal(len(coins), 3, h, w)
        name = f"the batch of {len(coins)} images of {h} × {w} pixels"
        yield name, answer(x, torch.as_tensor(coins), shape=x.shape)
