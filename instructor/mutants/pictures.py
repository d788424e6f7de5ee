"""Answers to notebook 07's exercises."""

import ipywidgets as widgets
import numpy as np
import torch
import torch.nn.functional as F

from instructor.mutants import right, right_value, wrong, wrong_value


def sheet(images, rows, columns, gap, ground=128):
    """Grey paper for a grid, and the pictures as bytes (N, H, W, 3)."""
    h, w = images.shape[2:]
    size = (gap + rows * (h + gap), gap + columns * (w + gap), 3)
    tiles = (images * 255).round().byte().permute(0, 2, 3, 1)
    return torch.full(size, ground, dtype=torch.uint8), tiles


def rows_of(images, columns):
    return -(-len(images) // columns)


@wrong("bordered_grid", "down_columns")
def _(images, columns, gap):
    rows = rows_of(images, columns)
    paper, tiles = sheet(images, rows, columns, gap)
    h, w = images.shape[2:]
    for n, tile in enumerate(tiles):
        top, left = gap + n % rows * (h + gap), gap + n // rows * (w + gap)
        paper[top : top + h, left : left + w] = tile
    return paper


@wrong("bordered_grid", "channels")
def _(images, columns, gap):
    paper, _ = sheet(images, rows_of(images, columns), columns, gap)
    h, w = images.shape[2:]
    jumbled = (images * 255).round().byte().reshape(-1, h, w, 3)
    for n, tile in enumerate(jumbled):
        top, left = gap + n // columns * (h + gap), gap + n % columns * (w + gap)
        paper[top : top + h, left : left + w] = tile
    return paper


@wrong("bordered_grid", "touching")
def _(images, columns, gap):
    paper, tiles = sheet(images, rows_of(images, columns), columns, gap)
    h, w = images.shape[2:]
    for n, tile in enumerate(tiles):
        top, left = gap + n // columns * h, gap + n % columns * w
        paper[top : top + h, left : left + w] = tile
    return paper


@wrong("bordered_grid", "no_frame")
def _(images, columns, gap):
    paper, tiles = sheet(images, rows_of(images, columns), columns, gap)
    h, w = images.shape[2:]
    paper = paper[: -2 * gap, : -2 * gap]
    for n, tile in enumerate(tiles):
        top, left = n // columns * (h + gap), n % columns * (w + gap)
        paper[top : top + h, left : left + w] = tile
    return paper


@wrong("bordered_grid", "double_lines")
def _(images, columns, gap):
    framed = F.pad(images, [gap] * 4, value=128 / 255)
    lost = rows_of(images, columns) * columns - len(images)
    framed = torch.cat([framed, torch.full((lost, *framed.shape[1:]), 128 / 255)])
    rows = [torch.cat(list(row), dim=2) for row in framed.split(columns)]
    return (torch.cat(rows, dim=1) * 255).round().byte().permute(1, 2, 0)


@wrong("bordered_grid", "lost_row")
def _(images, columns, gap):
    rows = len(images) // columns
    paper, tiles = sheet(images, rows, columns, gap)
    h, w = images.shape[2:]
    for n, tile in enumerate(tiles[: rows * columns]):
        top, left = gap + n // columns * (h + gap), gap + n % columns * (w + gap)
        paper[top : top + h, left : left + w] = tile
    return paper


def with_left_over(images, columns, gap, colour):
    rows = rows_of(images, columns)
    paper, tiles = sheet(images, rows, columns, gap)
    h, w = images.shape[2:]
    for n in range(rows * columns):
        top, left = gap + n // columns * (h + gap), gap + n % columns * (w + gap)
        paper[top : top + h, left : left + w] = tiles[n] if n < len(tiles) else colour
    return paper


@wrong("bordered_grid", "left_over")
def _(images, columns, gap):
    return with_left_over(images, columns, gap, 255)


@wrong("bordered_grid", "left_over")
def _(images, columns, gap):
    return with_left_over(images, columns, gap, 0).numpy()


@wrong("bordered_grid", "truncated")
def _(images, columns, gap):
    return with_left_over((images * 255).floor() / 255, columns, gap, 128)


@right("bordered_grid")
def _(images, columns, gap):
    return with_left_over(images, columns, gap, 128).numpy()


@right("bordered_grid")
def _(images, columns, gap):
    rows, (n, _, h, w) = rows_of(images, columns), images.shape
    grey = torch.full((rows * columns, 3, h + gap, w + gap), 128 / 255)
    grey[:n, :, gap:, gap:] = images
    cells = grey.view(rows, columns, 3, h + gap, w + gap).permute(0, 3, 1, 4, 2)
    paper = F.pad(cells.reshape(rows * (h + gap), -1, 3), (0, 0, 0, gap, 0, gap), value=128 / 255)
    return (paper * 255).round().byte()


@wrong("as_bytes", "own_range_each")  # the bug as it is shown
def _(x):
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return ((x - low) / (high - low) * 255).byte()


@wrong("as_bytes", "own_range_each")
def _(x):
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return ((x - low) / (high - low) * 255).round().byte()


@wrong("as_bytes", "own_range")
def _(x):
    return ((x - x.min()) / (x.max() - x.min()) * 255).round().byte()


@wrong("as_bytes", "clamped_first")
def _(x):
    return (x.clamp(0, 1) * 255).round().byte()


@wrong("as_bytes", "clamped_first")
def _(x):
    return ((x.clamp(0, 1) + 1) * 127.5).round().byte()


@wrong("as_bytes", "wraps")
def _(x):
    return ((x + 1) * 127.5).round().int().byte()


@wrong("as_bytes", "truncated")
def _(x):
    return ((x + 1) * 127.5).clamp(0, 255).byte()


@wrong("as_bytes", "in_place")
def _(x):
    return x.add_(1).div_(2).clamp_(0, 1).mul_(255).round_().byte()


@wrong("as_bytes", "in_place")
def _(x):
    x += 1
    return (x * 127.5).clamp(0, 255).round().byte()


@right("as_bytes")
def _(x):
    return (127.5 * x + 127.5 + 0.5).floor().clamp(0, 255).to(torch.uint8)


@right("as_bytes")
def _(x):
    return np.clip(np.rint((x.numpy() + 1) * 127.5), 0, 255).astype(np.uint8)


def recursion(values, keep, m=0.0):
    for value in values:
        m = keep * m + (1 - keep) * value
        yield m


@wrong("exponential_mean", "zero_start")  # the bug as it is shown
def _(values, keep):
    return list(recursion(values, keep))


@wrong("exponential_mean", "first_start")
def _(values, keep):
    return list(recursion(values, keep, m=values[0]))


@wrong("exponential_mean", "one_early")
def _(values, keep):
    raw = torch.tensor(list(recursion(values, keep)))
    return raw / (1 - keep ** torch.arange(len(raw)))


@wrong("exponential_mean", "swapped")
def _(values, keep):
    m, means = 0.0, []
    for n, value in enumerate(values):
        m = (1 - keep) * m + keep * value
        means.append(m / (1 - (1 - keep) ** (n + 1)))
    return means


@wrong("exponential_mean", "fed_back")
def _(values, keep):
    m, means = 0.0, []
    for n, value in enumerate(values):
        m = keep * m + (1 - keep) * value
        m = m / (1 - keep ** (n + 1))
        means.append(m)
    return means


@right("exponential_mean")
def _(values, keep):
    means = []
    for n in range(len(values)):
        weights = keep ** np.arange(n, -1, -1)
        means.append(np.average(values[: n + 1], weights=weights))
    return np.array(means)


@right("exponential_mean")
def _(values, keep):
    total = weight = 0.0
    means = []
    for value in torch.as_tensor(values):
        total, weight = keep * total + value, keep * weight + 1
        means.append(total / weight)
    return torch.stack(means)


@wrong("live_picture", "empty_first")  # the bug as it is shown
def _(slider, render):
    image = widgets.Image()
    slider.observe(lambda change: setattr(image, "value", render(change["old"])), names="value")
    return image


@wrong("live_picture", "empty_first")
def _(slider, render):
    image = widgets.Image()
    slider.observe(lambda change: setattr(image, "value", render(slider.value)), names="value")
    return image


@wrong("live_picture", "old_value")
def _(slider, render):
    image = widgets.Image(value=render(slider.value))
    slider.observe(lambda change: setattr(image, "value", render(change["old"])), names="value")
    return image


@wrong("live_picture", "frozen")
def _(slider, render):
    value = slider.value
    image = widgets.Image(value=render(value))
    slider.observe(lambda change: setattr(image, "value", render(value)), names="value")
    return image


@wrong("live_picture", "deaf")
def _(slider, render):
    image = widgets.Image(value=render(slider.value))
    slider.observe(lambda change: setattr(image, "value", render(slider.value)), names="slider")
    return image


@wrong("live_picture", "deaf")
def _(slider, render):
    return widgets.Image(value=render(slider.value))


@wrong("live_picture", "every_trait")
def _(slider, render):
    image = widgets.Image(value=render(slider.value))
    slider.observe(lambda change: setattr(image, "value", render(change["new"])))
    return image


@wrong("live_picture", "every_trait")
def _(slider, render):
    image = widgets.Image(value=render(slider.value))
    slider.observe(lambda change: setattr(image, "value", render(slider.value)))
    return image


@right("live_picture")
def _(slider, render):
    class Following(widgets.Image):
        def follow(self, change):
            self.value = render(change.new)

    image = Following(value=render(slider.value))
    slider.observe(image.follow, "value")
    return image


@right("live_picture")
def _(slider, render):
    image = widgets.Image()

    def refresh(_change=None):
        image.value = render(slider.value)

    slider.observe(refresh, names=["value"])
    refresh()
    return image


NAMES = ("black and white", "one board twice", "one white of ten")
wrong_value("spreads", "across_pixels", dict(zip(NAMES, (0.5, 0.5, 0.3))))
wrong_value("spreads", "across_pixels", dict(zip(NAMES, (0, 0.5, 0))))
wrong_value("spreads", "unbiased", dict(zip(NAMES, (0.7071, 0, 0.3162))))
wrong_value("spreads", "variance", dict(zip(NAMES, (0.25, 0, 0.09))))
wrong_value("spreads", "doubled", dict(zip(NAMES, (1, 0, 0.6))))
wrong_value("spreads", "range", dict(zip(NAMES, (1, 0, 1))))
right_value("spreads", dict(zip(NAMES, (0.5, 0.0, 0.3))))
right_value("spreads", {name: torch.tensor(x) for name, x in zip(NAMES, (0.5, 0, 0.3))})
right_value("spreads", {"one white of ten": 3 / 10, "one board twice": 0, "black and white": 1 / 2})
