"""Trials of notebook 07: looking at what was generated."""

import ipywidgets as widgets
import numpy as np
import torch

from cdiff_exercises.answer import Wrong, sketch
from cdiff_exercises.room import exercise

SPREAD_SETS = ("black and white", "one board twice", "one white of ten")


def between(draw, low, high, *shape):
    """Values from low to high whose byte, 255 times as much, is never close to a half."""
    thirds = torch.floor(765 * (low + (high - low) * draw.uniform(*shape)))
    return ((thirds / 3 + 0.01) / 255).float()


@exercise("bug", points=2, minutes=10)
def as_bytes(answer, draw):
    """as_bytes(x: float (N, 3, H, W)) -> uint8 (N, 3, H, W); x in [-1, 1], some values beyond"""
    full = between(draw, 0, 1, 2, 3, 2, 2)
    pale = between(draw, 0.4, 0.65, 1, 3, 2, 3)
    bright = between(draw, 0.55, 0.9, 1, 3, 2, 3)  # its guessed range is [0, 1]
    beyond = between(draw, -0.2, 1.2, draw.whole(1, 3), 3, 2, 3)
    for name, x in (
        ("2 images from -1 to 1", full),
        ("a pale image", pale),
        ("a bright image", bright),
        ("a batch with values beyond the range", torch.cat([pale, bright, beyond])),
    ):
        yield f"the result for {name}", answer(2 * x - 1, shape=x.shape, dtype="uint8"), 0


@exercise("bug", points=3, minutes=10)
def exponential_mean(answer, draw):
    """exponential_mean(values: float (N,), keep: float) -> (N,)"""
    for name, values, keep in (
        ("equal losses", np.full(4, 3.0), 0.6),
        ("falling losses", np.array([4.0, 3.0, 2.5, 1.0, 0.5]), 0.9),
        ("long losses", draw.uniform(150).numpy(), 0.98),
        ("random losses", draw.uniform(draw.whole(3, 30)).numpy(), draw.number(0.3, 0.95)),
    ):
        with np.errstate(all="ignore"):
            means = answer(values, keep, shape=values.shape)
        name = f"the curve of {len(values)} {name} with keep = {keep:.2g}"
        yield name, sketch(means, min(len(means), 30))


@exercise("predict", points=2, minutes=8)
def spreads(answer, draw):
    """spreads = {"black and white": number, "one board twice": …, "one white of ten": …}"""
    for name, value in zip(SPREAD_SETS, answer.number(SPREAD_SETS)):
        yield f"σ of {name!r}", round(value, 2)


@exercise("build", points=3, minutes=15)
def bordered_grid(answer, draw):
    """bordered_grid(images: (N, 3, H, W), columns: int, gap: int) -> uint8 (height, width, 3)"""
    sizes = [(4, 2, 2, 2, 1), (5, 2, 1, 3, 1), (1, 1, 2, 1, 2), (2, 1, 2, 3, 0)]
    sizes += [(draw.whole(3, 4), *(draw.whole(1, 2) for _ in "hw"), draw.whole(2, 3), 2)]
    for count, h, w, columns, gap in sizes:
        images = between(draw, 0, 1, count, 3, h, w)
        images[0, :, 0, 0], images[-1, :, -1, -1] = 0, 1
        name = f"the sheet for N = {count}, H = {h}, W = {w}, columns = {columns}, gap = {gap}"
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
        return int(held) if held.isdigit() else -1

    low, high = draw.whole(1, 19), draw.whole(20, 60)
    slider = widgets.IntSlider(low, 0, 99)
    image = answer.ask(answer.value, slider, render)
    if not isinstance(image, widgets.Image):
        sentence = f"you return a {type(image).__name__}; expected the widgets.Image that follows."
        raise Wrong(sentence, "no image")
    answer.ask(answer.value, widgets.IntSlider(77, 0, 99), render)  # each call has its own image
    yield "the value that your image shows at the start (-1: none)", shown(), 0
    given.clear()
    for number, place in enumerate((high, low, high + 9, 0, high - 1), 1):
        slider.value = place
        yield f"the value that it shows after move {number}, to {place} (-1: none)", shown(), 0
    last = given[-1] if given and isinstance(given[-1], int) else -1
    yield f"the value that render is given at move {number} (-1: none)", last, 0
    yield f"the number of calls of render in {number} moves", len(given), 0
    given.clear()
    slider.description, slider.max = "seed", 120
    yield "the number of calls of render when description and max change", len(given), 0
