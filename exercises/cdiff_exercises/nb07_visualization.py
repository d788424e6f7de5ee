"""Trials of notebook 07: looking at what was generated."""

import ipywidgets as widgets
import numpy as np
import torch

from cdiff_exercises.answer import Wrong
from cdiff_exercises.room import exercise

SPREAD_SETS = ("black and white", "one board twice", "one white of ten")


def between(draw, low, high, *shape):
    """Values from low to high, close to odd 64ths: a byte's value is never close to a half."""
    odd = 2 * torch.floor(32 * (low + (high - low) * draw.uniform(*shape))) + 1
    return (odd / 64 + 1e-5 * draw.uniform(*shape)).float()


@exercise("bug", points=2, minutes=10)
def as_bytes(answer, draw):
    """as_bytes(x: float (N, 3, H, W)) -> uint8 (N, 3, H, W); x in [-1, 1], some values beyond"""
    full = between(draw, -1, 0.99, 2, 3, 2, 2)
    pale = between(draw, -0.2, 0.3, 1, 3, 2, 3)
    beyond = between(draw, -1.4, 1.4, draw.whole(1, 3), 3, 2, 3)
    for name, x in (
        ("2 images from -1 to 1", full),
        ("a pale image", pale),
        ("a batch with values beyond the range", torch.cat([pale, beyond])),
    ):
        yield f"the result for {name}", answer(x, shape=x.shape, dtype="uint8"), 0


@exercise("bug", points=3, minutes=10)
def exponential_mean(answer, draw):
    """exponential_mean(values: float (N,), keep: float) -> (N,)"""
    for name, values, keep in (
        ("equal losses", np.full(4, 3.0), 0.6),
        ("falling losses", np.array([4.0, 3.0, 2.5, 1.0, 0.5]), 0.9),
        ("random losses", draw.uniform(draw.whole(3, 30)).numpy(), draw.number(0.3, 0.95)),
    ):
        with np.errstate(all="ignore"):
            means = answer(values, keep, shape=values.shape)
        yield f"the curve of {len(values)} {name} with keep = {keep:.2g}", means


@exercise("predict", points=2, minutes=8)
def spreads(answer, draw):
    """spreads = {"black and white": number, "one board twice": …, "one white of ten": …}"""
    for name, value in zip(SPREAD_SETS, answer.number(SPREAD_SETS)):
        yield f"σ of {name!r}", round(value, 2)


@exercise("build", points=3, minutes=15)
def bordered_grid(answer, draw):
    """bordered_grid(images: (N, 3, H, W), columns: int, gap: int) -> uint8 (height, width, 3)"""
    sizes = [(4, 2, 2, 2, 1), (5, 2, 1, 3, 1)]
    sizes += [(draw.whole(3, 5), *(draw.whole(1, 2) for _ in "hw"), draw.whole(2, 3), 2)]
    for count, h, w, columns, gap in sizes:
        images = between(draw, 0, 0.99, count, 3, h, w)
        name = f"the sheet of {count} images, {h} × {w} pixels, {columns} columns, gap {gap}"
        yield name, answer(images, columns, gap, dtype="uint8"), 0


@exercise("bug", points=3, minutes=15)
def live_picture(answer, draw):
    """live_picture(slider, render) -> widgets.Image; render(value: int) -> bytes"""
    given = []

    def render(value):
        given.append(value)
        return str(value).encode()

    def shown():
        held = bytes(image.value)
        return int(held) if held.isdigit() else 0

    start, ran = draw.whole(1, 30), 0
    slider = widgets.IntSlider(start, 1, 99)
    image = answer.ask(answer.value, slider, render)
    if not isinstance(image, widgets.Image):
        sentence = f"you return a {type(image).__name__}; expected the widgets.Image that follows."
        raise Wrong(sentence, "no image")
    yield "the value that your image shows at the start (0: none)", shown(), 0
    for move in ("first", "second"):
        given.clear()
        slider.value += draw.whole(1, 30)
        ran += bool(given)
        yield f"the value that it shows after the {move} move (0: none)", shown(), 0
    last = given[-1] if given and isinstance(given[-1], int) else 0
    yield "the value that render is given at the second move (0: none)", last, 0
    yield "the number of moves, of two, at which render runs", ran, 0
    given.clear()
    slider.description, slider.max = "seed", 120
    yield "the number of calls of render when description and max change", len(given), 0
