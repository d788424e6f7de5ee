"""Trials of notebook 01: libraries and GPU."""

import random
import time

import numpy as np
import torch

from cdiff_exercises.answer import Answer
from cdiff_exercises.room import exercise


@exercise("predict", points=1, minutes=5)
def convolution_operations(answer, draw):
    """convolution_operations = number"""
    yield "the number of operations", round(*answer.number())


def states() -> list:
    """The states of the global generators: of torch, of numpy, and Python's own."""
    _, words, place, *_ = np.random.get_state()
    return [torch.get_rng_state().tolist(), [*words, place], random.getstate()]


def own(noise: torch.Tensor) -> bool:
    """Whether each channel holds numbers of its own, whatever their order and sign."""
    sums = noise.abs().sum((2, 3)).round(decimals=9)
    return len(sums.unique()) == sums.numel()


def equal_rows(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a == b).flatten(1).all(1).sum()


@exercise("build", points=4, minutes=15)
def start_noise(answer, draw):
    """start_noise(seed: int, count: int, first: int = 0) -> noise (count, 3, 32, 32)"""

    def noise(*args, asked=answer, **keywords):
        return asked(*args, shape=(args[1], 3, 32, 32), **keywords)

    def images(*pairs, count=1):
        """The noise from each (seed, first) on; asked anew, which compares no earlier results."""
        return torch.cat([noise(s, count, i, asked=Answer(answer.value)) for s, i in pairs])

    seed, before = draw.whole(0, 1000), states()
    many = noise(seed, 12)
    untouched = sum(a == b for a, b in zip(before, states()))
    yield "the number of images that a second call repeats", equal_rows(noise(seed, 12), many), 0
    few, same = noise(seed, 3), "the number of images (of 3) that have the same noise"
    yield f"{same} without `first` as with first=0", equal_rows(noise(seed, 3, first=0), few), 0
    yield f"{same} in batches of 3 and of 12", equal_rows(few, many[:3]), 0
    yield f"{same} in a batch from 5 on", equal_rows(noise(seed, 3, first=5), many[5:8]), 0
    yield "Do the three channels of an image differ?", own(many[:1])

    start = time.process_time()
    images((0, 5000))
    quick = time.process_time() - start < 0.02
    far = 2**31 if quick else 5000  # an answer that draws all images before would never end
    for pair, these in (
        ("images 0 and 1 of seed 0", [(0, 0), (0, 1)]),
        ("images 0 of the seeds 0 and 1", [(0, 0), (1, 0)]),
        ("images 0 of the seeds 0 and 2", [(0, 0), (2, 0)]),
        ("image 1 of seed 0 and image 0 of seed 1", [(0, 1), (1, 0)]),
        ("image 11 of seed 1 and image 1 of seed 11", [(1, 11), (11, 1)]),
        # in 32 bits a * seed + b * image is the same for one of the next three, whatever a and b
        ("images 0 of the seeds 0 and 2³¹", [(0, 0), (2**31, 0)]),
        ("images 0 and 2³¹ of seed 0", [(0, 0), (0, far)]),
        ("image 2³¹ of seed 0 and image 0 of seed 2³¹", [(0, far), (2**31, 0)]),
    ):
        yield f"Do {pair} differ?", own(images(*these))

    powers = {10**k for k in range(2, 10)} | {2**k for k in range(10, 31)}
    near = images(*((s, 0) for s in range(16)), count=16)
    far_images = [(0, i) for i in powers if 1040 <= i <= 10_000]
    line = torch.cat([images((0, 16), count=1024), images(*far_images)])
    seeds = images(*((s, 0) for s in {*range(16, 1040, 16), *powers}))
    yield "Do 1,000 images of seed 0 all differ?", own(torch.cat([near[:16], line]))
    yield "Do images 0 of 100 seeds all differ?", own(torch.cat([near[::16], seeds]))
    yield "Do 1,000 images of 100 seeds all differ?", own(torch.cat([near, line, seeds]))
    yield "the number of global generators (of 3) that you leave alone", untouched, 0
    yield "the mean of the noise", round(near.mean().item(), 3) + 0.0, 0.01
    yield "its standard deviation", round(near.std().item(), 3), 0.004
    beyond = (near.abs() > 2).double().mean().item()
    yield "the share of the noise beyond ±2", round(beyond, 4), 0.002
