"""Checks of notebook 07's exercises: looking at what was drawn."""

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from cdiff_helpers.checks.verdict import (
    Misconception,
    Wrong,
    call,
    call_tensor,
    close,
    diagnose,
    differs,
    exercise,
    told_numbers,
)

GREY = 128  # of a grid's lines


def ramp(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Values that all differ, from low to high: a picture in which every pixel can be told."""
    return torch.linspace(low, high, int(np.prod(shape)), dtype=torch.float64).reshape(shape)


def as_uint8(value, shape: tuple[int, ...]) -> Tensor:
    """A returned tensor or array, if it holds bytes and has that shape; else Wrong."""
    if not str(getattr(value, "dtype", "")).endswith("uint8"):
        kind = getattr(value, "dtype", type(value).__name__)
        raise Wrong(f"you return {kind}; expected uint8, whole numbers from 0 to 255.")
    if tuple(value.shape) != shape:
        raise Wrong(f"you return the shape {tuple(value.shape)}; expected {shape}.")
    return torch.as_tensor(value).int()


def placed(tiles: Tensor, corners: list[tuple[int, int]], size: tuple[int, int]) -> Tensor:
    """Tiles (N, H, W, 3) with their top left corners there, on grey: int (*size, 3)."""
    sheet = torch.full((*size, 3), GREY, dtype=torch.int)
    for tile, (top, left) in zip(tiles, corners):
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


@exercise(
    notebook="07",
    kind="build",
    points=3,
    minutes=15,
    signature="bordered_grid(images, columns: int, gap: int) -> uint8 (height, width, 3)",
    misconceptions={
        "down_columns": (
            "Your pictures run down the columns. Eq. 6 fills row by row: the row is n // columns, "
            "the column n % columns."
        ),
        "channels": (
            "Your pixels are jumbled: a reshape from (3, H, W) to (H, W, 3) reads the numbers on "
            "in their old order. Axes are moved by permute."
        ),
        "touching": (
            "Your pictures touch, or cover each other: from one to the next it is a picture and a "
            "gap, H + gap rows."
        ),
        "no_frame": "The lines run around the grid too: there is one more line than pictures.",
        "double_lines": (
            "Between two of your pictures lie two gaps. Each picture brought its own frame; "
            "neighbours share one line."
        ),
        "lost_row": (
            "Your last row is missing: N // columns rounds down, and a row that is begun needs "
            "its place too."
        ),
        "left_over": (
            "Grey is the ground of the whole sheet, also of places that no picture takes: a white "
            "or black square there looks like a picture."
        ),
        "truncated": (
            "Your values are up to one level too dark: the change to uint8 cuts off, so round "
            "first."
        ),
    },
    praise="Right: every picture in its place, and the lines say where one ends.",
)
def bordered_grid(answer) -> None:
    """Eq. 6 with lines: picture n's corner is (gap + row (H + gap), gap + column (W + gap))."""
    for count, (h, w), columns, gap in ((5, (4, 5), 2, 1), (6, (3, 3), 3, 2), (3, (4, 4), 4, 1)):
        images = ramp(count, 3, h, w)
        rows = -(-count // columns)
        size = (gap + rows * (h + gap), gap + columns * (w + gap))
        value = call(answer, images.float(), columns, gap)
        lay_out_mistakes(tuple(value.shape)[:2], (h, w), (rows, columns), (count, gap))
        value = as_uint8(value, (*size, 3))
        tiles = (images * 255).permute(0, 2, 3, 1)
        by_row = [(n // columns, n % columns) for n in range(count)]
        down = [(n % rows, n // rows) for n in range(count)]
        corners, wrong_way = (
            [(gap + r * (h + gap), gap + c * (w + gap)) for r, c in order]
            for order in (by_row, down)
        )
        bare = [(gap + r * h, gap + c * w) for r, c in by_row]
        wanted = placed(tiles.round().int(), corners, size)
        ground = placed(torch.zeros_like(tiles), corners, size) == GREY
        if (value == wanted)[~ground].all() and not (value == wanted).all():
            raise Misconception("left_over")
        mistakes = {
            "down_columns": placed(tiles.round().int(), wrong_way, size),
            "channels": placed((images * 255).round().int().reshape(-1, h, w, 3), corners, size),
            "touching": placed(tiles.round().int(), bare, size),
            "truncated": placed(tiles.int(), corners, size),
        }
        diagnose(value, wanted, mistakes, tolerance=0)


def lay_out_mistakes(found, picture, grid, count_and_gap) -> None:
    """Raise the misconception whose sheet has the size that was found."""
    (h, w), (rows, columns), (count, gap) = picture, grid, count_and_gap
    whole = count // columns
    sizes = {
        "no_frame": (rows * (h + gap) - gap, columns * (w + gap) - gap),
        "double_lines": (rows * (h + 2 * gap), columns * (w + 2 * gap)),
        "lost_row": (gap + whole * (h + gap), gap + columns * (w + gap)),
    }
    right = (gap + rows * (h + gap), gap + columns * (w + gap))
    for key, size in sizes.items():
        if found == size != right:
            raise Misconception(key)


@exercise(
    notebook="07",
    kind="bug",
    points=2,
    minutes=10,
    signature="as_bytes(x) -> uint8 tensor, the same shape; x in [-1, 1], some values beyond",
    misconceptions={
        "own_range_each": (
            "Each picture is still stretched to its own darkest and brightest value: a pale one "
            "and a glaring one come out alike, so the figure lies about contrast."
        ),
        "own_range": (
            "The batch is stretched to its own darkest and brightest value: a picture's bytes then "
            "depend on its neighbours. The range is [-1, 1], whatever lies in it."
        ),
        "clamped_first": (
            "You clamp to [0, 1] while the values still run from -1 to 1: the dark half is lost. "
            "Scale first, then clamp."
        ),
        "wraps": (
            "A value a little beyond the range comes out at the other end: 256 wraps to 0 in a "
            "byte. Clamp before you change the type."
        ),
        "truncated": "You are up to one level too dark: the type's change cuts off. Round first.",
        "in_place": (
            "Right bytes, but you changed the pictures that you were given: an operation with an "
            "underscore, or +=, writes into the caller's tensor."
        ),
    },
    praise="Right: a byte depends on its own value alone, and too bright is white.",
)
def as_bytes(answer) -> None:
    """(x + 1) / 2, clamped to [0, 1], times 255, rounded."""
    whole = ramp(2, 3, 4, 5, low=-1.31, high=1.27)
    pale = ramp(1, 3, 4, 5, low=-0.213, high=0.171)
    x = torch.cat([whole, pale]).float()
    given = x.clone()
    value = as_uint8(call(answer, given), tuple(x.shape))
    share = (x.double() + 1) / 2
    wanted = (share.clamp(0, 1) * 255).round().int()
    off = (value - wanted).abs()
    inside = (share >= 0) & (share <= 1)
    if not off.any():
        if not torch.equal(given, x):
            raise Misconception("in_place")
        return
    if off.max() <= 1:
        raise Misconception("truncated")
    if off[inside].max() <= 1:
        raise Misconception("wraps")
    each_low, each_high = (f(x.double(), (1, 2, 3)) for f in (torch.amin, torch.amax))
    each_low, each_high = each_low[:, None, None, None], each_high[:, None, None, None]
    mistakes = {
        "own_range_each": [(x - each_low) / (each_high - each_low)],
        "own_range": [(x - x.min()) / (x.max() - x.min())],
        "clamped_first": [x.clamp(0, 1), (x.clamp(0, 1) + 1) / 2],
    }
    for key, mistaken in mistakes.items():
        if any(((255 * each - value).abs() <= 1.01).all() for each in mistaken):
            raise Misconception(key)
    raise Wrong(differs(value, wanted))


@exercise(
    notebook="07",
    kind="bug",
    points=3,
    minutes=10,
    signature="exponential_mean(values, keep: float) -> (N,), the same length as values",
    misconceptions={
        "zero_start": (
            "Your curve still climbs from 0: the sum starts empty, so after n + 1 values its "
            "weights add up to 1 - keep^(n+1), not to 1. Divide by that."
        ),
        "first_start": (
            "Started at the first value, the recursion gives that one value keep^n of the weight: "
            "a lucky first loss hangs on for long. Start at 0 and divide by the weights' sum."
        ),
        "one_early": (
            "Your power is one too small, so the first value is divided by 1 - 1 = 0. After value "
            "number n, counted from 0, n + 1 values are in."
        ),
        "swapped": (
            "You keep 1 - keep of the old and take keep of the new: your curve jumps where it "
            "should be steady."
        ),
        "fed_back": (
            "Your corrected value goes back into the recursion and is corrected again. Keep the "
            "raw sum m for the next turn, and hand out m divided by its weights."
        ),
    },
    praise="Right: a mean from the first value on. Equal losses give a flat line.",
)
def exponential_mean(answer) -> None:
    """m_n = keep m_{n-1} + (1 - keep) l_n from 0, handed out divided by 1 - keep^(n+1)."""
    for values, keep in (
        ([4.0, 2.0, 6.0, 0.0, 1.5], 0.9),
        ([3.0] * 4, 0.6),
        ([0.5, 8.0, 1.0], 0.0),
    ):
        n = torch.arange(len(values))
        wanted = raw_mean(values, keep) / (1 - keep ** (n + 1))
        value = torch.as_tensor(np.asarray(call(answer, list(values), keep), dtype=np.float64))
        if value.shape == n.shape and not value[0].isfinite() and value[1:].isfinite().all():
            raise Misconception("one_early")
        value = call_tensor(lambda value=value: value, shape=(len(values),))
        swapped = 1 - keep
        mistakes = {
            "zero_start": raw_mean(values, keep),
            "first_start": raw_mean(values, keep, start=values[0]),
            "fed_back": fed_back(values, keep),
            "swapped": raw_mean(values, swapped) / (1 - swapped ** (n + 1)).clamp(min=1e-9),
        }
        diagnose(value, wanted, mistakes, tolerance=1e-5)


def raw_mean(values: list[float], keep: float, start: float = 0.0) -> Tensor:
    """The recursion alone, from `start`."""
    table = []
    for value in values:
        start = keep * start + (1 - keep) * value
        table.append(start)
    return torch.tensor(table, dtype=torch.float64)


def fed_back(values: list[float], keep: float) -> Tensor:
    """The recursion on its own corrected values."""
    m, table = 0.0, []
    for n, value in enumerate(values):
        m = (keep * m + (1 - keep) * value) / (1 - keep ** (n + 1))
        table.append(m)
    return torch.tensor(table, dtype=torch.float64)


@exercise(
    notebook="07",
    kind="bug",
    points=3,
    minutes=15,
    signature="live_picture(slider, render) -> widgets.Image; render(value: int) -> bytes",
    misconceptions={
        "empty_first": (
            "Nothing is drawn until somebody moves the slider: a callback only hears of changes. "
            "Draw once yourself before you return."
        ),
        "old_value": (
            "Your picture is one move behind: it shows the value before the move. change['new'], "
            "or slider.value inside the callback, is the present one."
        ),
        "frozen": (
            "Your callback draws the first value again and again: it was read once, outside. Read "
            "slider.value inside the callback."
        ),
        "deaf": (
            "The slider moves and nothing is drawn. What moves is the trait called 'value': is "
            "that the name you observe?"
        ),
        "every_trait": (
            "You draw at every change of the slider, also of its description or range. Observe "
            "names='value' alone: elsewhere change['new'] is no value."
        ),
    },
    praise="Right: the picture is always render(slider.value), from the start on.",
)
def live_picture(answer) -> None:
    """image.value is render(slider.value) at once and after each move, and drawn only then."""
    drawn = []

    def render(value) -> bytes:
        drawn.append(value)
        return f"picture of {value}".encode()

    slider = widgets.IntSlider(3, 0, 9)
    image = call(answer, slider, render)
    if not isinstance(image, widgets.Image):
        raise Wrong(f"you return {type(image).__name__}; expected the widgets.Image that follows.")
    if not image.value:
        raise Misconception("empty_first")
    moves = [(3, image.value)]
    for value in (5, 7):
        count = len(drawn)
        slider.value = value
        if len(drawn) == count:
            raise Misconception("deaf")
        moves.append((value, image.value))
    if [seen for _, seen in moves[1:]] == [b"picture of 3"] * 2:
        raise Misconception("frozen")
    if [seen for _, seen in moves[1:]] == [b"picture of 3", b"picture of 5"]:
        raise Misconception("old_value")
    for value, seen in moves:
        if seen != f"picture of {value}".encode():
            raise Wrong(f"with the slider at {value} your image holds {seen[:40]!r}.")
    count = len(drawn)
    slider.description, slider.max = "seed", 20
    if len(drawn) != count:
        raise Misconception("every_trait")


SPREAD_SETS = ("black and white", "one board twice", "one white of ten")


@exercise(
    notebook="07",
    kind="predict",
    points=2,
    minutes=8,
    signature=f"spreads: dict with a number for each of {', '.join(map(repr, SPREAD_SETS))}",
    misconceptions={
        "across_pixels": (
            "Two equal pictures have no spread: eq. 4 goes along n, over pictures, at one pixel. "
            "You looked along the pixels of a picture."
        ),
        "unbiased": (
            "You divided by N - 1, as std does by default. Eq. 4 has 1 / N: that is what "
            "unbiased=False stood for in the notebook."
        ),
        "variance": "Those are the variances: eq. 4 has a root around the mean square.",
        "doubled": "You say 2σ, what the picture shows. Asked is σ itself.",
        "range": (
            "You say how far the values lie apart at most. The spread is how far a picture is from "
            "the mean, as a root of a mean square."
        ),
    },
    praise="Right: it counts how pictures differ at one place, not how lively each of them is.",
)
def spreads(answer) -> None:
    """Eq. 4's σ of three sets, averaged over the pixels."""
    board = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    flat = [torch.tensor(values, dtype=torch.float64) for values in ([0, 1], [0] * 9 + [1])]
    sets = [each[:, None, None].expand(-1, 2, 2) for each in flat]
    sets.insert(1, torch.stack([board, board]))

    def each(measure) -> Tensor:
        return torch.stack([measure(x) for x in sets])

    wanted = each(lambda x: x.std(0, unbiased=False).mean())
    mistakes = {
        "across_pixels": torch.stack([wanted[0], board.std(unbiased=False), wanted[2]]),
        "unbiased": each(lambda x: x.std(0).mean()),
        "variance": wanted**2,
        "doubled": 2 * wanted,
        "range": each(lambda x: (x.amax(0) - x.amin(0)).mean()),
    }
    mistakes |= {"across": each(lambda x: x.flatten(1).std(1, unbiased=False).mean())}
    value = told_numbers(answer, SPREAD_SETS)
    if close(value, mistakes.pop("across"), 0.005):
        raise Misconception("across_pixels")
    diagnose(value, wanted, mistakes, tolerance=0.005)
