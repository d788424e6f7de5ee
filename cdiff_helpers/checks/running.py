"""Checks of notebook 08's exercises: running, resuming, comparing."""

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from cdiff_helpers.checks.verdict import (
    Misconception,
    Wrong,
    call,
    call_tensor,
    diagnose,
    exercise,
    told_numbers,
)
from cdiff_helpers.evaluation import wilson_interval

REMOVERS = ("remove", "unlink")
NEEDED = ("within 0.02", "within 0.01", "each class within 0.02")


@exercise(
    notebook="08",
    kind="predict",
    points=2,
    minutes=8,
    signature=f"pictures_needed: dict with a number for each of {', '.join(map(repr, NEEDED))}",
    misconceptions={
        "no_root": (
            "Without the root a handful would do. The uncertainty falls with the root of N, so "
            "solve 2 √(p (1 - p) / N) = 0.02 for N."
        ),
        "linear": (
            "To halve an uncertainty takes four times as many, not twice: it falls with the root "
            "of N."
        ),
        "one_for_all": (
            "That is enough for all pictures together. A class sees only its own tenth of them, "
            "and needs as many for itself alone."
        ),
        "whole_width": (
            "You took 0.02 for the whole width. 'Within 0.02' is to either side, and the formula "
            "says exactly that side."
        ),
        "one_sigma": (
            "You left out the factor 2: one standard error holds in two cases of three. 95 % need "
            "about two of them."
        ),
    },
    praise="Right: and that is why the judge refuses verdicts on twenty pictures.",
)
def pictures_needed(answer) -> None:
    """N = 4 p (1 - p) / d² for p = 1/2; as many again for each of ten classes."""
    value = told_numbers(answer, NEEDED)
    half_widths = torch.tensor([0.02, 0.01, 0.02], dtype=torch.float64)
    for_one = torch.tensor([1, 1, 10])

    def needed(scale: float = 4.0, half: Tensor = half_widths, classes: Tensor = for_one):
        return scale * 0.25 / half**2 * classes

    wanted = needed()
    mistakes = {
        "linear": wanted[0] * torch.tensor([1, 2, 10]),
        "one_for_all": needed(classes=torch.ones(3)),
        "whole_width": needed(half=half_widths / 2),
        "one_sigma": needed(scale=1.0),
        "no_root": 2 * 0.25 / half_widths * for_one,
    }
    diagnose(value, wanted, mistakes, tolerance=0.05)  # 1.96 in place of 2 is as right


@exercise(
    notebook="08",
    kind="build",
    points=4,
    minutes=20,
    signature="difference_interval(right1, count1, right2, count2) -> (low, high) of p1 - p2",
    misconceptions={
        "ends_subtracted": (
            "Worst against worst, end minus end: that both are so unlucky at once is rarer than "
            "1 in 20. Independent errors add as squares, under a root."
        ),
        "ends_matched": (
            "Low minus low, high minus high: your errors cancel, as if both models were unlucky "
            "together. They are independent."
        ),
        "sides_swapped": (
            "Your two sides are exchanged: the difference is low where p1 is low and p2 is high, "
            "so its low end takes p1 - l1 and u2 - p2."
        ),
        "plain": (
            "You added plain standard errors: with few pictures, or a share of 0 or 1, they claim "
            "a certainty that is not there. Start from Wilson's ends."
        ),
        "second_minus_first": "Your sign is turned: asked is p1 - p2, the first minus the second.",
    },
    praise="Right: where 0 lies outside, the two models are told apart.",
)
def difference_interval(answer) -> None:
    """Newcombe 1998, method 10: Wilson's ends, joined as independent errors."""
    for right1, count1, right2, count2 in ((5, 20, 1, 30), (373, 500, 310, 500), (0, 10, 10, 10)):
        (l1, u1), (l2, u2) = wilson_interval(right1, count1), wilson_interval(right2, count2)
        p1, p2 = right1 / count1, right2 / count2
        d = p1 - p2
        wanted = (d - math.hypot(p1 - l1, u2 - p2), d + math.hypot(u1 - p1, p2 - l2))
        plain = 1.96 * math.sqrt(p1 * (1 - p1) / count1 + p2 * (1 - p2) / count2)
        intervals = {
            "ends_subtracted": (l1 - u2, u1 - l2),
            "ends_matched": tuple(sorted((l1 - l2, u1 - u2))),
            "sides_swapped": (d - math.hypot(u1 - p1, p2 - l2), d + math.hypot(p1 - l1, u2 - p2)),
            "plain": (d - plain, d + plain),
            "second_minus_first": (-wanted[1], -wanted[0]),
        }
        mistakes = {key: torch.tensor(ends) for key, ends in intervals.items()}
        value = call_tensor(answer, right1, count1, right2, count2, shape=(2,))
        diagnose(value, torch.tensor(wanted), mistakes, tolerance=5e-4)


@exercise(
    notebook="08",
    kind="bug",
    points=4,
    minutes=15,
    signature="energy_distance(x, y) -> float; features x (M, D), y (N, D)",
    misconceptions={
        "diagonal": (
            "Each picture is still compared with itself, at distance 0: that makes the spread "
            "within a set too small, most of all in small sets. N (N - 1) pairs are left."
        ),
        "half_the_pairs": (
            "You sum each pair once and divide by N (N - 1), which counts each pair twice: your "
            "mean within a set is half of what it should be."
        ),
        "once": (
            "The distance between the sets counts twice: only then does it balance the two terms "
            "within, and equal sets come out at 0."
        ),
        "squared": (
            "With squared distances nothing is left but the distance of the two means: a set drawn "
            "ten times as wide would look perfect. Take the distance itself."
        ),
        "added": "The spread within the sets is taken off, not added: else equal sets lie apart.",
    },
    praise="Right: on average 0 for two draws of the same kind, at any count.",
)
def energy_distance(answer) -> None:
    """2 E|x - y| - E|x - x'| - E|y - y'|, the pairs within a set of two different pictures."""
    generator = torch.Generator().manual_seed(0)
    for m, n, d in ((3, 4, 2), (4, 4, 3), (2, 5, 1)):
        x, y = (torch.randn(k, d, generator=generator, dtype=torch.float64) for k in (m, n))
        y = 2 * y + 1
        between = torch.cdist(x, y)
        within = [torch.cdist(each, each) for each in (x, y)]
        pairs = sum(k.sum() / (len(k) * (len(k) - 1)) for k in within)
        squares = sum(k.square().sum() / (len(k) * (len(k) - 1)) for k in within)
        mistakes = {
            "diagonal": 2 * between.mean() - sum(k.mean() for k in within),
            "half_the_pairs": 2 * between.mean() - pairs / 2,
            "once": between.mean() - pairs,
            "squared": 2 * between.square().mean() - squares,
            "added": 2 * between.mean() + pairs,
        }
        value = call_tensor(answer, x.float(), y.float(), shape=())
        diagnose(value, 2 * between.mean() - pairs, mistakes)


@exercise(
    notebook="08",
    kind="bug",
    points=2,
    minutes=10,
    signature="draw_all(draw, labels, batch_size: int, seed: int) -> (N, 3, H, W)",
    misconceptions={
        "same_seed": (
            "Every batch starts from the same noise: picture 0 of each is one and the same, and a "
            "thousand pictures are as few as one batch holds."
        ),
        "batch_number": (
            "Your batches are one seed apart, so they overlap: picture 1 of the first is picture 0 "
            "of the second. Go on by the number of pictures drawn."
        ),
        "seed_lost": "You start at the batch's place, whatever `seed` is: it has to count, too.",
        "lost_rest": "The last, smaller batch is missing: N need not be a multiple of batch_size.",
        "first_labels": "Every batch asks for the first labels: cut them as you move along.",
    },
    praise="Right: picture i is the same in any batch.",
)
def draw_all(answer) -> None:
    """Picture i has label i and is drawn from seed + i."""
    for count, batch_size, seed in ((7, 3, 5), (4, 4, 2), (5, 1, 0), (2, 8, 3)):
        labels = torch.arange(count) % 4 + 1
        value = call(answer, drawing, labels, batch_size, seed)
        found = torch.as_tensor(value)
        if found.ndim == 4 and len(found) < count:
            raise Misconception("lost_rest")
        value = call_tensor(lambda value=value: value, shape=(count, 3, 2, 2))[:, 0, 0, 0]
        i = torch.arange(count)
        inside = i % batch_size
        mistakes = {
            "same_seed": 100 * labels + seed + inside,
            "batch_number": 100 * labels + seed + i // batch_size + inside,
            "seed_lost": 100 * labels + i,
            "first_labels": 100 * labels[inside] + seed + i,
        }
        diagnose(value, 100 * labels + seed + i, mistakes, tolerance=0)


def drawing(labels, *, seed: int) -> Tensor:
    """A sampler that writes into picture i its label and the seed it is drawn from."""
    labels = torch.as_tensor(labels)
    said = 100 * labels + seed + torch.arange(len(labels))
    return said[:, None, None, None].float().expand(-1, 3, 2, 2).clone()


@exercise(
    notebook="08",
    kind="bug",
    points=4,
    minutes=15,
    signature="save_whole(path: Path, write) -> Path; write(file) puts bytes into an open file",
    misconceptions={
        "in_place": (
            "The old file is emptied before the new one is whole: who stops the run in between "
            "has neither. Write beside it, then rename."
        ),
        "deleted_first": (
            "You remove the old file before the new one stands: for a moment there is none. "
            "os.replace puts one in the other's place at once."
        ),
        "left_over": (
            "Where writing fails, your half-written file stays behind: a night of failures fills "
            "the disk. Remove it, then let the error go on."
        ),
        "swallowed": (
            "The error ends in your function, so the run goes on and nobody knows that nothing "
            "was saved. Clean up, then raise it again."
        ),
        "elsewhere": (
            "Your first file lies in another folder, perhaps on another disk, from where no rename "
            "is possible. Put it beside the one it replaces."
        ),
        "copied": (
            "You put the finished bytes into the old file: that, too, can be stopped half-way. A "
            "rename cannot: os.replace."
        ),
    },
    praise="Right: old or new, whoever looks, whenever it stops.",
)
def save_whole(answer) -> None:
    """At any moment `path` holds the old content or the new one; a failure leaves the old alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.bin"
        check_success(answer, path)
        check_failure(answer, path)
        first = Path(folder) / "first.bin"
        call(answer, first, Writing(first, b"first"))
        if not first.is_file() or first.read_bytes() != b"first":
            raise Wrong("where no file was before, there is none afterwards.")


class Writing:
    """What the exercise's `write` is: it looks at `path` while it writes, and may fail half-way."""

    def __init__(self, path: Path, content: bytes, *, fails: bool = False):
        self.path, self.content, self.fails = path, content, fails
        self.seen: list[bytes | None] = []  # what was at path meanwhile
        self.place: Path | None = None  # the folder that it wrote into

    def look(self) -> None:
        self.seen.append(self.path.read_bytes() if self.path.is_file() else None)

    def __call__(self, file) -> None:
        if isinstance(getattr(file, "name", None), str):
            self.place = Path(file.name).resolve().parent
        middle = len(self.content) // 2
        self.look()
        file.write(self.content[:middle])
        if self.fails:
            raise OSError("the disk is full")
        file.write(self.content[middle:])
        self.look()


def check_success(answer, path: Path) -> None:
    """Nothing fails: `path` holds the new bytes, and held the old ones until then."""
    path.write_bytes(b"old")
    number = path.stat().st_ino  # of the file itself: a rename brings another one
    write = Writing(path, b"new bytes")
    with removals() as removed:
        call(answer, path, write)
    if None in write.seen or path.resolve() in removed:
        raise Misconception("deleted_first")
    if any(seen != b"old" for seen in write.seen):
        raise Misconception("in_place")
    if not path.is_file() or path.read_bytes() != b"new bytes":
        raise Wrong("after saving, the file does not hold what was written.")
    if path.stat().st_ino == number:
        raise Misconception("copied")
    if write.place not in (None, path.resolve().parent):
        raise Misconception("elsewhere")
    if [each.name for each in path.parent.iterdir()] != [path.name]:
        raise Misconception("left_over")


def check_failure(answer, path: Path) -> None:
    """Writing fails half-way: the old bytes stay, nothing else does, and the error is heard."""
    path.write_bytes(b"old")
    write = Writing(path, b"new bytes", fails=True)
    try:
        answer(path, write)
    except Exception:
        heard = True
    else:
        heard = False
    if not path.is_file() or path.read_bytes() != b"old":
        raise Misconception("in_place")
    if [each.name for each in path.parent.iterdir()] != [path.name]:
        raise Misconception("left_over")
    if not heard:
        raise Misconception("swallowed")


@contextmanager
def removals() -> Iterator[list[Path]]:
    """Within this block, the list of what os.remove and os.unlink (and Path.unlink) take away."""
    removed = []

    def noting(remove: Callable) -> Callable:
        def remove_and_note(path, *args, **keywords):
            removed.append(Path(path).resolve())
            return remove(path, *args, **keywords)

        return remove_and_note

    remove, unlink = (patch.object(os, name, noting(getattr(os, name))) for name in REMOVERS)
    of_path = patch.object(Path, "unlink", noting(Path.unlink))  # Python 3.10's asks no os.unlink
    with remove, unlink, of_path:
        yield removed
