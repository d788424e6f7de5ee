"""Answers to notebook 01's exercises: libraries and GPU."""

import hashlib

import numpy as np
import torch

from exercises.private import answers

answers(
    "convolution_operations",
    right=[2 * (8 * 16 * 16) * (64 * 3 * 3) * 128, 3.02e8, 302e6, 301.99e6],
    solution="convolution_operations = 2 * (8 * 16 * 16) * (64 * 3 * 3) * 128",
    factor_two=[(8 * 16 * 16) * (64 * 3 * 3) * 128, 151e6],
    one_image=[2 * (16 * 16) * (64 * 3 * 3) * 128, (16 * 16) * (64 * 3 * 3) * 128],
    one_place=[2 * (64 * 3 * 3) * 128, 2 * 8 * (64 * 3 * 3) * 128],
    no_window=[2 * (8 * 16 * 16) * 64 * 128, (8 * 16 * 16) * 64 * 128],
    one_side=[2 * (8 * 16 * 16) * (64 * 3) * 128],
    one_input_channel=[2 * (8 * 16 * 16) * (3 * 3) * 128],
    one_output_channel=[2 * (8 * 16 * 16) * (64 * 3 * 3)],
    weights=[64 * 3 * 3 * 128, 64 * 3 * 3 * 128 + 128],
    results=[8 * 128 * 16 * 16],
    no_padding=[2 * (8 * 14 * 14) * (64 * 3 * 3) * 128],
    millions=[2 * (8 * 16 * 16) * (64 * 3 * 3) * 128 / 1e6, 302],
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


answers(
    "start_noise",
    right=[start_noise, by(mixed), by(digested), skipping, forked],
    shared=[
        by(lambda seed, i: seed + i),
        by(lambda seed, i: seed * i),
        by(lambda seed, i: seed ^ i),
        by(lambda seed, i: (seed + 1) * (i + 1)),
        by(lambda seed, i: seed * 10 + i),
    ],
    glued=[by(lambda seed, i: int(f"{seed}{i}")), by(lambda seed, i: int(f"{i}{seed}"))],
    stride=[
        by(lambda seed, i: seed * 100 + i),
        by(lambda seed, i: seed * 1000 + i),
        by(lambda seed, i: seed * 10_000 + i),
        by(lambda seed, i: seed * 1_000_000 + i),
    ],
    seed_without_effect=[by(lambda seed, i: i), by(lambda seed, i: seed * 2**32 + i)],
    repeated=[
        by(lambda seed, i: seed),
        lambda seed, count, first=0: normal(seeded(seed)).expand(count, -1, -1, -1).clone(),
    ],
    by_row=[by(mixed, ignore_first=True), whole_batch(lambda seed, count, first: seed)],
    one_generator=[
        whole_batch(lambda seed, count, first: mixed(seed, first)),
        whole_batch(lambda seed, count, first: seed + first),
    ],
    by_count=[
        whole_batch(lambda seed, count, first: mixed(seed, count)),
        whole_batch(lambda seed, count, first: seed + count),
    ],
    global_state=[
        globally(torch.manual_seed),
        globally(np.random.seed, lambda: np.random.randn(3, 32, 32)),
        globally_once,
    ],
    unseeded=[lambda seed, count, first=0: torch.randn(count, 3, 32, 32), by_chance],
    uniform=[
        by(mixed, lambda generator: torch.rand(3, 32, 32, generator=generator)),
        by(mixed, lambda generator: 2 * torch.rand(3, 32, 32, generator=generator) - 1),
        by(mixed, lambda generator: 12**0.5 * (torch.rand(3, 32, 32, generator=generator) - 0.5)),
    ],
    scaled=[
        by(mixed, lambda generator: normal(generator) / 3),
        by(mixed, lambda generator: normal(generator) / 2),
    ],
    clamped=[by(mixed, lambda generator: normal(generator).clamp(-1, 1))],
)
