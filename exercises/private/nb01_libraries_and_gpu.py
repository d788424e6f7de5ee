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


def hashed(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def batch(number, count=1):
    """Noise from one torch generator with this seed."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(number))


def images(noise):
    """start_noise image by image, by noise(seed, i)."""

    def start_noise(seed, count, first=0):
        return torch.stack([torch.as_tensor(noise(seed, i)) for i in range(first, first + count)])

    return start_noise


def by(recipe, change=lambda noise: noise):
    """start_noise with a torch generator for each image, seeded by recipe(seed, i)."""
    return images(lambda seed, i: change(batch(recipe(seed, i))[0]))


def by_numpy(recipe):
    """The same with numpy's, which takes seeds of any size."""
    return images(lambda s, i: np.random.default_rng(recipe(s, i)).standard_normal((3, 32, 32)))


def forked(seed, count, first=0):
    """The global generator, which gets its state back."""
    with torch.random.fork_rng(devices=[]):
        return globally(torch.manual_seed)(seed, count, first)


def globally(reseed, noise=lambda: torch.randn(3, 32, 32)):
    """start_noise from a global generator that is reseeded for each image."""
    return images(lambda seed, i: (reseed(mixed(seed, i)), noise())[1])


def globally_once(seed, count, first=0):
    torch.manual_seed(seed)
    return torch.randn(count, 3, 32, 32)


def by_chance(seed, count, first=0):
    """Other noise in each call, from a generator without a seed; its statistics never change."""
    order = np.random.default_rng().permutation(3 * 32 * 32)
    return start_noise(seed, count, first).flatten(1)[:, order].view(count, 3, 32, 32)


def uniform(seed, i):
    return torch.from_numpy(np.random.default_rng([seed, i]).random((3, 32, 32)))


answers(
    "start_noise",
    right=[
        start_noise,
        by(mixed),
        by(lambda seed, i: hashed(f"{seed}, {i}")),
        lambda seed, count, first=0: batch(seed, first + count)[first:],
        forked,
        by_numpy(lambda seed, i: seed * 2**32 + i),
    ],
    shared=[
        by(lambda seed, i: seed + i),
        by(lambda seed, i: seed * i),
        by(lambda seed, i: (seed + 1) * (i + 1)),
    ],
    glued=[
        by(lambda seed, i: int(f"{seed}{i}")),
        by(lambda seed, i: int(f"{i}{seed}")),
        by(lambda seed, i: hashed(f"{seed}{i}")),
    ],
    stride=[
        by(lambda seed, i: seed * 10 + i),
        by(lambda seed, i: seed * 1009 + i),
        by(lambda seed, i: seed + i * 1000),
        by(lambda seed, i: seed * 7919 + i * 104_729),
        by(lambda seed, i: int(f"{seed}{i:06d}")),
        by_numpy(lambda seed, i: seed * 1000 + i),
    ],
    high_bits=[by(lambda seed, i: (seed << 31) + i), by(lambda seed, i: (seed << 31) ^ i)],
    cut_seed=[by(lambda seed, i: mixed(seed % 2**31, i))],
    seed_without_effect=[by(lambda seed, i: i), by(lambda seed, i: seed * 2**32 + i)],
    repeated=[by(lambda seed, i: seed)],
    one_channel=[by(mixed, lambda noise: noise[:1].expand(3, 32, 32))],
    first_is_one=[lambda seed, count, first=1: start_noise(seed, count, first)],
    by_row=[lambda seed, count, first=0: batch(seed, count)],
    one_generator=[lambda seed, count, first=0: batch(seed + first, count)],
    by_count=[lambda seed, count, first=0: batch(mixed(seed, count), count)],
    global_state=[
        globally(torch.manual_seed),
        globally(np.random.seed, lambda: np.random.randn(3, 32, 32)),
        globally_once,
    ],
    unseeded=[lambda seed, count, first=0: torch.randn(count, 3, 32, 32), by_chance],
    uniform=[
        images(uniform),
        images(lambda seed, i: 2 * uniform(seed, i) - 1),
        images(lambda seed, i: 12**0.5 * (uniform(seed, i) - 0.5)),
    ],
    scaled=[by(mixed, lambda noise: noise / 3), by(mixed, lambda noise: noise / 2)],
    clamped=[by(mixed, lambda noise: noise.clamp(-1, 1))],
)
