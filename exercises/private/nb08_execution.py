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
from exercises.private import answers

NAMES = ("within 0.02", "within 0.01", "each class within 0.02")


def needed(*numbers):
    return dict(zip(NAMES, numbers))


answers(
    "pictures_needed",
    right=[
        needed(2500, 10_000, 25_000),
        *(needed(*numbers) for numbers in product((2401, 2500), (9604, 9700), (24_010, 25_000))),
        needed(*map(np.int64, (2400, 9600, 24_000))),
    ],
    solution="""\
within = {d: 4 * 0.5 * (1 - 0.5) / d**2 for d in (0.02, 0.01)}
pictures_needed = {"within 0.02": within[0.02], "within 0.01": within[0.01]}
pictures_needed["each class within 0.02"] = 10 * within[0.02]""",
    no_root=[needed(25, 50, 250)],
    linear=[needed(2500, 5000, 25_000)],
    one_for_all=[needed(2500, 10_000, 2500)],
    whole_width=[needed(10_000, 40_000, 100_000)],
    one_sigma=[needed(625, 2500, 6250)],
    classes_save=[needed(2500, 10_000, 250)],
    classes_squared=[needed(2500, 10_000, 250_000)],
)


def difference_interval(right1, count1, right2, count2):
    """The ends (low, high) of a 95 % interval of p1 - p2."""
    p1, p2 = right1 / count1, right2 / count2
    l1, u1 = evaluation.wilson_interval(right1, count1)
    l2, u2 = evaluation.wilson_interval(right2, count2)
    down, up = np.hypot(p1 - l1, u2 - p2), np.hypot(u1 - p1, p2 - l2)
    return p1 - p2 - down, p1 - p2 + up


def by_formula(right, count, z2=1.96**2):
    p = right / count
    half = math.sqrt(z2 * p * (1 - p) / count + z2**2 / (4 * count**2))
    return [(p + z2 / (2 * count) + side * half) / (1 + z2 / count) for side in (-1, 1)]


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


answers(
    "difference_interval",
    right=[difference_interval, sides(*joined, by_formula)],
    ends_subtracted=[sides(*worst)],
    ends_matched=[
        matched := sides(lambda a, b, c, d: a - c, lambda a, b, c, d: b - d),
        lambda *counts: sorted(matched(*counts)),
    ],
    sides_swapped=[sides(*joined[::-1])],
    same_sides=[sides(lambda a, b, c, d: math.hypot(a, c), lambda a, b, c, d: math.hypot(b, d))],
    plain=[
        sides(*joined, wald_interval),
        sides(*joined, partial(wald_interval, z=2)),
        sides(*joined, clipped),
    ],
    plain_ends_subtracted=[sides(*worst, wald_interval), sides(*worst, clipped)],
    pooled=[pooled],
    symmetric=[
        *(sides(one, one) for one in joined),
        sides(*[lambda a, b, c, d: math.hypot(a + b, c + d) / 2] * 2),
    ],
    no_root=[sides(lambda a, b, c, d: a**2 + d**2, lambda a, b, c, d: b**2 + c**2)],
    second_minus_first=[
        lambda right1, count1, right2, count2: difference_interval(right2, count2, right1, count1)
    ],
    high_first=[lambda *counts: difference_interval(*counts)[::-1]],
)


def energy_distance(x, y):
    """The unbiased energy distance of features (M, D) and (N, D): a number."""
    within = [torch.cdist(each, each) for each in (x, y)]
    spread = sum(k.sum() / (len(k) * (len(k) - 1)) for k in within)  # without the diagonal
    return float(2 * torch.cdist(x, y).mean() - spread)


def distance(x, y, within=lambda k: torch.pdist(k).mean(), twice=2, sign=-1, power=1):
    """An energy distance, or one with a mistake."""
    between = (torch.cdist(x, y) ** power).mean()
    return twice * between + sign * (within(x) + within(y))


def diagonal(k):
    return torch.cdist(k, k).mean()


answers(
    "energy_distance",
    right=[energy_distance, distance],
    one_set=[
        lambda x, y: 2 * torch.cdist(x, y).mean() - torch.pdist(x).mean() - diagonal(y),
        lambda x, y: 2 * torch.cdist(x, y).mean() - diagonal(x) - torch.pdist(y).mean(),
    ],
    half_the_pairs=[partial(distance, within=lambda k: torch.pdist(k).mean() / 2)],
    between_too=[
        lambda x, y: distance(x, y, twice=2 * len(y) / (len(x) - 1)),
        lambda x, y: distance(x, y, twice=2 * len(y) / (len(y) - 1)),
        lambda x, y: distance(x, y, twice=2 * len(x) / (len(x) - 1)),
    ],
    once=[partial(distance, twice=1)],
    squared=[partial(distance, power=2, within=lambda k: torch.pdist(k).square().mean())],
    added=[partial(distance, sign=1)],
    cut_at_0=[lambda x, y: max(distance(x, y), 0), lambda x, y: abs(distance(x, y))],
    zeros_dropped=[partial(distance, within=lambda k: (d := torch.cdist(k, k))[d > 0].mean())],
    rooted=[lambda x, y: distance(x, y).clamp(min=0).sqrt(), lambda x, y: distance(x, y).sqrt()],
)


def draw_all(draw, labels, batch_size, seed):
    """Images (N, 3, H, W) for labels (N,), image i from seed + i in any batch."""
    starts = range(0, len(labels), batch_size)
    return torch.cat([draw(labels[i : i + batch_size], seed=seed + i) for i in starts])


def in_batches(seed_of, cut=lambda labels, some: some):
    """A draw_all by the seed of batch k, which holds `some` labels."""
    return lambda draw, labels, batch_size, seed: torch.cat(
        [
            draw(cut(labels, some), seed=seed_of(seed, k, batch_size, len(some)))
            for k, some in enumerate(labels.split(batch_size))
        ]
    )


def going_on(seed, k, size, length):
    return seed + k * size


answers(
    "draw_all",
    right=[
        draw_all,
        lambda draw, labels, _, seed: draw_all(draw, labels, 1, seed),
        in_batches(going_on),
    ],
    all_at_once=[lambda draw, labels, _, seed: draw(labels, seed=seed)],
    one_seed=[lambda draw, labels, _, seed: torch.cat([draw(y[None], seed=seed) for y in labels])],
    batch_number=[in_batches(lambda seed, k, size, length: seed + k)],
    last_length=[in_batches(lambda seed, k, size, length: seed + k * length)],
    one_batch_late=[
        in_batches(lambda seed, k, size, length: seed + (k + 1) * size),
        in_batches(lambda seed, k, size, length: seed + k * size + length),
    ],
    seed_lost=[in_batches(lambda seed, k, size, length: k * size)],
    lost_rest=[
        lambda draw, labels, size, seed: draw_all(
            draw, labels[: len(labels) // size * size], size, seed
        )
    ],
    first_labels=[in_batches(going_on, cut=lambda labels, some: labels[: len(some)])],
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
    return path


def from_memory(path, write, place=lambda path: path.with_suffix(".part")):
    buffer = io.BytesIO()
    write(buffer)
    place(path).write_bytes(buffer.getvalue())
    return place(path).replace(path)


def in_a_folder(put, own=True):
    """A save_whole that writes in a temporary folder, in path's own one or elsewhere."""

    def save_whole(path, write):
        with tempfile.TemporaryDirectory(dir=path.parent if own else None) as folder:
            new = Path(folder) / "new"
            with new.open("wb") as file:
                write(file)
            put(new, path)
        return path

    return save_whole


def beside(put, clean=BaseException, swallow=(), early=False, remove=Path.unlink):
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
            remove(new)
            if not isinstance(error, swallow):
                raise
        return path

    return save_whole


def regardless(path, write):
    new = path.with_suffix(".new")
    try:
        with new.open("wb") as file:
            write(file)
    finally:
        new.replace(path)
    return path


def clearing(new):
    for each in new.parent.iterdir():
        if each.suffix != ".bin":
            each.unlink()


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


answers(
    "save_whole",
    right=[save_whole, by_descriptor, from_memory, in_a_folder(renaming)],
    restored=[restoring],
    deleted_first=[
        emptying,
        beside(removing),
        beside(removing, clean=()),
        beside(moving_away),
        beside(moving_away, clean=()),
    ],
    left_over=[
        beside(renaming, clean=()),
        beside(renaming, clean=Exception),
        beside(renaming, clean=(OSError, KeyboardInterrupt)),
    ],
    swallowed=[
        beside(renaming, swallow=BaseException),
        beside(renaming, swallow=Exception),
        beside(renaming, clean=OSError, swallow=OSError),
    ],
    half_replaces=[regardless],
    others_deleted=[beside(renaming, remove=clearing)],
    elsewhere=[in_a_folder(shutil.move, own=False), in_a_folder(shutil.copy, own=False)],
    copied=[beside(copying), beside(copying, clean=()), partial(from_memory, place=Path)],
    replaced_early=[beside(renaming, early=True)],
)

answers(
    "final_task",
    right=[],
    solution="""\
if not training.holds_run(final_task):  # the form; a mark may take more updates
    updates = str(max(2, preset.num_updates // 10))
    main(["train", "--out", str(final_task), "--updates", updates])""",
)
