"""Answers to notebook 08's exercises."""

import io
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from cdiff_helpers.evaluation import wilson_interval
from instructor.mutants import right, right_value, wrong, wrong_value

NAMES = ("within 0.02", "within 0.01", "each class within 0.02")
wrong_value("pictures_needed", "no_root", dict(zip(NAMES, (25, 50, 250))))
wrong_value("pictures_needed", "linear", dict(zip(NAMES, (2500, 5000, 25_000))))
wrong_value("pictures_needed", "one_for_all", dict(zip(NAMES, (2500, 10_000, 2500))))
wrong_value("pictures_needed", "whole_width", dict(zip(NAMES, (10_000, 40_000, 100_000))))
wrong_value("pictures_needed", "one_sigma", dict(zip(NAMES, (625, 2500, 6250))))
right_value("pictures_needed", dict(zip(NAMES, (2500, 10_000, 25_000))))
right_value("pictures_needed", dict(zip(NAMES, (2401, 9604, 24_010))))  # with 1.96
right_value("pictures_needed", {name: np.int64(n) for name, n in zip(NAMES, (2500, 1e4, 25e3))})


def parts(right1, count1, right2, count2):
    ends = wilson_interval(right1, count1), wilson_interval(right2, count2)
    return right1 / count1, right2 / count2, *ends


@wrong("difference_interval", "ends_subtracted")
def _(*counts):
    _, _, (l1, u1), (l2, u2) = parts(*counts)
    return l1 - u2, u1 - l2


@wrong("difference_interval", "ends_subtracted")  # errors added without squares
def _(*counts):
    p1, p2, (l1, u1), (l2, u2) = parts(*counts)
    return p1 - p2 - ((p1 - l1) + (u2 - p2)), p1 - p2 + ((u1 - p1) + (p2 - l2))


@wrong("difference_interval", "ends_matched")
def _(*counts):
    _, _, (l1, u1), (l2, u2) = parts(*counts)
    return min(l1 - l2, u1 - u2), max(l1 - l2, u1 - u2)


@wrong("difference_interval", "sides_swapped")
def _(*counts):
    p1, p2, (l1, u1), (l2, u2) = parts(*counts)
    return p1 - p2 - math.hypot(u1 - p1, p2 - l2), p1 - p2 + math.hypot(p1 - l1, u2 - p2)


@wrong("difference_interval", "plain")
def _(right1, count1, right2, count2):
    p1, p2 = right1 / count1, right2 / count2
    half = 1.96 * (p1 * (1 - p1) / count1 + p2 * (1 - p2) / count2) ** 0.5
    return p1 - p2 - half, p1 - p2 + half


@wrong("difference_interval", "second_minus_first")
def _(*counts):
    p1, p2, (l1, u1), (l2, u2) = parts(*counts)
    return p2 - p1 - math.hypot(p2 - l2, u1 - p1), p2 - p1 + math.hypot(u2 - p2, p1 - l1)


@right("difference_interval")
def _(right1, count1, right2, count2):
    z2 = 1.96**2
    p, n = np.array([right1, right2]) / [count1, count2], np.array([count1, count2])
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * p * (1 - p) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    down, up = p - middle + half, middle + half - p
    d = p[0] - p[1]
    return np.array(
        [d - np.sqrt(down[0] ** 2 + up[1] ** 2), d + np.sqrt(up[0] ** 2 + down[1] ** 2)]
    )


@right("difference_interval")
def _(*counts):
    p1, p2, first, second = parts(*counts)
    down = torch.tensor([p1 - first[0], second[1] - p2]).norm()
    up = torch.tensor([first[1] - p1, p2 - second[0]]).norm()
    return torch.stack([p1 - p2 - down, p1 - p2 + up])


@wrong("energy_distance", "diagonal")  # the bug as it is shown
def _(x, y):
    within = torch.cdist(x, x).mean() + torch.cdist(y, y).mean()
    return 2 * torch.cdist(x, y).mean() - within


@wrong("energy_distance", "half_the_pairs")
def _(x, y):
    within = sum(torch.pdist(k).sum() / (len(k) * (len(k) - 1)) for k in (x, y))
    return 2 * torch.cdist(x, y).mean() - within


@wrong("energy_distance", "once")
def _(x, y):
    return torch.cdist(x, y).mean() - torch.pdist(x).mean() - torch.pdist(y).mean()


@wrong("energy_distance", "squared")
def _(x, y):
    within = (torch.pdist(x) ** 2).mean() + (torch.pdist(y) ** 2).mean()
    return 2 * (torch.cdist(x, y) ** 2).mean() - within


@wrong("energy_distance", "added")
def _(x, y):
    return 2 * torch.cdist(x, y).mean() + torch.pdist(x).mean() + torch.pdist(y).mean()


@right("energy_distance")
def _(x, y):
    return float(2 * torch.cdist(x, y).mean() - torch.pdist(x).mean() - torch.pdist(y).mean())


@right("energy_distance")
def _(x, y):
    def mean_distance(a, b, skip_same):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (skip_same and i == j)]
        return np.mean([np.linalg.norm(a[i] - b[j]) for i, j in pairs])

    a, b = x.numpy(), y.numpy()
    return 2 * mean_distance(a, b, False) - mean_distance(a, a, True) - mean_distance(b, b, True)


@wrong("draw_all", "same_seed")  # the bug as it is shown
def _(draw, labels, batch_size, seed):
    return torch.cat([draw(some, seed=seed) for some in labels.split(batch_size)])


@wrong("draw_all", "batch_number")
def _(draw, labels, batch_size, seed):
    parts = enumerate(labels.split(batch_size))
    return torch.cat([draw(some, seed=seed + k) for k, some in parts])


@wrong("draw_all", "seed_lost")
def _(draw, labels, batch_size, seed):
    starts = range(0, len(labels), batch_size)
    return torch.cat([draw(labels[i : i + batch_size], seed=i) for i in starts])


@wrong("draw_all", "lost_rest")
def _(draw, labels, batch_size, seed):
    starts = [k * batch_size for k in range(len(labels) // batch_size)]
    images = [draw(labels[i : i + batch_size], seed=seed + i) for i in starts]
    return torch.cat(images) if images else torch.zeros(0, 3, 2, 2)


@wrong("draw_all", "first_labels")
def _(draw, labels, batch_size, seed):
    images = []
    for i in range(0, len(labels), batch_size):
        count = min(batch_size, len(labels) - i)
        images.append(draw(labels[:count], seed=seed + i))
    return torch.cat(images)


@right("draw_all")
def _(draw, labels, batch_size, seed):
    return torch.cat([draw(labels[i : i + 1], seed=seed + i) for i in range(len(labels))])


@right("draw_all")
def _(draw, labels, batch_size, seed):
    images = []
    while len(images) < len(labels):
        done = len(images)
        images.extend(draw(labels[done : done + batch_size], seed=seed + done))
    return torch.stack(images)


@wrong("save_whole", "in_place")  # the bug as it is shown
def _(path, write):
    with path.open("wb") as file:
        write(file)
    return path


@wrong("save_whole", "deleted_first")
def _(path, write):
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        write(file)
    return path


@wrong("save_whole", "deleted_first")
def _(path, write):
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        write(file)
    if path.exists():
        os.remove(path)  # noqa: PTH107, a way that must be noticed too
    beside.rename(path)
    return path


@wrong("save_whole", "left_over")
def _(path, write):
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        write(file)
    os.replace(beside, path)
    return path


@wrong("save_whole", "swallowed")
def _(path, write):
    beside = path.with_suffix(".new")
    try:
        with beside.open("wb") as file:
            write(file)
        os.replace(beside, path)
    except OSError:
        beside.unlink()
    return path


@wrong("save_whole", "elsewhere")
def _(path, write):
    with tempfile.NamedTemporaryFile(delete=False) as file:
        try:
            write(file)
        except BaseException:
            os.unlink(file.name)
            raise
    shutil.move(file.name, path)
    return path


@wrong("save_whole", "copied")
def _(path, write):
    beside = path.with_suffix(".new")
    try:
        with beside.open("wb") as file:
            write(file)
        shutil.copyfile(beside, path)
    finally:
        beside.unlink()
    return path


@wrong("save_whole", "copied")
def _(path, write):
    buffer = io.BytesIO()
    write(buffer)
    path.write_bytes(buffer.getvalue())
    return path


@right("save_whole")
def _(path, write):
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return str(path)


@right("save_whole")
def _(path, write):
    buffer = io.BytesIO()
    write(buffer)
    beside = Path(f"{path}.part")
    beside.write_bytes(buffer.getvalue())
    return beside.replace(path)
