"""Checks of notebook 02's exercises: the data set."""

import torch
from torch import Tensor

from cdiff_helpers.checks.verdict import (
    Misconception,
    Wrong,
    call,
    call_tensor,
    diagnose,
    exercise,
    untouched,
)


def bytes_of(*shape: int, seed: int = 0) -> Tensor:
    """Made-up pictures as bytes, each channel with a mean and spread of its own: uint8 `shape`."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.rand(shape, generator=generator)
    channel = torch.arange(shape[1]).view(1, -1, 1, 1)
    return (levels * (60 + 50 * channel) + 20 * channel).to(torch.uint8)


@exercise(
    notebook="02",
    kind="build",
    points=3,
    minutes=10,
    signature="standardise(images: uint8 (N, 3, H, W)) -> float (N, 3, H, W)",
    misconceptions={
        "one_for_all": (
            "One mean and one spread for all three channels: red, green and blue each need their "
            "own. Which dimensions does your mean run over?"
        ),
        "per_image": (
            "Each picture has its own mean and spread here, so a dark picture becomes as bright as "
            "any other. The statistics are the whole set's."
        ),
        "variance": "You divide by the variance. The spread is its square root.",
        "not_centred": "The spread is right, but the mean is not 0: subtract it first.",
        "wrapped": (
            "Bytes wrap round: 3 - 5 is 254 in uint8. Turn the pictures into floats before you "
            "subtract."
        ),
    },
    praise="Right: each channel has mean 0 and spread 1, over all pictures and pixels.",
)
def standardise(answer) -> None:
    """(x - mean) / std, both per channel over the whole set, in floats; std with divisor N."""
    for shape in ((5, 3, 4, 6), (3, 3, 3, 3)):
        images = bytes_of(*shape)
        x = images.double()
        over = (0, 2, 3)
        mean, std = x.mean(over, keepdim=True), x.std(over, correction=0, keepdim=True)
        own = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), correction=0, keepdim=True)
        each = x.mean((2, 3), keepdim=True), x.std((2, 3), correction=0, keepdim=True)
        wrapped = (images - mean.to(torch.uint8)).double() / std
        with untouched(images):
            value = call_tensor(answer, images, shape=shape)
        mistakes = {
            "one_for_all": (x - x.mean()) / x.std(correction=0),
            "per_image": (x - own[0]) / own[1],
            "variance": (x - mean) / std**2,
            "not_centred": x / std,
            "wrapped": wrapped,
        }
        if value.allclose((x - each[0]) / each[1], atol=1e-3):
            raise Misconception("per_image")
        # whoever divides by N - 1 means the same
        diagnose(value, (x - mean) / std, mistakes, tolerance=2e-2)


@exercise(
    notebook="02",
    kind="build",
    points=3,
    minutes=10,
    signature="balanced_places(labels: int64 (N,), per_class: int) -> places (C * per_class,)",
    misconceptions={
        "first_rows": (
            "You take the first pictures whatever they show; in a small set the classes come out "
            "uneven. Count per class."
        ),
        "grouped": (
            "The right pictures, class after class. Keep them in the set's own order: sort the "
            "places at the end."
        ),
        "one_more": "You take one more of each class than asked: is it < or <=?",
        "last_ones": "You take the last pictures of each class; the first ones were asked for.",
    },
    praise="Right: as many of each class, the first of them, in the set's own order.",
)
def balanced_places(answer) -> None:
    """The first `per_class` places of each class, in rising order."""
    for classes, per_class in (
        ([2, 2, 0, 1, 2, 0, 1, 1, 0, 2], 2),
        ([1, 1, 1, 0, 1, 0, 0, 0], 3),
    ):
        labels = torch.tensor(classes)
        of_class = [(labels == c).nonzero()[:, 0].tolist() for c in labels.unique()]
        wanted = sorted(i for places in of_class for i in places[:per_class])
        with untouched(labels):
            value = call(answer, labels, per_class)
        try:
            value = [int(i) for i in value]
        except (TypeError, ValueError) as error:
            raise Wrong(f"you return {value!r}; expected places, such as [0, 2, 3].") from error
        mistakes = {
            "first_rows": list(range(len(wanted))),
            "grouped": [i for places in of_class for i in places[:per_class]],
            "one_more": sorted(i for places in of_class for i in places[: per_class + 1]),
            "last_ones": sorted(i for places in of_class for i in places[-per_class:]),
        }
        for key, mistaken in mistakes.items():
            if value == mistaken != wanted:
                raise Misconception(key)
        if value != wanted:
            raise Wrong(f"for the labels {labels.tolist()} you return {value}, not {wanted}.")


@exercise(
    notebook="02",
    kind="bug",
    points=2,
    minutes=8,
    signature="flip_some(x: (B, 3, H, W), coins: bool (B,)) -> (B, 3, H, W)",
    misconceptions={
        "upside_down": "Your pictures stand on their heads: which dimension of (B, C, H, W) is W?",
        "colours": "Red and blue change places: dimension 1 holds the colours.",
        "one_coin": (
            "One coin decides for the whole batch. Each picture has its own: choose picture by "
            "picture."
        ),
        "inverted": "Exactly the other pictures are mirrored: where the coin is True, mirror.",
        "columns_by_coin": (
            "The coins lie along the columns here: (B,) lines up with the last dimension. It is "
            "silent whenever B equals W. Give the coins the shape (B, 1, 1, 1)."
        ),
    },
    praise="Right: each picture by its own coin, left and right swapped, and the input unharmed.",
)
def flip_some(answer) -> None:
    """where(coins[:, None, None, None], x.flip(3), x); x is left as it was."""
    for b, w in ((4, 4), (3, 5)):
        x = torch.arange(b * 3 * 2 * w).float().view(b, 3, 2, w)
        coins = torch.tensor([True, False, False, True])[:b]
        each = coins.view(-1, 1, 1, 1)
        with untouched(x, coins):
            value = call_tensor(answer, x, coins, shape=tuple(x.shape))
        mistakes = {
            "upside_down": torch.where(each, x.flip(2), x),
            "colours": torch.where(each, x.flip(1), x),
            "inverted": torch.where(each, x, x.flip(3)),
        }
        if b == w:
            mistakes["columns_by_coin"] = torch.where(coins, x.flip(3), x)
        if any(torch.equal(value, all_or_none.double()) for all_or_none in (x, x.flip(3))):
            raise Misconception("one_coin")
        diagnose(value, torch.where(each, x.flip(3), x), mistakes)


@exercise(
    notebook="02",
    kind="predict",
    points=1,
    minutes=5,
    signature="batches_and_left_out = (whole number, whole number)",
    misconceptions={
        "kept_last": (
            "With the incomplete batch kept there are 391 and nothing is left out. This loader "
            "drops it."
        ),
        "rounded_up": (
            "The 391st batch would be the incomplete one: it is dropped, so it does not count."
        ),
        "missing_to_full": (
            "That is how many pictures the last batch lacks. Asked was how many it has: those are "
            "left out."
        ),
        "all_sixty_thousand": "60,000 are all of CIFAR-10; 50,000 of them are for training.",
        "swapped": "The right numbers in the wrong order: batches first, then pictures.",
    },
    praise="Right: 390 full batches, and another 80 pictures wait for the next epoch's order.",
)
def batches_and_left_out(answer) -> None:
    """divmod(50_000, 128)."""
    pair = two_numbers(answer)
    mistakes = {
        "kept_last": (391, 0),
        "rounded_up": (391, 80),
        "missing_to_full": (390, 48),
        "all_sixty_thousand": divmod(60_000, 128),
        "swapped": divmod(50_000, 128)[::-1],
    }
    for key, mistaken in mistakes.items():
        if pair == mistaken:
            raise Misconception(key)
    if pair != divmod(50_000, 128):
        raise Wrong("Not those. How often does 128 go into 50,000, and what is the remainder?")


def two_numbers(answer) -> tuple[int, int]:
    """An answer as two whole numbers."""
    try:
        first, second = answer
        return int(first), int(second)
    except (TypeError, ValueError) as error:
        raise Wrong(f"this is {answer!r}; expected two numbers, such as (10, 3).") from error
