"""Answers to notebook 08's exercises: running, resuming, comparing."""

import io
import math
import os
import shutil
import tempfile
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from cdiff_helpers import evaluation
from exercises.private import right

NAMES = ("within 0.02", "within 0.01", "each class within 0.02")


def needed(*numbers):
    return dict(zip(NAMES, numbers))


known = right(
    "pictures_needed",
    "and that is why the judge refuses verdicts on twenty images.",
    needed(2500, 10_000, 25_000),
    *(needed(*numbers) for numbers in product((2401, 2500), (9604, 9700), (24_010, 25_000))),
    needed(*map(np.int64, (2400, 9600, 24_000))),
    otherwise="Set the uncertainty equal to the one that is asked for, and solve for N.",
    solution="""\
within = {d: 4 * 0.5 * (1 - 0.5) / d**2 for d in (0.02, 0.01)}
pictures_needed = {"within 0.02": within[0.02], "within 0.01": within[0.01]}
pictures_needed["each class within 0.02"] = 10 * within[0.02]""",
)
known.mistake(
    "no_root",
    "Without the root a handful would do. The uncertainty falls with the root of N, so solve "
    "2 √(p (1 - p) / N) = 0.02 for N.",
    needed(25, 50, 250),
)
known.mistake(
    "linear",
    "To halve an uncertainty takes four times as many, not twice: it falls with the root of N.",
    needed(2500, 5000, 25_000),
)
known.mistake(
    "one_for_all",
    "That is enough for all images together. A class sees only its own tenth of them, and needs "
    "as many for itself alone.",
    needed(2500, 10_000, 2500),
)
known.mistake(
    "whole_width",
    "Four times too many: you took 0.02 for the whole width, or left out p (1 - p). 'Within 0.02' "
    "is to either side, and the formula says exactly that side.",
    needed(10_000, 40_000, 100_000),
)
known.mistake(
    "one_sigma",
    "You left out the factor 2: one standard error holds in two cases of three. 95 % need about "
    "two of them.",
    needed(625, 2500, 6250),
)
known.mistake(
    "classes_save",
    "Ten classes do not make it cheaper: each has only a tenth of the images to be known by.",
    needed(2500, 10_000, 250),
)
known.mistake(
    "classes_squared",
    "Ten times as many for ten classes, not a hundred times: the uncertainty that each may have is "
    "the same as before.",
    needed(2500, 10_000, 250_000),
)


def difference_interval(right1, count1, right2, count2):
    """The ends (low, high) of a 95 % interval of p1 - p2."""
    p1, p2 = right1 / count1, right2 / count2
    l1, u1 = evaluation.wilson_interval(right1, count1)
    l2, u2 = evaluation.wilson_interval(right2, count2)
    down, up = np.hypot(p1 - l1, u2 - p2), np.hypot(u1 - p1, p2 - l2)
    return p1 - p2 - down, p1 - p2 + up


def by_formula(right1, count1, right2, count2):
    z2 = 1.96**2
    p, n = np.array([right1, right2]) / [count1, count2], np.array([count1, count2])
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * p * (1 - p) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    down, up = p - middle + half, middle + half - p
    return p[0] - p[1] + np.array([-np.hypot(down[0], up[1]), np.hypot(up[0], down[1])])


def sides(down, up, one=evaluation.wilson_interval):
    """A difference_interval by two functions of p1 - l1, u1 - p1, p2 - l2, u2 - p2."""

    def difference_interval(right1, count1, right2, count2):
        p1, p2 = right1 / count1, right2 / count2
        (l1, u1), (l2, u2) = one(right1, count1), one(right2, count2)
        distances = p1 - l1, u1 - p1, p2 - l2, u2 - p2
        return torch.tensor([p1 - p2 - down(*distances), p1 - p2 + up(*distances)])

    return difference_interval


def wald_interval(right, count, z=1.96, least=-1, most=2):
    p = right / count
    half = z * (p * (1 - p) / count) ** 0.5
    return max(least, p - half), min(most, p + half)


joined = lambda a, b, c, d: math.hypot(a, d), lambda a, b, c, d: math.hypot(b, c)
worst = lambda a, b, c, d: a + d, lambda a, b, c, d: b + c
clipped = partial(wald_interval, least=0, most=1)


def pooled(right1, count1, right2, count2):
    d, p = right1 / count1 - right2 / count2, (right1 + right2) / (count1 + count2)
    half = 1.96 * (p * (1 - p) * (1 / count1 + 1 / count2)) ** 0.5
    return d - half, d + half


known = right(
    "difference_interval",
    "where 0 lies outside, the two models are told apart.",
    difference_interval,
    by_formula,
    sides(*joined),
)
known.mistake(
    "ends_subtracted",
    "Worst against worst, end minus end: that both are so unlucky at once is rarer than 1 in 20. "
    "Independent errors add as squares, under a root.",
    sides(*worst),
)
known.mistake(
    "ends_matched",
    "Low minus low, high minus high: your errors cancel, as if both models were unlucky together. "
    "They are independent.",
    matched := sides(lambda a, b, c, d: a - c, lambda a, b, c, d: b - d),
    lambda *counts: sorted(matched(*counts)),
)
known.mistake(
    "sides_swapped",
    "Your two sides are exchanged: the difference is low where p1 is low and p2 is high, so its "
    "low end takes p1 - l1 and u2 - p2.",
    sides(*joined[::-1]),
)
known.mistake(
    "same_sides",
    "You join both lower sides, and both upper ones. The difference is low where p1 is low and p2 "
    "is high.",
    sides(lambda a, b, c, d: math.hypot(a, c), lambda a, b, c, d: math.hypot(b, d)),
)
known.mistake(
    "plain",
    "You added plain standard errors (Wald's interval): with few images, or a share of 0 or 1, "
    "they claim a certainty that is not there. Start from Wilson's ends.",
    sides(*joined, wald_interval),
    sides(*joined, partial(wald_interval, z=2)),
    sides(*joined, clipped),
)
known.mistake(
    "plain_ends_subtracted",
    "Two slips: your ends are Wald's, p ± 1.96 standard errors, which are too near where p is 0 or "
    "1; and you join them end to end, where independent errors add as squares.",
    sides(*worst, wald_interval),
    sides(*worst, clipped),
)
known.mistake(
    "pooled",
    "You pooled the two shares into one: that is the standard error of a test, where both are the "
    "same. An interval needs each one's own.",
    pooled,
)
known.mistake(
    "symmetric",
    "Your two sides are equally long: you take half the width of Wilson's intervals. Their ends do "
    "not lie equally far from p, so measure from p to each end.",
    sides(*[lambda a, b, c, d: math.hypot(a + b, c + d) / 2] * 2),
)
known.mistake(
    "no_root",
    "You add the squares and take no root: your interval is far too short.",
    sides(lambda a, b, c, d: a**2 + d**2, lambda a, b, c, d: b**2 + c**2),
)
known.mistake(
    "second_minus_first",
    "Your sign is turned: asked is p1 - p2, the first minus the second.",
    lambda right1, count1, right2, count2: difference_interval(right2, count2, right1, count1),
)
known.mistake(
    "high_first",
    "Your two ends have changed places: low first, then high.",
    lambda *counts: difference_interval(*counts)[::-1],
)


def energy_distance(x, y):
    """The unbiased energy distance of features (M, D) and (N, D): a number."""
    within = [torch.cdist(each, each) for each in (x, y)]
    spread = sum(k.sum() / (len(k) * (len(k) - 1)) for k in within)  # without the diagonal
    return float(2 * torch.cdist(x, y).mean() - spread)


def pair_by_pair(x, y):
    def mean_distance(a, b, same=False):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return np.mean([np.linalg.norm(a[i] - b[j]) for i, j in pairs])

    a, b = x.numpy(), y.numpy()
    return 2 * mean_distance(a, b) - mean_distance(a, a, True) - mean_distance(b, b, True)


def distance(x, y, within=lambda k: torch.pdist(k).mean(), twice=2, sign=-1, power=1):
    """An energy distance, or one with a mistake."""
    between = (torch.cdist(x, y) ** power).mean()
    return twice * between + sign * (within(x) + within(y))


def diagonal(k):
    return torch.cdist(k, k).mean()


known = right(
    "energy_distance",
    "on average 0 for two sets of the same kind, at any count.",
    energy_distance,
    pair_by_pair,
    distance,
)
known.mistake(
    "unchanged",
    "Each image is still compared with itself, at distance 0: that makes the mean within a set too "
    "small, most of all in small sets. N (N - 1) pairs are left.",
)
known.mistake(
    "one_set",
    "Only one of the two sets is mended: in the other each image is still compared with itself.",
    lambda x, y: 2 * torch.cdist(x, y).mean() - torch.pdist(x).mean() - diagonal(y),
    lambda x, y: 2 * torch.cdist(x, y).mean() - diagonal(x) - torch.pdist(y).mean(),
)
known.mistake(
    "half_the_pairs",
    "You sum each pair once and divide by N (N - 1), which counts each pair twice: your mean "
    "within a set is half of what it should be.",
    partial(distance, within=lambda k: torch.pdist(k).mean() / 2),
)
known.mistake(
    "between_too",
    "Between the sets there is no diagonal to leave out: all M N distances are between two "
    "different images.",
    lambda x, y: distance(x, y, twice=2 * len(y) / (len(x) - 1)),
    lambda x, y: distance(x, y, twice=2 * len(y) / (len(y) - 1)),
    lambda x, y: distance(x, y, twice=2 * len(x) / (len(x) - 1)),
)
known.mistake(
    "once",
    "The distance between the sets counts twice: only then does it balance the two terms within, "
    "and equal sets come out at 0.",
    partial(distance, twice=1),
)
known.mistake(
    "squared",
    "With squared distances nothing is left but the distance of the two means: a set ten times as "
    "wide would look perfect. Take the distance itself.",
    partial(distance, power=2, within=lambda k: torch.pdist(k).square().mean()),
)
known.mistake(
    "added",
    "The mean distance within the sets is taken off, not added: else equal sets lie apart.",
    partial(distance, sign=1),
)
known.mistake(
    "rooted",
    "You take a root at the end. Asked is D² itself, which may also be a little below 0.",
    lambda x, y: distance(x, y).clamp(min=0).sqrt(),
)


def draw_all(draw, labels, batch_size, seed):
    """Images (N, 3, H, W) for labels (N,), image i from seed + i in any batch."""
    starts = range(0, len(labels), batch_size)
    return torch.cat([draw(labels[i : i + batch_size], seed=seed + i) for i in starts])


def growing(draw, labels, batch_size, seed):
    images = []
    while len(images) < len(labels):
        done = len(images)
        images.extend(draw(labels[done : done + batch_size], seed=seed + done))
    return torch.stack(images)


def in_batches(seed_of):
    """A draw_all by the seed of batch k, which holds `some` labels."""
    return lambda draw, labels, batch_size, seed: torch.cat(
        [
            draw(some, seed=seed_of(seed, k, batch_size, len(some)))
            for k, some in enumerate(labels.split(batch_size))
        ]
    )


def whole_batches(draw, labels, batch_size, seed):
    return draw_all(draw, labels[: len(labels) // batch_size * batch_size], batch_size, seed)


def first_labels(draw, labels, batch_size, seed):
    sizes = [(i, min(batch_size, len(labels) - i)) for i in range(0, len(labels), batch_size)]
    return torch.cat([draw(labels[:size], seed=seed + i) for i, size in sizes])


known = right(
    "draw_all",
    "image i is the same in any batch.",
    draw_all,
    growing,
    lambda draw, labels, batch_size, seed: draw_all(draw, labels, 1, seed),
    lambda draw, labels, batch_size, seed: draw(labels, seed=seed),
)
known.mistake(
    "unchanged",
    "Every batch starts from the same noise: image 0 of each is one and the same, and a thousand "
    "images are as few as one batch holds.",
)
known.mistake(
    "one_seed",
    "All images start from one and the same seed: image i is to have seed + i.",
    lambda draw, labels, batch_size, seed: torch.cat([draw(y[None], seed=seed) for y in labels]),
)
known.mistake(
    "batch_number",
    "Your batches are one seed apart, so they overlap: image 1 of the first is image 0 of the "
    "second. Go on by the number of images generated so far.",
    in_batches(lambda seed, k, size, length: seed + k),
)
known.mistake(
    "last_length",
    "You count the images so far by the batch's own length: the last batch is shorter, and starts "
    "too early. All before it were of batch_size.",
    in_batches(lambda seed, k, size, length: seed + k * length),
)
known.mistake(
    "one_batch_late",
    "Your seeds are one batch ahead: the first batch starts at `seed` itself. Count up after you "
    "have used the seed.",
    in_batches(lambda seed, k, size, length: seed + (k + 1) * size),
    in_batches(lambda seed, k, size, length: seed + k * size + length),
)
known.mistake(
    "seed_lost",
    "You start at the batch's place, whatever `seed` is: it has to count, too.",
    in_batches(lambda seed, k, size, length: k * size),
)
known.mistake(
    "lost_rest",
    "The last, smaller batch is missing: N need not be a multiple of batch_size.",
    whole_batches,
)
known.mistake(
    "first_labels",
    "Every batch asks for the first labels: cut them as you move along.",
    first_labels,
)


def save_whole(path, write):
    """Put what `write` writes at path, whole or not at all; returns path."""
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with beside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # on the disk, not on its way there
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return path


def by_descriptor(path, write):
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return str(path)


def from_memory(path, write):
    buffer = io.BytesIO()
    write(buffer)
    beside = Path(f"{path}.part")
    beside.write_bytes(buffer.getvalue())
    return beside.replace(path)


def in_a_folder_of_its_own(path, write):
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        with (Path(folder) / "new").open("wb") as file:
            write(file)
        (Path(folder) / "new").rename(path)
    return path


def beside(put, clean=BaseException, swallow=(), early=False):
    """A save_whole: write beside it, `put(new, path)`; errors of some classes clean up, or end."""

    def save_whole(path, write):
        new = path.with_suffix(".new")
        try:
            with new.open("wb") as file:
                write(file)
                if early:
                    put(new, path)
            if not early:
                put(new, path)
        except clean as error:
            new.unlink(missing_ok=True)
            if not isinstance(error, swallow):
                raise
        return path

    return save_whole


def emptying(path, write):
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        write(file)
    return path


def renaming(new, path):
    new.replace(path)


def restoring(path, write):
    old = path.read_bytes() if path.exists() else None
    try:
        with path.open("wb") as file:
            write(file)
    except BaseException:
        if old is not None:
            path.write_bytes(old)
        raise
    return path


def removing(new, path):
    if path.exists():
        os.remove(path)  # noqa: PTH107, a way that must be noticed too
    new.rename(path)


def moving_away(new, path):
    old = path.with_suffix(".old")
    if path.exists():
        path.rename(old)
    new.rename(path)
    old.unlink(missing_ok=True)


def copying(new, path):
    shutil.copyfile(new, path)
    new.unlink()


def into_memory(path, write):
    buffer = io.BytesIO()
    write(buffer)
    path.write_bytes(buffer.getvalue())
    return path


def elsewhere(path, write):
    with tempfile.NamedTemporaryFile(delete=False) as file:
        try:
            write(file)
        except BaseException:
            os.unlink(file.name)
            raise
    shutil.move(file.name, path)
    return path


known = right(
    "save_whole",
    "old or new, whoever looks, whenever it stops.",
    save_whole,
    by_descriptor,
    from_memory,
    in_a_folder_of_its_own,
)
known.mistake(
    "unchanged",
    "The old file is emptied before the new one is whole: who stops the run in between has "
    "neither. Write beside it, then rename.",
)
known.mistake(
    "restored",
    "You put the old bytes back after a failure. Until then path holds half a file, and a process "
    "that is killed puts nothing back. Write beside it, then rename.",
    restoring,
)
known.mistake(
    "deleted_first",
    "You remove the old file, or move it away, before the new one stands: for a moment there is "
    "none. os.replace puts one in the other's place at once.",
    emptying,
    beside(removing),
    beside(removing, clean=()),
    beside(moving_away),
    beside(moving_away, clean=()),
)
known.mistake(
    "left_over",
    "Where writing fails or is interrupted, your half-written file stays behind: a night of "
    "failures fills the disk. Remove it, whatever the error is, then let the error go on.",
    beside(renaming, clean=()),
    beside(renaming, clean=Exception),
)
known.mistake(
    "swallowed",
    "The error ends in your function, so the run goes on and nobody knows that nothing was saved. "
    "Clean up, then raise it again.",
    beside(renaming, swallow=BaseException),
    beside(renaming, swallow=Exception),
    beside(renaming, clean=OSError, swallow=OSError),
)
known.mistake(
    "elsewhere",
    "Your first file lies in another folder, perhaps on another disk, from where no rename is "
    "possible. Put it beside the one it replaces.",
    elsewhere,
)
known.mistake(
    "copied",
    "You put the finished bytes into the old file: that, too, can be stopped half-way. A rename "
    "cannot: os.replace.",
    beside(copying),
    beside(copying, clean=()),
    into_memory,
)
known.mistake(
    "replaced_early",
    "You rename while the file is still open: its last bytes may not be in it yet. Close it first.",
    beside(renaming, early=True),
)

right(
    "final_task",
    "the folder can be read without running anything, and its network generates images.",
    solution="""\
if not training.holds_run(final_task):  # the form; a mark may take more updates
    updates = str(max(2, preset.num_updates // 10))
    main(["train", "--out", str(final_task), "--updates", updates])""",
)
