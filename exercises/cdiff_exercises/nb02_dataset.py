"""Trials of notebook 02: the data set."""

import numpy as np
import torch

from cdiff_exercises.answer import Answer, Wrong, describe, sketch
from cdiff_exercises.room import exercise


@exercise("build", points=3, minutes=10)
def standardise(answer, draw):
    """standardise(images: uint8 (N, 3, H, W)) -> float (N, 3, H, W)"""
    for n, h, w in ((300, 3, 3), (draw.whole(20, 40), draw.whole(8, 12), draw.whole(13, 16))):
        contrast = torch.tensor([60, 110, 160]).view(3, 1, 1) * (
            0.4 + 0.6 * draw.uniform(n, 1, 1, 1)
        )
        offset = torch.tensor([5, 60, 30]).view(3, 1, 1)
        images = (offset + contrast * draw.uniform(n, 3, h, w)).to(torch.uint8)
        value = answer(images, shape=images.shape)
        case = f"{n} images of {h} × {w} pixels"
        means, deviations = value.mean((0, 2, 3)), value.std((0, 2, 3))
        yield f"the mean of each channel of {case}", means.round(decimals=3) + 0.0, 3e-3
        yield f"the standard deviation of each channel of {case}", deviations, 3e-3
        yield f"the result for {case}", sketch(value.flatten(), 40), 3e-3


def shuffled(draw, classes, counts):
    """Labels in a drawn order, so many of each of these classes: int64."""
    labels = torch.tensor(classes).repeat_interleave(torch.tensor(counts))
    return labels[draw.uniform(len(labels)).argsort()]


@exercise("build", points=3, minutes=10)
def balanced_places(answer, draw):
    """balanced_places(labels: int64 (N,), per_class: int) -> whole numbers (C * per_class,)"""
    for labels, per_class, case in (
        (torch.tensor([2, 2, 0, 1, 2, 0, 1, 1, 0, 2]), 2, "of 10 images of 3 classes"),
        (shuffled(draw, [1, 4, 9], [3, 5, 4]), 3, "of images of the classes 1, 4 and 9"),
        (shuffled(draw, range(10), [3] * 10), 3, "where each of ten classes has 3 images"),
        (
            shuffled(draw, range(10), [draw.whole(4, 7) for _ in range(10)]),
            draw.whole(2, 4),
            "of images of ten classes",
        ),
        (shuffled(draw, [0, 1, 2, 3, 4, 6, 7, 8, 9], [5] * 9), 2, "where class 5 is missing"),
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
        raise Wrong(f"this is {describe(answer.value)}; expected {kind}.", "no pair")
    for name, value in zip(names, Answer(dict(zip(names, pair))).number(names)):
        yield name, round(value, 3)


@exercise("bug", points=2, minutes=8)
def flip_some(answer, draw):
    """flip_some(x: (B, 3, H, W), coins: bool (B,)) -> (B, 3, H, W)"""
    drawn = draw.whole(4, 5), 2, draw.whole(2, 4)
    for b, h, w in ((3, 3, 3), (3, 2, 5), drawn):
        x = draw.normal(b, 3, h, w)
        coins = draw.uniform(b) < 0.5 if (b, h, w) == drawn else torch.tensor([True, True, False])
        yield f"the batch of {b} images of {h} × {w} pixels", answer(x, coins, shape=x.shape)
