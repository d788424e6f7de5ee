"""Answers to notebook 01's exercises: libraries and GPU."""

import hashlib

import numpy as np
import torch

from exercises.private import right

known = right(
    "convolution_operations",
    "and one layer of a network does that, for one small batch.",
    2 * (8 * 16 * 16) * (64 * 3 * 3) * 128,
    3.02e8,
    302e6,
    301.99e6,
    otherwise="Which matrix product is it: how many rows, numbers in a row, and columns?",
    solution="convolution_operations = 2 * (8 * 16 * 16) * (64 * 3 * 3) * 128",
)
known.mistake(
    "factor_two",
    "You count the multiplications. Each one is followed by an addition: eq. 01.1 counts both.",
    (8 * 16 * 16) * (64 * 3 * 3) * 128,
    151e6,
)
known.mistake(
    "one_image",
    "That is the work for one image; the batch has several, and each place of each one is a row.",
    2 * (16 * 16) * (64 * 3 * 3) * 128,
    (16 * 16) * (64 * 3 * 3) * 128,
)
known.mistake(
    "one_place",
    "That is the work for one place of one image. The window visits every place of every image.",
    2 * (64 * 3 * 3) * 128,
    2 * 8 * (64 * 3 * 3) * 128,
)
known.mistake(
    "no_window",
    "That is a 1 × 1 convolution. Each result sums the input channels over a whole window.",
    2 * (8 * 16 * 16) * 64 * 128,
    (8 * 16 * 16) * 64 * 128,
)
known.mistake(
    "one_side",
    "You count one side of the window. Its numbers are its rows times its columns, per channel.",
    2 * (8 * 16 * 16) * (64 * 3) * 128,
)
known.mistake(
    "one_input_channel",
    "You count the window in one channel. It reaches through all input channels.",
    2 * (8 * 16 * 16) * (3 * 3) * 128,
)
known.mistake(
    "one_output_channel",
    "That is the work for one output channel; each of them is a column of the product.",
    2 * (8 * 16 * 16) * (64 * 3 * 3),
)
known.mistake(
    "weights",
    "That is the number of weights. Each weight is used again at every place of every image.",
    64 * 3 * 3 * 128,
    64 * 3 * 3 * 128 + 128,
)
known.mistake(
    "results",
    "That is how many numbers come out. Each of them is a sum over a window: k multiplications and "
    "additions.",
    8 * 128 * 16 * 16,
)
known.mistake(
    "no_padding",
    "Without padding the window would visit 14 × 14 places. Here the images keep their size.",
    2 * (8 * 14 * 14) * (64 * 3 * 3) * 128,
)
known.mistake(
    "millions",
    "You answer in millions. The number of operations itself was asked for.",
    2 * (8 * 16 * 16) * (64 * 3 * 3) * 128 / 1e6,
    302,
)


def start_noise(seed, count, first=0):
    """Standard normal start noise of a seed's images from `first` on: (count, 3, 32, 32)."""
    generators = [np.random.default_rng([seed, i]) for i in range(first, first + count)]
    rows = [generator.standard_normal((3, 32, 32)) for generator in generators]
    return torch.tensor(np.stack(rows), dtype=torch.float32)


def mixed(seed, i):
    return int(np.random.SeedSequence([seed, i]).generate_state(1)[0])


def digested(seed, i):
    return int.from_bytes(hashlib.sha256(f"{seed}, {i}".encode()).digest()[:4], "big")


def normal(generator=None):
    return torch.randn(3, 32, 32, generator=generator)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def by(recipe, noise=normal, ignore_first=False):
    """start_noise with a torch generator for each image, seeded by recipe(seed, i)."""

    def start_noise(seed, count, first=0):
        start = 0 if ignore_first else first
        images = range(start, start + count)
        return torch.stack([noise(seeded(recipe(seed, i))) for i in images])

    return start_noise


def whole_batch(recipe):
    """start_noise with one generator for a call, seeded by recipe(seed, count, first)."""

    def start_noise(seed, count, first=0):
        return torch.randn(count, 3, 32, 32, generator=seeded(recipe(seed, count, first)))

    return start_noise


def skipping(seed, count, first=0):
    """One generator for a seed, whose first images are thrown away."""
    return torch.randn(first + count, 3, 32, 32, generator=seeded(seed))[first:]


def forked(seed, count, first=0):
    """The global generator, which gets its state back."""
    noise = torch.empty(count, 3, 32, 32)
    with torch.random.fork_rng(devices=[]):
        for row in range(count):
            torch.manual_seed(mixed(seed, first + row))
            noise[row].normal_()
    return noise


def globally(reseed, noise=normal):
    """start_noise from a global generator that is reseeded for each image."""

    def start_noise(seed, count, first=0):
        rows = []
        for i in range(first, first + count):
            reseed(mixed(seed, i))
            rows.append(torch.as_tensor(noise()))
        return torch.stack(rows)

    return start_noise


def globally_once(seed, count, first=0):
    torch.manual_seed(seed)
    return torch.randn(count, 3, 32, 32)


def by_chance(seed, count, first=0):
    """Other noise in each call, from a generator without a seed; its statistics never change."""
    order = np.random.default_rng().permutation(3 * 32 * 32)
    return start_noise(seed, count, first).flatten(1)[:, order].view(count, 3, 32, 32)


known = right(
    "start_noise",
    "each pair of seed and image has noise of its own, in whatever batch it comes.",
    start_noise,
    by(mixed),
    by(digested),
    skipping,
    forked,
)
known.mistake(
    "shared",
    "Different pairs of a seed and an image come to the same number in your recipe, so two seeds "
    "share noise: seed + i gives 1 for (0, 1) and for (1, 0). The two have to be mixed.",
    by(lambda seed, i: seed + i),
    by(lambda seed, i: seed * i),
    by(lambda seed, i: seed ^ i),
    by(lambda seed, i: (seed + 1) * (i + 1)),
    by(lambda seed, i: seed * 10 + i),
)
known.mistake(
    "glued",
    "You write the two numbers next to each other: seed 1 with image 11 and seed 11 with image 1 "
    "both read 111. Put something between them before you hash, or mix the pair.",
    by(lambda seed, i: int(f"{seed}{i}")),
    by(lambda seed, i: int(f"{i}{seed}")),
)
known.mistake(
    "stride",
    "Your seeds lie a fixed stride apart: a longer batch runs into the next seed's noise, and big "
    "products wrap around (torch keeps the lowest 32 bits). Mixing needs no limit.",
    by(lambda seed, i: seed * 100 + i),
    by(lambda seed, i: seed * 1000 + i),
    by(lambda seed, i: seed * 10_000 + i),
    by(lambda seed, i: seed * 1_000_000 + i),
)
known.mistake(
    "seed_without_effect",
    "All seeds give the same noise. If yours enters only above the lowest 32 bits: torch's "
    "generator on the CPU ignores those.",
    by(lambda seed, i: i),
    by(lambda seed, i: seed * 2**32 + i),
)
known.mistake(
    "repeated",
    "All images of a call start from the same noise: the generator is seeded anew for each, and by "
    "the same number.",
    by(lambda seed, i: seed),
    lambda seed, count, first=0: normal(seeded(seed)).expand(count, -1, -1, -1).clone(),
)
known.mistake(
    "by_row",
    "The noise follows the row, not the image: image `first` gets what belongs to image 0.",
    by(mixed, ignore_first=True),
    whole_batch(lambda seed, count, first: seed),
)
known.mistake(
    "one_generator",
    "One generator serves the whole call, so an image's noise depends on where the call begins. "
    "Give each image a generator of its own.",
    whole_batch(lambda seed, count, first: mixed(seed, first)),
    whole_batch(lambda seed, count, first: seed + first),
)
known.mistake(
    "by_count",
    "The noise of an image changes with `count`. Seed and image alone may decide.",
    whole_batch(lambda seed, count, first: mixed(seed, count)),
    whole_batch(lambda seed, count, first: seed + count),
)
known.mistake(
    "global",
    "You seed a global generator, and so change the random numbers of everybody who draws from it "
    "later. Make a generator of your own.",
    globally(torch.manual_seed),
    globally(np.random.seed, lambda: np.random.randn(3, 32, 32)),
    globally_once,
)
known.mistake(
    "unseeded",
    "A second call returns other noise: whatever draws it does not follow from the seed alone.",
    lambda seed, count, first=0: torch.randn(count, 3, 32, 32),
    by_chance,
)
known.mistake(
    "uniform",
    "Your noise is uniform. Start noise is standard normal: randn, not rand.",
    by(mixed, lambda generator: torch.rand(3, 32, 32, generator=generator)),
    by(mixed, lambda generator: 2 * torch.rand(3, 32, 32, generator=generator) - 1),
    by(mixed, lambda generator: 12**0.5 * (torch.rand(3, 32, 32, generator=generator) - 0.5)),
)
known.mistake(
    "scaled",
    "Your noise is not of standard deviation 1: dividing it is for showing it, and a sampler "
    "starts from the full one.",
    by(mixed, lambda generator: normal(generator) / 3),
    by(mixed, lambda generator: normal(generator) / 2),
)
known.mistake(
    "clamped",
    "You clamp the noise to the images' range. Start noise has no limits.",
    by(mixed, lambda generator: normal(generator).clamp(-1, 1)),
)
