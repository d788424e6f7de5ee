"""Answers to notebook 04's exercises."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from cdiff_helpers import unet
from instructor.mutants import right, right_value, wrong, wrong_value

TURN = 2 * math.pi


@wrong("fourier_features", "no_two_pi")
def _(t, frequencies):
    turns = t[:, None] * frequencies
    return torch.cat([turns.sin(), turns.cos()], 1)


@wrong("fourier_features", "cosines_first")
def _(t, frequencies):
    angles = TURN * t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


@wrong("fourier_features", "interleaved")
def _(t, frequencies):
    angles = TURN * t[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1).view(len(t), -1)


@wrong("fourier_features", "sines_twice")
def _(t, frequencies):
    angles = TURN * t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.sin()], 1)


@wrong("fourier_features", "squeezed")
def _(t, frequencies):
    angles = TURN * t * frequencies
    return torch.cat([angles.sin(), angles.cos()]).expand(len(t), -1)


@right("fourier_features")
def _(t, frequencies):
    angles = TURN * torch.outer(t, frequencies)
    return torch.hstack([torch.sin(angles), torch.sin(angles + math.pi / 2)])


@right("fourier_features")
def _(t, frequencies):
    waves = np.exp(1j * TURN * t.numpy()[:, None] * frequencies.numpy())
    return np.concatenate([waves.imag, waves.real], axis=1)


@wrong("modulate", "no_one")
def _(h, emb, groups):
    gamma, delta = emb[:, :, None, None].chunk(2, dim=1)
    return gamma * F.group_norm(h, groups) + delta


@wrong("modulate", "before_the_norm")
def _(h, emb, groups):
    gamma, delta = emb[:, :, None, None].chunk(2, dim=1)
    return F.group_norm((1 + gamma) * h + delta, groups)


@wrong("modulate", "swapped")
def _(h, emb, groups):
    delta, gamma = emb[:, :, None, None].chunk(2, dim=1)
    return (1 + gamma) * F.group_norm(h, groups) + delta


@wrong("modulate", "no_norm")
def _(h, emb, groups):
    gamma, delta = emb[:, :, None, None].chunk(2, dim=1)
    return (1 + gamma) * h + delta


@wrong("modulate", "along_the_width")
def _(h, emb, groups):
    gamma, delta = emb.chunk(2, dim=1)
    return (1 + gamma) * F.group_norm(h, groups) + delta


@wrong("modulate", "shift_only")
def _(h, emb, groups):
    return F.group_norm(h, groups) + emb[:, h.shape[1] :, None, None]


@right("modulate")
def _(h, emb, groups):
    b, c, height, width = h.shape
    parts = h.reshape(b, groups, -1)
    parts = (parts - parts.mean(-1, keepdim=True)) / (
        parts.var(-1, keepdim=True, correction=0) + 1e-5
    ).sqrt()
    normed = parts.reshape(b, c, height * width)
    out = normed * (1 + emb[:, :c, None]) + emb[:, c:, None]
    return out.reshape(h.shape)


@right("modulate")
def _(h, emb, groups):
    normed, c = F.group_norm(h, groups), h.shape[1]
    knobs = emb.view(len(h), 2, c, 1, 1)
    return torch.addcmul(normed + knobs[:, 1], normed, knobs[:, 0])


wrong_value("parameters_of_conv", "no_bias", 55_296)
wrong_value("parameters_of_conv", "every_place", 55_296 * 256)
wrong_value("parameters_of_conv", "every_place", 55_392 * 256)
wrong_value("parameters_of_conv", "side_not_squared", 64 * 96 * 3 + 96)
wrong_value("parameters_of_conv", "one_channel_in", 9 * 96 + 96)
wrong_value("parameters_of_conv", "bias_each_pair", 64 * 96 * 10)
right_value("parameters_of_conv", 55_392)
right_value(
    "parameters_of_conv", float(sum(p.numel() for p in torch.nn.Conv2d(64, 96, 3).parameters()))
)


@wrong("walk", "same_order")
def _(x, downs, ups):
    notes = []
    for down in downs:
        x = down(x)
        notes.append(x)
    for up, note in zip(ups, notes):
        x = up(x, note)
    return x


@wrong("walk", "no_notes")
def _(x, downs, ups):
    for down in downs:
        x = down(x)
    for up in ups:
        x = up(x, None)
    return x


@wrong("walk", "note_too_late")
def _(x, downs, ups):
    notes = []
    for down in downs:
        notes.append(x)
        x = down(x)
    for up in ups:
        x = up(x, notes.pop())
    return x


@wrong("walk", "same_note")
def _(x, downs, ups):
    notes = []
    for down in downs:
        x = down(x)
        notes.append(x)
    for up in ups:
        x = up(x, notes[-1])
    return x


@right("walk")
def _(x, downs, ups):
    notes = []
    for down in downs:
        x = down(x)
        notes.insert(0, x)
    for up, note in zip(ups, notes):
        x = up(x, note)
    return x


@right("walk")
def _(x, downs, ups):
    def inner(x, level):
        if level == len(downs):
            return x, 0
        note = downs[level](x)
        below, up = inner(note, level + 1)
        return ups[up](below, note), up + 1

    return inner(x, 0)[0]


def embedding(frequencies, put):
    """A class as the notebook's, of waves of these frequencies put together like this."""

    class Embedding(torch.nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.frequencies = frequencies(dim // 2)

        def forward(self, t):
            angles = t[:, None] * self.frequencies
            return put(angles.sin(), angles.cos())

    return Embedding


def falling(half):
    return 10_000 ** (-torch.arange(half) / half)


def side_by_side(sines, cosines):
    return torch.cat([sines, cosines], 1)


wrong_value("SinusoidalPositionEmbeddings", "one_frequency", embedding(torch.ones, side_by_side))
wrong_value(
    "SinusoidalPositionEmbeddings",
    "transposed",
    embedding(falling, lambda sines, cosines: torch.cat([sines, cosines], 1).T),
)
wrong_value(
    "SinusoidalPositionEmbeddings",
    "cosines_first",
    embedding(falling, lambda sines, cosines: torch.cat([cosines, sines], 1)),
)
wrong_value(
    "SinusoidalPositionEmbeddings",
    "rising",
    embedding(lambda half: falling(half).flip(0), side_by_side),
)
right_value("SinusoidalPositionEmbeddings", unet.SinusoidalPositionEmbeddings)
right_value("SinusoidalPositionEmbeddings", embedding(falling, side_by_side))
