"""Trials of notebook 01: libraries and GPU."""

import random

import numpy as np
import torch

from cdiff_exercises.room import exercise


@exercise("predict", points=1, minutes=5)
def convolution_operations(answer, draw):
    """convolution_operations = number"""
    yield "the number of operations", round(*answer.number())


def states() -> list:
    """The states of the global generators: of torch, of numpy, and Python's own."""
    _, words, place, *_ = np.random.get_state()
    return [torch.get_rng_state().tolist(), [*words, place], random.getstate()]


def own_rows(rows: torch.Tensor) -> int:
    """How many rows hold numbers of their own, whatever their order and sign."""
    return len({tuple(row.tolist()) for row in rows.flatten(1).abs().sort().values[:, ::100]})


def equal_rows(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a == b).flatten(1).all(1).sum()


@exercise("build", points=4, minutes=15)
def start_noise(answer, draw):
    """start_noise(seed: int, count: int, first: int = 0) -> noise (count, 3, 32, 32)"""

    def noise(*args, **keywords):
        return answer(*args, shape=(args[1], 3, 32, 32), **keywords)

    seed, before = draw.whole(0, 1000), states()
    many = noise(seed, 12)
    untouched = sum(a == b for a, b in zip(before, states()))
    yield "the number of images that a second call repeats", equal_rows(noise(seed, 12), many), 0
    few, later = noise(seed, 3), noise(seed, 3, first=5)
    in_both = "that have the same noise in"
    yield (
        f"the number of images 0, 1, 2 {in_both} batches of 3 and of 12",
        equal_rows(few, many[:3]),
        0,
    )
    yield (
        f"the number of images 5, 6, 7 {in_both} a batch from 5 on",
        equal_rows(later, many[5:8]),
        0,
    )
    near = torch.cat([noise(each, 12) for each in (0, 1, 2, 3, 11)])
    yield "the number of different noises for 12 images of 5 seeds each", own_rows(near), 0
    far = [(0, i) for i in (0, 100, 128, 1000, 1024, 10_000)] + [(1, 0), (2, 0), (2**31, 0)]
    apart = own_rows(torch.cat([noise(s, 1, first=i) for s, i in far]))
    yield "the number of different noises for 9 images, some of them far out", apart, 0
    yield "the number of global generators (of 3) that you leave alone", untouched, 0
    beyond = (near.abs() > 2).double()
    yield "the mean of the noise", round(near.mean().item(), 2) + 0.0, 0.02
    yield "its standard deviation", round(near.std().item(), 2), 0.02
    yield "the share of the noise beyond ±2", round(beyond.mean().item(), 3), 0.006
