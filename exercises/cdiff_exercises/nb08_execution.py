"""Trials of notebook 08: running, resuming, comparing."""

import math

import torch

from cdiff_exercises.answer import Wrong
from cdiff_exercises.room import exercise
from cdiff_exercises.saving import saving
from cdiff_helpers.sampling import sample_conditional_images

NEEDED = ("within 0.02", "within 0.01", "each class within 0.02")


@exercise("predict", points=2, minutes=8)
def pictures_needed(answer, draw):
    """pictures_needed = {"within 0.02": N, "within 0.01": N, "each class within 0.02": N}"""
    for name, number in zip(NEEDED, answer.number(NEEDED)):
        steps = 6 * math.log2(max(number, 1)) + 0.45  # of 12 %: the same for all usual roundings
        yield f"the number of images, {name}", round(steps)


@exercise("build", points=4, minutes=20)
def difference_interval(answer, draw):
    """difference_interval(right1, count1, right2, count2) -> (low, high) of p1 - p2"""
    some, others = draw.whole(10, 600), draw.whole(10, 600)
    cases = [(373, 500, 310, 500), (5, 20, 1, 30), (0, 10, 10, 10)]
    cases += [(draw.whole(0, some), some, draw.whole(0, others), others)]
    for right1, count1, right2, count2 in cases:
        ends = answer(right1, count1, right2, count2, shape=(2,))
        of = f"for {right1} of {count1} and {right2} of {count2}"
        yield f"the low end {of}", ends[0], 5e-4
        yield f"the high end {of}", ends[1], 5e-4


@exercise("bug", points=4, minutes=15)
def energy_distance(answer, draw):
    """energy_distance(x: (M, D), y: (N, D)) -> number"""
    sizes = [
        (4, 4, 3),
        (3, 4, 2),
        (2, 5, 1),
        (draw.whole(2, 9), draw.whole(2, 9), draw.whole(1, 6)),
    ]
    for m, n, d in sizes:
        x, y = draw.normal(m, d).float(), 2 * draw.normal(n, d).float() + 1
        yield f"the distance of {m} and {n} points with {d} features", answer(x, y, shape=())
    x = draw.normal(5, 2).float()[[0, 1, 1, 2, 3, 4]]
    yield "the distance of 6 points, two of them alike, from themselves", answer(x, x + 0, shape=())


@exercise("bug", points=2, minutes=10)
def draw_all(answer, draw):
    """draw_all(draw, labels: int64 (N,), batch_size: int, seed: int) -> (N, 3, H, W)"""

    def sampler(*given, seed=None):
        """Image i of the call holds its label in one channel, and in the next the seed it has."""
        if len(given) != 1 or seed is None:
            raise TypeError("ask for draw(labels, seed=…): the labels, and the seed by its name")
        seeds = seed + torch.arange(len(given[0]))
        calls.append(len(seeds))
        encoded = torch.stack([torch.as_tensor(given[0]), seeds, 0 * seeds], dim=1)
        return encoded[:, :, None, None].float().expand(-1, -1, 2, 2).clone()

    cases = [(4, 4, 2), (7, 3, 5), (5, 1, 0), (2, 8, 3)]
    cases += [(draw.whole(10, 40), draw.whole(2, 9), draw.whole(1, 99))]
    for n, batch_size, seed in cases:
        labels, calls = draw.labels(n), []
        images = answer(sampler, labels, batch_size, seed, shape=(n, 3, 2, 2))
        yield f"the label of each of {n} images, {batch_size} at a time", images[:, 0, 0, 0], 0
        yield f"the seed of each of {n} images, {batch_size} at a time", images[:, 1, 0, 0], 0
        most = max([0, *(size - batch_size for size in calls)])
        yield f"the labels too many in a call, of {n} labels, {batch_size} at a time", most, 0


@exercise("bug", points=4, minutes=15)
def save_whole(answer, draw):
    """save_whole(path: Path, write) -> path; write(file) puts bytes into an open file"""
    old, new, first = (bytes(draw.labels(draw.whole(40, 4000), 256).tolist()) for _ in range(3))
    seen = saving(answer, old, new)
    yield "no file at path at some moment (0: never)", seen["none"], 0
    yield "half a file at path at some moment (0: never)", seen["half"], 0
    yield "how often a new file takes the old one's place", seen["replaced"], 0
    yield "the number of folders elsewhere that you write in", seen["elsewhere"], 0
    yield "the number of files left beside it", seen["beside"], 0
    failures = {"fails": OSError("the disk is full"), "fails otherwise": ValueError("a number")}
    failures |= {"is interrupted": KeyboardInterrupt(), "calls sys.exit": SystemExit(1)}
    others = 0
    for what, error in failures.items():
        seen = saving(answer, old, new, error)
        yield f"the number of whole old files where write {what}", int(seen["after"] == old), 0
        yield f"the number of files left beside it where write {what}", seen["beside"], 0
        others += seen["others"]
        yield f"the number of errors that come out where write {what}", seen["heard"], 0
    yield "the number of failures that other files of the folder outlive", others, 0
    seen = saving(answer, None, first)
    yield "the number of files in the folder where none was before", seen["beside"] + 1, 0


@exercise("build", points=2, minutes=45)
def final_task(answer, draw):
    """final_task = a folder (str or Path) with config.json and ema.safetensors"""
    from cdiff_exercises.final_task import SAMPLER, load_submission  # a command, too: python -m

    model, process = load_submission(answer.value)
    few = SAMPLER | {"num_steps": 3, "seed": 20_000}
    images = sample_conditional_images(model, process, torch.arange(10), **few)
    if not images.isfinite().all():
        raise Wrong("some pixels that it generates are not finite (inf or nan).", "pixels")
    yield from ()
