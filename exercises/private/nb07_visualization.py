"""Answers to notebook 07's exercises: looking at what was generated."""

import ipywidgets as widgets
import numpy as np
import torch
import torch.nn.functional as F

from exercises.private import answers


def as_bytes(x):
    """Images in [-1, 1], some values beyond, as uint8 of the same shape."""
    share = ((x + 1) / 2).clamp(0, 1)  # by agreement, not by what lies in it
    return (share * 255).round().to(torch.uint8)


def stretched(dims, whole=torch.round):
    """as_bytes with the range of what lies along these dimensions."""

    def as_bytes(x):
        low, high = x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)
        return whole((x - low) / (high - low) * 255).byte()

    return as_bytes


answers(
    "as_bytes",
    right=[
        as_bytes,
        lambda x: (127.5 * x + 127.5 + 0.5).floor().clamp(0, 255).to(torch.uint8),
        lambda x: np.clip(np.rint((x.numpy() + 1) * 127.5), 0, 255).astype(np.uint8),
    ],
    own_range_each=[stretched((1, 2, 3))],
    own_range=[stretched((0, 1, 2, 3)), stretched((0, 1, 2, 3), torch.floor)],
    own_range_per_channel=[stretched((2, 3)), stretched((2, 3), torch.floor)],
    guessed=[
        lambda x: as_bytes(2 * x - 1 if x.min() >= 0 else x),
        lambda x: as_bytes(torch.stack([2 * each - 1 if each.min() >= 0 else each for each in x])),
    ],
    clamped_first=[
        lambda x: (x.clamp(0, 1) * 255).round().byte(),
        lambda x: (x.clamp(0, 1) * 255).byte(),
        lambda x: as_bytes(x.clamp(0, 1)),
    ],
    wraps=[
        lambda x: ((x + 1) * 127.5).round().int().byte(),
        lambda x: ((x + 1) * 127.5).int().byte(),
    ],
    truncated=[lambda x: ((x + 1) * 127.5).clamp(0, 255).byte()],
    rounded_up=[lambda x: ((x + 1) * 127.5).clamp(0, 255).ceil().byte()],
    times_256=[
        lambda x: ((x + 1) * 128).clamp(0, 255).round().byte(),
        lambda x: ((x + 1) * 128).clamp(0, 255).byte(),
    ],
    in_place=[lambda x: x.add_(1).div_(2).clamp_(0, 1).mul_(255).round_().byte()],
)


def exponential_mean(values, keep):
    """For each value, the mean of all so far with weights that fade by `keep`: a list (N,)."""
    m, means = 0.0, []
    for n, value in enumerate(values):
        m = keep * m + (1 - keep) * value
        means.append(m / (1 - keep ** (n + 1)))  # the weights' sum
    return means


def both_sums(values, keep):
    total = weight = 0.0
    means = []
    for value in torch.as_tensor(values):
        total, weight = keep * total + value, keep * weight + 1
        means.append(total / weight)
    return torch.stack(means)


def weighted(exponents):
    """The mean with weights keep ** exponents(n), from the first value to value number n."""

    def exponential_mean(values, keep):
        ns = range(len(values))
        return np.array([np.average(values[: n + 1], weights=keep ** exponents(n)) for n in ns])

    return exponential_mean


def recursion(divisor=lambda keep, n: 1.0, first=False, back=False, swap=False):
    """exponential_mean with one mistake in its recursion."""

    def exponential_mean(values, keep):
        m, means, keep = values[0] if first else 0.0, [], 1 - keep if swap else keep
        for n, value in enumerate(values):
            m = keep * m + (1 - keep) * value
            means.append(m / divisor(keep, n))
            m = means[-1] if back else m
        return means

    return exponential_mean


def of_sets(*values):
    """A number for each of the three sets, as a student writes them down."""
    return dict(zip(("black and white", "one board twice", "one white of ten"), values))


answers(
    "exponential_mean",
    right=[exponential_mean, both_sums, weighted(lambda n: np.arange(n, -1, -1))],
    first_start=[recursion(first=True)],
    one_early=[recursion(lambda keep, n: 1 - keep**n)],
    one_late=[recursion(lambda keep, n: 1 - keep ** (n + 2))],
    swapped=[recursion(lambda keep, n: 1 - keep ** (n + 1), swap=True)],
    fed_back=[recursion(lambda keep, n: 1 - keep ** (n + 1), back=True)],
    sum_alone=[recursion(lambda keep, n: 1 - keep)],
    oldest_most=[weighted(lambda n: np.arange(n + 1))],
    plain_mean=[lambda values, keep: np.cumsum(values) / np.arange(1, len(values) + 1)],
)

answers(
    "spreads",
    right=[
        of_sets(0.5, 0.0, 0.3),
        of_sets(*np.float32([0.5, 0, 0.3])),
        dict(reversed(of_sets(1 / 2, 0, 3 / 10).items())),
    ],
    across_pixels=[of_sets(0.5, 0.5, 0.3), of_sets(0, 0.5, 0)],
    unbiased=[of_sets(0.5**0.5, 0, 0.1**0.5), of_sets(0.7, 0, 0.3)],
    variance=[of_sets(0.25, 0, 0.09)],
    doubled=[of_sets(1, 0, 0.6)],
    range=[of_sets(1, 0, 1)],
    absolute=[of_sets(0.5, 0, 0.18)],
    mean=[of_sets(0.5, 0.5, 0.1)],
)


def bordered_grid(images, columns, gap):
    """Images (N, 3, H, W) in [0, 1] on a grey sheet with lines: uint8 (height, width, 3)."""
    n, _, h, w = images.shape
    rows = -(-n // columns)
    size = (gap + rows * (h + gap), gap + columns * (w + gap), 3)
    sheet = torch.full(size, 128, dtype=torch.uint8)
    tiles = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)  # (N, H, W, 3)
    for i, tile in enumerate(tiles):
        top, left = gap + i // columns * (h + gap), gap + i % columns * (w + gap)
        sheet[top : top + h, left : left + w] = tile
    return sheet


def framed(images, columns, gap):
    """Each image with a frame of its own."""
    rest = torch.full((-len(images) % columns, *images.shape[1:]), 128 / 255)
    tiles = F.pad(torch.cat([images, rest]), [gap] * 4, value=128 / 255)
    rows = [torch.cat(list(row), dim=2) for row in tiles.split(columns)]
    return (torch.cat(rows, dim=1) * 255).round().byte().permute(1, 2, 0)


def laid_out(
    tiles_of=lambda x: (x * 255).round().byte().permute(0, 2, 3, 1),
    *,
    place=lambda n, rows, columns: (n // columns, n % columns),
    ground=128,
    rest=128,
    between=1,
    whole_rows=False,
):
    """bordered_grid with one mistake: an image's pixels, its place, the ground, a gap, the rows."""

    def bordered_grid(images, columns, gap):
        rows = len(images) // columns if whole_rows else -(-len(images) // columns)
        (h, w), tiles = images.shape[2:], tiles_of(images)
        size = (gap + rows * (h + gap), gap + columns * (w + gap), 3)
        sheet = torch.full(size, ground, dtype=torch.uint8)
        for n in range(rows * columns):
            row, column = place(n, rows, columns)
            top, left = gap + row * (h + between * gap), gap + column * (w + between * gap)
            sheet[top : top + h, left : left + w] = tiles[n] if n < len(tiles) else rest
        return sheet

    return bordered_grid


answers(
    "bordered_grid",
    right=[bordered_grid, lambda x, columns, gap: laid_out()(x, columns, gap).numpy()],
    down_columns=[laid_out(place=lambda n, rows, columns: (n % rows, n // rows))],
    channels=[laid_out(lambda x: (x * 255).round().byte().reshape(len(x), *x.shape[2:], 3))],
    transposed=[laid_out(lambda x: (x * 255).round().byte().permute(0, 3, 2, 1))],
    touching=[laid_out(between=0)],
    no_frame=[lambda x, columns, gap: F.pad(laid_out()(x, columns, gap), [0, 0] + 4 * [-gap])],
    narrow=[lambda x, columns, gap: bordered_grid(x, min(columns, len(x)), gap)],
    double_lines=[framed],
    lost_row=[laid_out(whole_rows=True)],
    left_over=[laid_out(rest=255), laid_out(rest=0)],
    other_ground=[*(laid_out(ground=level, rest=level) for level in (0, 127, 255))],
    truncated=[laid_out(lambda x: (x * 255).byte().permute(0, 2, 3, 1))],
    not_scaled=[
        laid_out(lambda x: x.byte().permute(0, 2, 3, 1)),
        laid_out(lambda x: x.round().byte().permute(0, 2, 3, 1)),
    ],
    channels_first=[lambda x, columns, gap: laid_out()(x, columns, gap).permute(2, 0, 1)],
)


def live_picture(slider, render):
    """A widgets.Image that holds render(slider.value), from the start and after each move."""
    image = widgets.Image(value=render(slider.value), format="png")

    def refresh(change):
        image.value = render(change["new"])

    slider.observe(refresh, names="value")
    return image


class Following(widgets.Image):
    def __init__(self, slider, render):
        super().__init__(value=render(slider.value))
        slider.observe(lambda change: self.set_trait("value", render(slider.value)), ["value"])


def followed(value=lambda change, first: change["new"], *, empty=False, image=None, **names):
    """live_picture with mistakes: in the value rendered, the image, what is observed."""

    def live_picture(slider, render):
        first, kept = slider.value, image or widgets.Image()
        kept.value = b"" if empty else render(first)

        def refresh(change):
            kept.value = render(value(change, first))

        slider.observe(refresh, **names)
        return kept

    return live_picture


def old(change, first):
    return change["old"]


def present(change, first):
    return change["owner"].value


def rebound(slider, render):
    image = widgets.Image(value=render(slider.value))

    def refresh(change):
        image = widgets.Image(value=render(change["new"]))
        return image

    slider.observe(refresh, names="value")
    return image


answers(
    "live_picture",
    right=[live_picture, Following],
    empty_first=[
        followed(empty=True, names="value"),
        followed(old, empty=True, names="value"),
        followed(empty=True),
        followed(present, empty=True),
    ],
    old_value=[followed(old, names="value"), followed(old)],
    frozen=[followed(lambda change, first: first, names="value")],
    deaf=[followed(names="slider")],
    every_trait=[followed(), followed(present)],
    twice=[lambda slider, render: live_picture(slider, lambda v: max(render(v), render(v)))],
    shared=[followed(names="value", image=widgets.Image())],
    rebound=[rebound],
)
