"""Answers to notebook 07's exercises: looking at what was generated."""

import ipywidgets as widgets
import numpy as np
import torch
import torch.nn.functional as F

from exercises.private import right


def as_bytes(x):
    """Images in [-1, 1], some values beyond, as uint8 of the same shape."""
    share = ((x + 1) / 2).clamp(0, 1)  # by agreement, not by what lies in it
    return (share * 255).round().to(torch.uint8)


def added_in_place(x):
    x += 1
    return (x * 127.5).clamp(0, 255).round().byte()


def stretched(dims, whole=torch.round):
    """as_bytes with the range of what lies along these dimensions."""

    def as_bytes(x):
        low, high = x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)
        return whole((x - low) / (high - low) * 255).byte()

    return as_bytes


known = right(
    "as_bytes",
    "a byte depends on its own value alone, and too bright is white.",
    as_bytes,
    lambda x: (127.5 * x + 127.5 + 0.5).floor().clamp(0, 255).to(torch.uint8),
    lambda x: np.clip(np.rint((x.numpy() + 1) * 127.5), 0, 255).astype(np.uint8),
)
known.mistake(
    "unchanged",
    "This is the printed code: it stretches every image to its own darkest and brightest value, so "
    "a pale one and a glaring one come out alike. Besides, a conversion to uint8 cuts off.",
)
known.mistake(
    "own_range_each",
    "Each image is still stretched to its own darkest and brightest value: a pale one and a "
    "glaring one come out alike, so the figure lies about contrast.",
    stretched((1, 2, 3)),
)
known.mistake(
    "own_range",
    "The batch is stretched to its own darkest and brightest value: an image's bytes then depend "
    "on its neighbors. The range is [-1, 1], whatever lies in it.",
    stretched((0, 1, 2, 3)),
    stretched((0, 1, 2, 3), torch.floor),
)
known.mistake(
    "own_range_per_channel",
    "You stretch each channel to its own range: that changes contrast and color. The range is "
    "[-1, 1] for all of them.",
    stretched((2, 3)),
    stretched((2, 3), torch.floor),
)
known.mistake(
    "clamped_first",
    "You clamp to [0, 1] while the values still run from -1 to 1: the dark half is lost. Scale "
    "first, then clamp.",
    lambda x: (x.clamp(0, 1) * 255).round().byte(),
    lambda x: (x.clamp(0, 1) * 255).byte(),
    lambda x: ((x.clamp(0, 1) + 1) * 127.5).round().byte(),
    lambda x: ((x.clamp(0, 1) + 1) * 127.5).byte(),
)
known.mistake(
    "wraps",
    "A value a little beyond the range comes out at the other end: 256 wraps to 0 in a byte. Clamp "
    "before you change the type.",
    lambda x: ((x + 1) * 127.5).round().int().byte(),
    lambda x: ((x + 1) * 127.5).int().byte(),
)
known.mistake(
    "truncated",
    "You are up to one level too dark: the conversion to uint8 cuts off. Round first.",
    lambda x: ((x + 1) * 127.5).clamp(0, 255).byte(),
)
known.mistake(
    "times_256",
    "You scale by 256. There are 256 levels, but the brightest of them is 255.",
    lambda x: ((x + 1) * 128).clamp(0, 255).round().byte(),
    lambda x: ((x + 1) * 128).clamp(0, 255).byte(),
)
known.mistake(
    "in_place",
    "You change the images that you were given: an operation with an underscore, or +=, writes "
    "into the caller's tensor. Work on a new one.",
    lambda x: x.add_(1).div_(2).clamp_(0, 1).mul_(255).round_().byte(),
    added_in_place,
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


known = right(
    "exponential_mean",
    "a mean from the first value on. Equal losses give a flat line.",
    exponential_mean,
    both_sums,
    weighted(lambda n: np.arange(n, -1, -1)),
)
known.mistake(
    "unchanged",
    "Your curve still climbs from 0, as the printed one does: the sum starts empty, so after n + 1 "
    "values its weights add up to 1 - keep^(n+1), not to 1. Divide by that.",
)
known.mistake(
    "first_start",
    "Started at the first value, the recursion gives that one value keep^n of the weight: a lucky "
    "first loss hangs on for long. Start at 0 and divide by the weights' sum.",
    recursion(first=True),
)
known.mistake(
    "one_early",
    "You divide by 0, and 1 - keep^0 is 0: is your power one too small? After value number n, "
    "counted from 0, n + 1 values are in.",
    recursion(lambda keep, n: 1 - keep**n),
)
known.mistake(
    "one_late",
    "Your power is one too large, so the first values come out too small. After value number n, "
    "counted from 0, n + 1 values are in.",
    recursion(lambda keep, n: 1 - keep ** (n + 2)),
)
known.mistake(
    "swapped",
    "You keep 1 - keep of the old and take keep of the new: your curve jumps where it should be "
    "steady.",
    recursion(lambda keep, n: 1 - keep ** (n + 1), swap=True),
)
known.mistake(
    "fed_back",
    "Your corrected value goes back into the recursion and is corrected again. Keep the raw sum m "
    "for the next turn, and hand out m divided by its weights.",
    recursion(lambda keep, n: 1 - keep ** (n + 1), back=True),
)
known.mistake(
    "sum_alone",
    "You divide by 1 - keep, as if infinitely many values were in already. So far there are n + 1, "
    "and their weights have another sum.",
    recursion(lambda keep, n: 1 - keep),
)
known.mistake(
    "oldest_most",
    "Your weights fade the wrong way: the first value counts most. The newest has weight 1, the "
    "one before it keep, and so on back.",
    weighted(lambda n: np.arange(n + 1)),
)
known.mistake(
    "plain_mean",
    "All your values weigh the same, whatever keep is. Older ones have to fade.",
    lambda values, keep: np.cumsum(values) / np.arange(1, len(values) + 1),
)


def of_sets(*values):
    """A number for each of the three sets, as a student writes them down."""
    return dict(zip(("black and white", "one board twice", "one white of ten"), values))


known = right(
    "spreads",
    "it counts how images differ at one place, not how lively each of them is.",
    of_sets(0.5, 0.0, 0.3),
    of_sets(*np.float32([0.5, 0, 0.3])),
    dict(reversed(of_sets(1 / 2, 0, 3 / 10).items())),
    otherwise="Which values do the images of the set have at one pixel, and what is their mean?",
)
known.mistake(
    "across_pixels",
    "Eq. 4 goes along n, over images, at one pixel. You looked along the pixels of an image.",
    of_sets(0.5, 0.5, 0.3),
    of_sets(0, 0.5, 0),
)
known.mistake(
    "unbiased",
    "You divided by N - 1, as std does by default. Eq. 4 has 1 / N: that is what unbiased=False "
    "stood for in the notebook.",
    of_sets(0.5**0.5, 0, 0.1**0.5),
    of_sets(0.7, 0, 0.3),
)
known.mistake(
    "variance",
    "Those are the variances: eq. 4 has a root around the mean square.",
    of_sets(0.25, 0, 0.09),
)
known.mistake(
    "doubled",
    "You give 2σ, what the figure shows. Asked is σ itself.",
    of_sets(1, 0, 0.6),
)
known.mistake(
    "range",
    "You give how far the values lie apart at most. σ is how far an image is from the mean, as a "
    "root of a mean square.",
    of_sets(1, 0, 1),
)
known.mistake(
    "absolute",
    "You averaged plain distances from the mean. Eq. 4 squares them, averages, and takes the root.",
    of_sets(0.5, 0, 0.18),
)
known.mistake(
    "mean",
    "Those are the means μ. σ says how far the images lie from them.",
    of_sets(0.5, 0.5, 0.1),
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


def reshaped(images, columns, gap):
    (n, _, h, w), rows = images.shape, -(-len(images) // columns)
    grey = torch.full((rows * columns, 3, h + gap, w + gap), 128 / 255)
    grey[:n, :, gap:, gap:] = images
    cells = grey.view(rows, columns, 3, h + gap, w + gap).permute(0, 3, 1, 4, 2)
    paper = F.pad(cells.reshape(rows * (h + gap), -1, 3), (0, 0, 0, gap, 0, gap), value=128 / 255)
    return (paper * 255).round().byte()


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


known = right(
    "bordered_grid",
    "every image in its place, and the lines say where one ends.",
    bordered_grid,
    reshaped,
    lambda x, columns, gap: laid_out()(x, columns, gap).numpy(),
)
known.mistake(
    "down_columns",
    "Your images run down the columns. Eq. 6 fills row by row: the row is n // columns, the column "
    "n % columns.",
    laid_out(place=lambda n, rows, columns: (n % rows, n // rows)),
)
known.mistake(
    "channels",
    "Your pixels are jumbled: a reshape from (3, H, W) to (H, W, 3) reads the numbers on in their "
    "old order. Axes are moved by permute.",
    laid_out(lambda x: (x * 255).round().byte().reshape(len(x), *x.shape[2:], 3)),
)
known.mistake(
    "transposed",
    "Each of your images is mirrored along its diagonal: channels go last, but rows stay before "
    "columns. Which order of axes did you give to permute?",
    laid_out(lambda x: (x * 255).round().byte().permute(0, 3, 2, 1)),
)
known.mistake(
    "touching",
    "Your images touch, or cover each other: from one to the next it is an image and a gap, H + "
    "gap rows.",
    laid_out(between=0),
)
known.mistake(
    "no_frame",
    "The lines run around the grid too: there is one more line than images.",
    lambda x, columns, gap: laid_out()(x, columns, gap)[gap:-gap, gap:-gap],
)
known.mistake(
    "double_lines",
    "Between two of your images lie two gaps. Each image brought its own frame; neighbors share "
    "one line.",
    framed,
)
known.mistake(
    "lost_row",
    "Your last row is missing: N // columns rounds down, and a row that is begun needs its place "
    "too.",
    laid_out(whole_rows=True),
)
known.mistake(
    "left_over",
    "Grey is the ground of the whole sheet, also of places that no image takes: a white or black "
    "square there looks like an image.",
    laid_out(rest=255),
    laid_out(rest=0),
)
known.mistake(
    "other_ground",
    "Every image is in its place, but the sheet below them is not of grey 128.",
    *(laid_out(ground=level, rest=level) for level in (0, 127, 255)),
)
known.mistake(
    "truncated",
    "Your values are up to one level too dark: the conversion to uint8 cuts off, so round first.",
    laid_out(lambda x: (x * 255).byte().permute(0, 2, 3, 1)),
)
known.mistake(
    "not_scaled",
    "Your images come out black: values from 0 to 1 become 0 or 1 as bytes. The brightest level is "
    "255.",
    laid_out(lambda x: x.byte().permute(0, 2, 3, 1)),
    laid_out(lambda x: x.round().byte().permute(0, 2, 3, 1)),
)
known.mistake(
    "channels_first",
    "Your sheet has its channels first, as a network wants them. As a figure's pixels they stand "
    "last: (height, width, 3).",
    lambda x, columns, gap: laid_out()(x, columns, gap).permute(2, 0, 1),
)


def live_picture(slider, render):
    """A widgets.Image that holds render(slider.value), from the start and after each move."""
    image = widgets.Image(value=render(slider.value), format="png")

    def refresh(change):
        image.value = render(change["new"])

    slider.observe(refresh, names="value")
    return image


def refreshed(slider, render):
    image = widgets.Image()

    def refresh(_change=None):
        image.value = render(slider.value)

    slider.observe(refresh, names=["value"])
    refresh()
    return image


class Following(widgets.Image):
    def __init__(self, slider, render):
        super().__init__(value=render(slider.value))
        slider.observe(lambda change: self.set_trait("value", render(change.new)), "value")


def followed(value=lambda change, first: change["new"], empty=False, **names):
    """live_picture with mistakes: in the value rendered, the first image, what is observed."""

    def live_picture(slider, render):
        first = slider.value
        image = widgets.Image() if empty else widgets.Image(value=render(first))

        def refresh(change):
            image.value = render(value(change, first))

        slider.observe(refresh, **names)
        return image

    return live_picture


def old(change, first):
    return change["old"]


def rebound(slider, render):
    image = widgets.Image(value=render(slider.value))

    def refresh(change):
        image = widgets.Image(value=render(change["new"]))
        return image

    slider.observe(refresh, names="value")
    return image


known = right(
    "live_picture",
    "the image is always render(slider.value), from the start on.",
    live_picture,
    refreshed,
    Following,
)
known.mistake(
    "unchanged",
    "This is the printed code: its image is empty at the start, then one move behind, and it is "
    "rendered at every change of the slider. Take one mistake after the other.",
)
known.mistake(
    "empty_first",
    "Nothing is rendered until somebody moves the slider: a callback only hears of changes. Render "
    "once yourself before you return.",
    followed(empty=True, names="value"),
    followed(old, empty=True, names="value"),
    followed(empty=True),
    followed(lambda change, first: change["owner"].value, empty=True),
)
known.mistake(
    "old_value",
    "Your image is one move behind: it shows the value before the move. change['new'], or "
    "slider.value inside the callback, is the present one.",
    followed(old, names="value"),
    followed(old),
)
known.mistake(
    "frozen",
    "Your callback renders the first value again and again: it was read once, outside. Read "
    "slider.value inside the callback.",
    followed(lambda change, first: first, names="value"),
)
known.mistake(
    "deaf",
    "The slider moves and nothing is rendered. What moves is the trait called 'value': is that the "
    "name you observe?",
    followed(names="slider"),
    lambda slider, render: widgets.Image(value=render(slider.value)),
)
known.mistake(
    "every_trait",
    "You render at every change of the slider, also of its description or range. Observe "
    "names='value' alone: elsewhere change['new'] is no value.",
    followed(),
    followed(lambda change, first: change["owner"].value),
)
known.mistake(
    "rebound",
    "Your callback renders the right value, but the image that you returned never gets it: set "
    "that image's value, instead of making a new image or a local name.",
    rebound,
)
