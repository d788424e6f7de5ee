"""Checks of notebook 04's exercises: the conditional U-Net."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cdiff_helpers.checks.verdict import (
    Misconception,
    Wrong,
    call,
    call_tensor,
    diagnose,
    exercise,
    number,
    untouched,
)


@exercise(
    notebook="04",
    kind="build",
    points=3,
    minutes=10,
    signature="fourier_features(t: float (B,), frequencies: float (K,)) -> (B, 2 K)",
    misconceptions={
        "no_two_pi": (
            "The frequencies count turns, and a turn is an angle of 2π. You take f t as the angle."
        ),
        "cosines_first": "The cosines stand first here; sines were asked for first.",
        "interleaved": (
            "Sine and cosine alternate here: all K sines come first, then all K cosines, as cat "
            "puts them."
        ),
        "sines_twice": "Both halves are the same. What is a sine where the wave starts at its top?",
        "squeezed": (
            "The whole batch shares one row: t and the frequencies were multiplied entry by entry. "
            "Each time meets each frequency: (B, 1) × (1, K)."
        ),
    },
    praise="Right: each time as K waves, seen from two sides.",
)
def fourier_features(answer) -> None:
    """[sin 2π f t, cos 2π f t] (Tancik et al. 2020, eq. 5 with given frequencies)."""
    for b, k in ((4, 4), (3, 5)):
        t = torch.linspace(0.05, 0.9, b, dtype=torch.float64)
        frequencies = torch.linspace(0.5, 3.1, k, dtype=torch.float64) ** 2
        turns = t[:, None] * frequencies[None, :]  # (B, K)
        sines, cosines = (2 * torch.pi * turns).sin(), (2 * torch.pi * turns).cos()
        wanted = torch.cat([sines, cosines], 1)
        mistakes = {
            "no_two_pi": torch.cat([turns.sin(), turns.cos()], 1),
            "cosines_first": torch.cat([cosines, sines], 1),
            "interleaved": torch.stack([sines, cosines], 2).flatten(1),
            "sines_twice": torch.cat([sines, sines], 1),
        }
        if b == k:
            angles = 2 * torch.pi * (t * frequencies)
            row = torch.cat([angles.sin(), angles.cos()])
            mistakes["squeezed"] = row.expand(b, 2 * k)
        with untouched(t, frequencies):
            value = call_tensor(answer, t, frequencies, shape=(b, 2 * k))
        diagnose(value, wanted, mistakes)


@exercise(
    notebook="04",
    kind="bug",
    points=3,
    minutes=12,
    signature="modulate(h: (B, C, H, W), emb: (B, 2 C), groups: int) -> (B, C, H, W)",
    misconceptions={
        "no_one": (
            "γ alone: an embedding of zeros then wipes the picture out, and nothing is learnt at "
            "the start. Which factor leaves things as they are?"
        ),
        "before_the_norm": (
            "You turn the knobs before the norm, and the norm takes out again the factor and the "
            "shift that all channels of a group share. First the norm, then scale and shift."
        ),
        "swapped": "The embedding's first half is the scale γ, the second the shift δ; yours swap.",
        "no_norm": "The picture is not normalised at all: F.group_norm(h, groups) comes first.",
        "along_the_width": (
            "Scale and shift lie along the wrong dimension: one number a picture and channel has "
            "the shape (B, C, 1, 1)."
        ),
        "shift_only": "The shift works, the scale has no effect. What multiplies the picture?",
    },
    praise="Right: an embedding of zeros leaves the plain norm, and each channel has its knobs.",
)
def modulate(answer) -> None:
    """(1 + γ) · GroupNorm(h) + δ, as in ConvBlock."""
    for b, c, h, w, groups in ((3, 4, 5, 6, 2), (4, 4, 4, 4, 1)):
        generator = torch.Generator().manual_seed(0)
        x = 3 * torch.randn(b, c, h, w, generator=generator, dtype=torch.float64) + 1
        emb = torch.randn(b, 2 * c, generator=generator, dtype=torch.float64)
        gamma, delta = emb[:, :c, None, None], emb[:, c:, None, None]
        normed = F.group_norm(x, groups)
        mistakes = {
            "no_one": gamma * normed + delta,
            "before_the_norm": F.group_norm((1 + gamma) * x + delta, groups),
            "swapped": (1 + delta) * normed + gamma,
            "no_norm": (1 + gamma) * x + delta,
            "shift_only": normed + delta,
        }
        if b == c == h == w:
            flat = (1 + emb[:, :c]) * normed + emb[:, c:]
            mistakes["along_the_width"] = flat
        with untouched(x, emb):
            try:
                value = call_tensor(answer, x, emb, groups, shape=tuple(x.shape))
            except Wrong as error:
                if "size of tensor" in str(error):  # along the width, where it cannot be silent
                    raise Misconception("along_the_width") from error
                raise
        diagnose(value, (1 + gamma) * normed + delta, mistakes, tolerance=1e-3)


@exercise(
    notebook="04",
    kind="predict",
    points=1,
    minutes=5,
    signature="parameters_of_conv = whole number",
    misconceptions={
        "no_bias": "The 96 biases are missing, one for each channel that comes out.",
        "every_place": (
            "You counted the kernel at each of the 16 × 16 places. A convolution uses the same "
            "weights everywhere; that is its point."
        ),
        "side_not_squared": "A kernel of side 3 has 3 × 3 weights for each pair of channels.",
        "one_channel_in": "Each channel that comes out looks at all 64 that go in.",
        "bias_each_pair": "One bias for each channel that comes out, not for each pair.",
    },
    praise="Right: 64 · 96 kernels of 3 × 3, and 96 biases; the picture's size plays no part.",
)
def parameters_of_conv(answer) -> None:
    """64 · 96 · 9 + 96."""
    value = number(answer)
    wanted = 64 * 96 * 9 + 96
    mistakes = {
        "no_bias": wanted - 96,
        "every_place": wanted * 256,
        "side_not_squared": 64 * 96 * 3 + 96,
        "one_channel_in": 96 * 9 + 96,
        "bias_each_pair": 64 * 96 * 10,
    }
    for key, mistaken in mistakes.items():
        if value == mistaken or (key == "every_place" and value == (wanted - 96) * 256):
            raise Misconception(key)
    if value != wanted:
        raise Wrong(f"Not {value:,.0f}. How many numbers has one kernel, and how many kernels?")


@exercise(
    notebook="04",
    kind="bug",
    points=3,
    minutes=12,
    signature="walk(x, downs, ups) -> whatever the last of ups returns",
    misconceptions={
        "same_order": (
            "The first way up gets the note of the first way down. They meet from the inside out: "
            "the last note is the first to be read."
        ),
        "no_notes": "The ways up get nothing but what comes from below; each has a note to read.",
        "note_too_late": ("The note is what a way down *returns*; you keep what went into it."),
        "same_note": "Every way up reads the same note. Take each one off the pile: pop().",
    },
    praise="Right: the last note is the first to be read.",
)
def walk(answer) -> None:
    """Down: x = down(x), noted; up: x = up(x, note), notes from the last to the first."""
    for levels in (2, 4):
        downs = [lambda x, i=i: f"d{i}({x})" for i in range(levels)]
        ups = [lambda x, note, i=i: f"u{i}({x}|{note})" for i in range(levels)]
        notes, before, x = [], [], "x"
        for down in downs:
            before.append(x)
            x = down(x)
            notes.append(x)
        wanted = up_with(ups, x, notes[::-1])
        value = text(answer, downs, ups)
        mistakes = {
            "same_order": up_with(ups, x, notes),
            "no_notes": up_with(ups, x, [""] * levels),
            "note_too_late": up_with(ups, x, before[::-1]),
            "same_note": up_with(ups, x, notes[-1:] * levels),
        }
        for key, mistaken in mistakes.items():
            if value == mistaken or (key == "no_notes" and value == up_with(ups, x, [None] * 9)):
                raise Misconception(key)
        if value != wanted:
            raise Wrong(f"with {levels} levels you do {value}; expected {wanted}.")


def up_with(ups: list, x: str, notes: list) -> str:
    """The way up with these notes."""
    for up, note in zip(ups, notes):
        x = up(x, note)
    return x


def text(answer, downs: list, ups: list) -> str:
    """answer("x", downs, ups) as text; the lists are copies."""
    return str(call(answer, "x", list(downs), list(ups)))


@exercise(
    notebook="04",
    kind="taught",
    points=2,
    minutes=10,
    signature="SinusoidalPositionEmbeddings(dim)(t: (B,)) -> (B, dim)",
    misconceptions={
        "one_frequency": "All your waves have the same length: two times far apart look alike.",
        "transposed": "Your rows are frequencies, your columns times; it is the other way round.",
        "cosines_first": "The cosines stand first; the sines were asked for first.",
        "rising": "Your frequencies rise from 1/10,000; they fall from 1.",
    },
    praise="Right: each row is one time as waves from fast to slow.",
)
def SinusoidalPositionEmbeddings(answer) -> None:
    """Vaswani et al. 2017, section 3.5: sines then cosines, frequencies from 1 down."""
    for b, dim in ((4, 4), (3, 8)):
        t, half = torch.arange(b) * 7 + 1, dim // 2
        frequencies = 10_000 ** (-torch.arange(half).double() / half)
        angles = t[:, None] * frequencies
        wanted = torch.cat([angles.sin(), angles.cos()], 1)
        single = (t[:, None] * torch.ones(half)).double()
        rising = t[:, None] * frequencies.flip(0)
        mistakes = {
            "one_frequency": torch.cat([single.sin(), single.cos()], 1),
            "cosines_first": torch.cat([angles.cos(), angles.sin()], 1),
            "rising": torch.cat([rising.sin(), rising.cos()], 1),
        }
        if b == dim:
            mistakes["transposed"] = wanted.T
        value = embedded(answer, t, dim)
        diagnose(value, wanted, mistakes, tolerance=1e-3)


def embedded(answer, t: Tensor, dim: int) -> Tensor:
    """answer(dim)(t) as a tensor (B, dim)."""
    return call_tensor(call(answer, dim), t, shape=(len(t), dim))
