"""Answers to notebook 04's exercises: the conditional U-Net."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from cdiff_helpers import unet
from exercises.private import right

known = right(
    "parameters_of_conv",
    "64 · 96 kernels of 3 × 3, and 96 biases; the image's size plays no part.",
    64 * 96 * 3**2 + 96,
    float(sum(p.numel() for p in torch.nn.Conv2d(64, 96, 3).parameters())),
    otherwise="How many numbers has one kernel, and how many kernels are there?",
    solution="parameters_of_conv = 64 * 96 * 3**2 + 96",
)
known.mistake(
    "no_bias", "The biases are missing: one for each channel that comes out.", 64 * 96 * 9
)
known.mistake(
    "every_place",
    "You counted the kernel at each of the 16 × 16 places. A convolution uses the same weights "
    "everywhere; that is its point.",
    64 * 96 * 9 * 256,
    (64 * 96 * 9 + 96) * 256,
)
known.mistake(
    "side_not_squared",
    "A kernel of side 3 has 3 × 3 weights for each pair of channels.",
    64 * 96 * 3 + 96,
    64 * 96 * 3,
)
known.mistake(
    "one_channel_in",
    "Each channel that comes out looks at all 64 that go in.",
    96 * 9 + 96,
    96 * 9,
)
known.mistake(
    "bias_each_pair",
    "There is one bias for each channel that comes out, not for each pair of channels.",
    64 * 96 * 10,
)
known.mistake(
    "bias_each_input",
    "You counted a bias for each channel that goes in. It is added to what comes out.",
    64 * 96 * 9 + 64,
)
known.mistake(
    "bias_each_place",
    "A bias is one number per channel that comes out, the same at all 16 × 16 places.",
    64 * 96 * 9 + 96 * 256,
)
known.mistake(
    "numbers_that_come_out",
    "That is how many numbers come out for one image. Parameters are what is learned.",
    96 * 16 * 16,
)


def walk(x, downs, ups):
    """Down with notes, and up again, each way up with the note of its level."""
    notes = []
    for down in downs:
        x = down(x)
        notes.append(x)
    for up in ups:
        x = up(x, notes.pop())
    return x


def inward(x, downs, ups):
    if not downs:
        return x
    note = downs[0](x)
    return ups[-1](inward(note, downs[1:], ups[:-1]), note)


def eats_its_lists(x, downs, ups):
    notes = []
    while downs:
        notes.append(x := downs.pop(0)(x))
    while ups:
        x = ups.pop(0)(x, notes.pop())
    return x


def walking(read, noted=lambda before, after: after, kept=lambda before, after: after):
    """A wrong walk: what it notes, what it goes on with, and the notes that the ways up read."""

    def walk(x, downs, ups):
        notes = []
        for down in downs:
            after = down(x)
            notes.append(noted(x, after))
            x = kept(x, after)
        for up, note in zip(ups, read(notes)):
            x = up(x, note)
        return x

    return walk


known = right(
    "walk",
    "the last note is the first to be read.",
    walk,
    inward,
    eats_its_lists,
    walking(reversed),
)
known.mistake(
    "unchanged",
    "This is the printed code, with both mistakes: it notes what goes into a way down, and the "
    "first way up reads the first note.",
)
known.mistake(
    "same_order",
    "The first way up reads the note of the first way down. They meet from the inside out: the "
    "last note is the first to be read.",
    walking(list),
)
known.mistake(
    "what_goes_in",
    "You note what goes into a way down. This U notes what a way down *returns*.",
    walking(reversed, noted=lambda before, after: before),
)
known.mistake(
    "no_notes",
    "The ways up get nothing but what comes from below; each has a note to read.",
    walking(lambda notes: [None] * len(notes)),
)
known.mistake(
    "same_note",
    "Every way up reads the same note. Each note is read once: take it off the pile.",
    walking(lambda notes: notes[-1:] * len(notes)),
    walking(lambda notes: notes[:1] * len(notes)),
)
known.mistake(
    "ups_turned_round",
    "You go through the ways up from the last to the first. Their order is right as it is; it is "
    "the notes that have to be turned round.",
    lambda x, downs, ups: walking(list)(x, downs, ups[::-1]),
)
known.mistake(
    "x_stays",
    "You note what each way down returns, but x does not go on with it: every way down gets the "
    "same x.",
    walking(reversed, kept=lambda before, after: before),
)


def fourier_features(t, frequencies):
    """t (B,) as waves of K frequencies (in turns): (B, 2 K), sines first."""
    angles = 2 * math.pi * t[:, None] * frequencies[None, :]  # (B, K)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def complex_waves(t, frequencies):
    waves = np.exp(2j * np.pi * np.outer(t.numpy(), frequencies.numpy()))
    return np.concatenate([waves.imag, waves.real], axis=1)


def one_at_a_time(t, frequencies):
    angles = [[math.tau * x * f for f in frequencies.tolist()] for x in t.tolist()]
    return [[math.sin(a) for a in row] + [math.cos(a) for a in row] for row in angles]


def side_by_side(sines, cosines):
    return torch.cat([sines, cosines], 1)


def alternating(sines, cosines):
    return torch.stack([sines, cosines], 2).flatten(1)


def waves(put=side_by_side, turn=math.tau, meet=torch.outer):
    """Features of the angles turn * meet(t, frequencies), put together in a way of their own."""

    def fourier_features(t, frequencies):
        angles = turn * meet(t, frequencies)
        return put(angles.sin(), angles.cos())

    return fourier_features


known = right(
    "fourier_features",
    "each t as K waves, seen from two sides.",
    fourier_features,
    complex_waves,
    one_at_a_time,
    waves(),
)
known.mistake(
    "no_two_pi",
    "The frequencies count turns, and a turn is an angle of 2π. You take f t as the angle.",
    waves(turn=1),
)
known.mistake("half_turns", "A whole turn is an angle of 2π; you take π.", waves(turn=math.pi))
known.mistake(
    "cosines_first",
    "The cosines stand first here; sines were asked for first.",
    waves(lambda sines, cosines: torch.cat([cosines, sines], 1)),
)
known.mistake(
    "interleaved",
    "Sine and cosine alternate here: all K sines come first, then all K cosines, as cat puts them.",
    waves(alternating),
)
known.mistake(
    "sines_twice",
    "Both halves are the same. What is a sine where the wave starts at its top?",
    waves(lambda sines, cosines: torch.cat([sines, sines], 1)),
)
known.mistake(
    "squeezed",
    "The whole batch shares one row: t and the frequencies were multiplied entry by entry. Each t "
    "meets each frequency: (B, 1) × (1, K).",
    waves(meet=lambda t, f: (t * f).expand(len(t), len(f))),
)
known.mistake(
    "transposed",
    "Your rows are frequencies and your columns values of t; it is the other way round.",
    waves(meet=lambda t, f: torch.outer(f, t)),
)
known.mistake(
    "periods",
    "You divide by the frequencies, as if they were periods: a higher frequency turns faster.",
    waves(meet=lambda t, f: t[:, None] / f),
)


def modulate(h, emb, groups):
    """Group norm of h (B, C, H, W), scaled and shifted by emb (B, 2 C): scale first."""
    gamma, delta = emb[:, :, None, None].chunk(2, dim=1)  # each (B, C, 1, 1)
    return (1 + gamma) * F.group_norm(h, groups) + delta


def normed_by_hand(h, emb, groups):
    parts, c = h.reshape(len(h), groups, -1), h.shape[1]
    variance, mean = torch.var_mean(parts, -1, correction=0, keepdim=True)
    normed = ((parts - mean) / (variance + 1e-5).sqrt()).reshape(len(h), c, -1)
    return (normed * (1 + emb[:, :c, None]) + emb[:, c:, None]).reshape(h.shape)


def layer_and_addcmul(h, emb, groups):
    normed, knobs = torch.nn.GroupNorm(groups, h.shape[1])(h), emb.view(len(h), 2, -1, 1, 1)
    return torch.addcmul(normed + knobs[:, 1], normed, knobs[:, 0])


def turning(rule, parts=lambda emb: emb[:, :, None, None].chunk(2, dim=1), groups_of=None):
    """A wrong modulate: rule(h, γ, δ, norm), maybe with other parts of emb or other groups."""

    def modulate(h, emb, groups):
        groups = groups_of(h) if groups_of else groups
        return rule(h, *parts(emb), lambda x: F.group_norm(x, groups))

    return modulate


def scale_and_shift(h, gamma, delta, norm):
    return (1 + gamma) * norm(h) + delta


known = right(
    "modulate",
    "an embedding of zeros leaves the plain norm, and each channel has its knobs.",
    modulate,
    normed_by_hand,
    layer_and_addcmul,
)
known.mistake(
    "unchanged",
    "This is the printed code: the norm comes last and takes out again what the channels of a "
    "group share, and a factor γ of 0 erases h.",
)
known.mistake(
    "no_one",
    "γ alone: an embedding of zeros then erases h, whatever the image. Which factor leaves things "
    "as they are?",
    turning(lambda h, gamma, delta, norm: gamma * norm(h) + delta),
)
known.mistake(
    "before_the_norm",
    "You turn the knobs before the norm, and the norm takes out again what all channels of a group "
    "share: a factor, but for its sign, and a shift. First the norm, then scale and shift.",
    turning(lambda h, gamma, delta, norm: norm((1 + gamma) * h + delta)),
)
known.mistake(
    "swapped",
    "The embedding's first half is the scale γ, the second the shift δ; yours swap.",
    turning(lambda h, gamma, delta, norm: (1 + delta) * norm(h) + gamma),
)
known.mistake(
    "no_norm",
    "h is not normalized at all: the group norm comes first.",
    turning(lambda h, gamma, delta, norm: (1 + gamma) * h + delta),
)
known.mistake(
    "along_the_width",
    "Scale and shift lie along the wrong dimension, which is silent only where the sizes agree: "
    "one number per image and channel has the shape (B, C, 1, 1).",
    turning(scale_and_shift, lambda emb: emb.chunk(2, 1)),
    turning(scale_and_shift, lambda emb: emb[:, :, None].chunk(2, 1)),
)
known.mistake(
    "shift_only",
    "The shift works, the scale has no effect. What multiplies the normalized h?",
    turning(lambda h, gamma, delta, norm: norm(h) + delta),
)
known.mistake(
    "scale_only",
    "The scale works, but the shift δ has no effect.",
    turning(lambda h, gamma, delta, norm: (1 + gamma) * norm(h)),
)
known.mistake(
    "shift_scaled",
    "You shift first and then scale, so that γ also multiplies the shift: δ is added last.",
    turning(lambda h, gamma, delta, norm: (1 + gamma) * (norm(h) + delta)),
)
known.mistake(
    "other_groups",
    "You normalize over other groups of channels than `groups` says.",
    turning(scale_and_shift, groups_of=lambda h: h.shape[1]),
    turning(scale_and_shift, groups_of=lambda h: 1),
)
known.mistake(
    "interleaved",
    "You take γ and δ from alternating entries. The first half of emb is γ, the second half is δ.",
    turning(scale_and_shift, lambda emb: emb[:, :, None, None].unflatten(1, (-1, 2)).unbind(2)),
)


def attend(q, k, v, heads):
    """Attention of q, k, v (B, N, C), each head on C / heads channels of its own: (B, N, C)."""
    b, n, c = q.shape
    q, k, v = (x.reshape(b, n, heads, c // heads).transpose(1, 2) for x in (q, k, v))
    weights = (q @ k.transpose(-1, -2) / math.sqrt(c // heads)).softmax(dim=-1)  # (B, heads, N, N)
    return (weights @ v).transpose(1, 2).reshape(b, n, c)


def head_by_head(q, k, v, heads):
    parts = zip(*(x.chunk(heads, -1) for x in (q, k, v)))
    return torch.cat([F.scaled_dot_product_attention(*part) for part in parts], -1)


def with_einsum(q, k, v, heads):
    q, k, v = (x.unflatten(-1, (heads, -1)) for x in (q, k, v))
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) * q.shape[-1] ** -0.5
    weights = (scores - scores.amax(-1, True)).exp()
    return torch.einsum("bhnm,bmhd->bnhd", weights / weights.sum(-1, True), v).flatten(2)


def split(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def split_by_view(x, heads):
    return x.reshape(len(x), heads, x.shape[1], -1)


def join(x):
    return x.transpose(1, 2).flatten(2)


def join_by_view(x):
    return x.reshape(len(x), x.shape[2], -1)


def attending(
    *,
    scale=lambda d, heads: d**-0.5,
    weigh=lambda scores: scores.softmax(-1),
    roles=lambda q, k, v: (q, k, v),
    parts=split,
    whole=join,
):
    """Attention with one of its parts replaced."""

    def attend(q, k, v, heads):
        q, k, v = roles(*(parts(x, heads) for x in (q, k, v)))
        return whole(weigh(q @ k.mT * scale(q.shape[-1], heads)) @ v)

    return attend


known = right(
    "attend",
    "each head asks on its own channels, and no head knows where a position lies.",
    attend,
    head_by_head,
    with_einsum,
    lambda q, k, v, heads: (
        F.scaled_dot_product_attention(*(split(x, heads) for x in (q, k, v))).mT.flatten(1, 2).mT
    ),
)
known.mistake(
    "unscaled",
    "The products of queries and keys are not divided by √d: the softmax gets too hard.",
    attending(scale=lambda d, heads: 1),
)
known.mistake(
    "whole_width",
    "You divide by √C, as for a single head. A head's queries have only C / heads entries: that is "
    "its d.",
    attending(scale=lambda d, heads: (d * heads) ** -0.5),
)
known.mistake(
    "other_scale",
    "You scale the products by another power of d: they are divided by its root, once.",
    attending(scale=lambda d, heads: 1 / d),
    attending(scale=lambda d, heads: d**0.5),
)
known.mistake(
    "over_the_queries",
    "Your weights add up to 1 over those who ask. For each query they add up to 1 over the keys: "
    "the last dimension of QKᵀ.",
    attending(weigh=lambda scores: scores.softmax(-2)),
)
known.mistake(
    "over_the_heads",
    "Your softmax runs over the heads. Each head has weights of its own, which add up to 1 over "
    "the keys.",
    attending(weigh=lambda scores: scores.softmax(1)),
)
known.mistake(
    "no_softmax",
    "The scaled products weigh the values as they are. Weights are positive and add up to 1.",
    attending(weigh=lambda scores: scores),
)
known.mistake(
    "one_head",
    "Right for one head, but `heads` has no effect: all channels share one table of weights.",
    attending(parts=lambda x, heads: x[:, None]),
)
known.mistake(
    "split_by_view",
    "Your heads mix positions and channels: a view of (B, N, C) as (B, heads, N, C / heads) has "
    "the right shape, but cuts up the positions. Split C alone, then move the heads forward.",
    attending(parts=split_by_view),
    attending(parts=split_by_view, whole=join_by_view),
)
known.mistake(
    "joined_by_view",
    "Each head computes what it should, but they are put together wrongly: from "
    "(B, heads, N, C / heads) the positions must come forward again before the last two dimensions "
    "become one.",
    attending(whole=join_by_view),
)
known.mistake(
    "interleaved",
    "You deal the channels out to the heads in turn. The first head has the first C / heads "
    "channels, all next to each other.",
    attending(
        parts=lambda x, heads: x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2),
        whole=lambda x: x.permute(0, 2, 3, 1).flatten(2),
    ),
)
known.mistake(
    "queries_and_keys_swapped",
    "Your keys ask and your queries answer: row n of the weights belongs to query n.",
    attending(roles=lambda q, k, v: (k, q, v)),
)
known.mistake(
    "not_the_values",
    "The weights come from queries and keys, and what they weigh is the values. Yours have other "
    "parts.",
    attending(roles=lambda q, k, v: (q, k, k)),
    attending(roles=lambda q, k, v: (q, v, k)),
)
known.mistake(
    "all_alike",
    "Every position gets the same mean of all values: the weights have no effect.",
    attending(weigh=lambda scores: torch.ones_like(scores).softmax(-1)),
)
known.mistake(
    "weights_transposed",
    "The weights are right, but you use them the wrong way round: each query's own row, which adds "
    "up to 1, weighs the values.",
    attending(weigh=lambda scores: scores.softmax(-1).mT),
)


def from_velocity(v, xt, alpha_bar):
    """The estimates (x0, eps) that a velocity v stands for; alpha_bar (B,) is one per image."""
    a = alpha_bar[:, None, None, None]  # (B, 1, 1, 1)
    return a.sqrt() * xt - (1 - a).sqrt() * v, a.sqrt() * v + (1 - a).sqrt() * xt


def as_rotation(v, xt, alpha_bar):
    angle = torch.acos(alpha_bar.double().sqrt())
    turned = torch.complex(xt, v).movedim(0, -1) * torch.polar(torch.ones_like(angle), angle)
    return turned.movedim(-1, 0).real, turned.movedim(-1, 0).imag


def image_by_image(v, xt, alpha_bar):
    x0, eps = torch.empty_like(xt), torch.empty_like(xt)
    for i, kept in enumerate(alpha_bar.tolist()):
        x0[i] = kept**0.5 * xt[i] - (1 - kept) ** 0.5 * v[i]
        eps[i] = kept**0.5 * v[i] + (1 - kept) ** 0.5 * xt[i]
    return x0, eps


def per_image(kept):
    return kept.view(-1, 1, 1, 1)


def turned_back(
    x0=lambda v, xt, s, r: s * xt - r * v,
    eps=lambda v, xt, s, r: s * v + r * xt,
    *,
    factors=lambda a: (a.sqrt(), (1 - a).sqrt()),
    of=per_image,
):
    """A wrong from_velocity, from estimates of v, x_t, s = √ᾱ and r = √(1-ᾱ)."""

    def from_velocity(v, xt, alpha_bar):
        s, r = factors(of(alpha_bar))
        return x0(v, xt, s, r), eps(v, xt, s, r)

    return from_velocity


known = right(
    "from_velocity",
    "a rotation turned back, and nothing is divided: it holds at both ends.",
    from_velocity,
    as_rotation,
    image_by_image,
)
known.mistake(
    "sign_of_x0",
    "A sign is wrong in your x0. At ᾱ = 0 the velocity is -x0: what must x0 be there?",
    turned_back(x0=lambda v, xt, s, r: s * xt + r * v),
    turned_back(x0=lambda v, xt, s, r: r * v - s * xt),
)
known.mistake(
    "sign_of_eps",
    "A sign is wrong in your ε. At ᾱ = 1 the velocity is ε, "
    "at ᾱ = 0 x_t is: both count with a plus.",
    turned_back(eps=lambda v, xt, s, r: s * v - r * xt),
    turned_back(eps=lambda v, xt, s, r: r * xt - s * v),
)
known.mistake(
    "both_signs",
    "You turn the wrong way: the signs in x0 and in ε have changed places.",
    turned_back(lambda v, xt, s, r: s * xt + r * v, lambda v, xt, s, r: s * v - r * xt),
)
known.mistake(
    "not_rooted",
    "A root is missing: the factors are scales, √ᾱ and √(1-ᾱ), and their squares add up to 1.",
    turned_back(factors=lambda a: (a, 1 - a)),
    turned_back(factors=lambda a: (a.sqrt(), 1 - a)),
    turned_back(factors=lambda a: (a, (1 - a).sqrt())),
    turned_back(factors=lambda a: (a.sqrt(), 1 - a.sqrt())),
)
known.mistake(
    "factors_swapped",
    "√ᾱ and √(1-ᾱ) have changed places: where nothing is noised, ᾱ = 1, x_t itself is x0.",
    turned_back(factors=lambda a: ((1 - a).sqrt(), a.sqrt())),
)
known.mistake(
    "pair_swapped",
    "You return the right two in the wrong order: x0 comes first, then ε.",
    lambda v, xt, alpha_bar: from_velocity(v, xt, alpha_bar)[::-1],
)
known.mistake(
    "columns",
    "Your ᾱ lies along the wrong dimension, which is silent only where the sizes agree. One factor "
    "per image has the shape (B, 1, 1, 1).",
    *(turned_back(of=lambda a, k=k: a[(..., *[None] * k)]) for k in range(3)),
)
known.mistake(
    "one_alpha_bar",
    "All images get the same ᾱ; alpha_bar has an entry for each.",
    turned_back(of=lambda a: a[0]),
    turned_back(of=torch.mean),
)
known.mistake(
    "velocity_as_noise",
    "You treat the velocity as if it were the noise. It is a mixture of the noise and the image.",
    turned_back(lambda v, xt, s, r: (xt - r * v) / s, lambda v, xt, s, r: v),
    turned_back(eps=lambda v, xt, s, r: v),
)
known.mistake(
    "divided",
    "Right on paper, but you divide by √ᾱ or √(1-ᾱ), which is 0 at one end, and near it a rounding "
    "error grows thousands of times. Eq. (4) has both estimates without a division.",
    turned_back(x0=lambda v, xt, s, r: (xt - r * (s * v + r * xt)) / s),
    turned_back(eps=lambda v, xt, s, r: (xt - s * (s * xt - r * v)) / r),
)


def sanity(model):
    """Whether a network hears t and y and keeps the images of a batch apart: True or False."""

    def agree(a, b):
        return torch.allclose(a, b, atol=1e-5)

    y = torch.arange(model.null_class + 1)  # each class, and none
    xt, t = torch.randn(len(y), 3, 8, 8), torch.linspace(0, 999, len(y)).long()
    eps = model(xt, t, y)
    if eps.shape != xt.shape or eps.dtype != xt.dtype:
        return False
    alone = [model(xt[i : i + 1], t[i : i + 1], y[i : i + 1])[0] for i in range(len(y))]
    same = xt[:1].expand_as(xt)
    by_class, by_time = model(same, torch.full_like(t, 500), y), model(same, t, torch.zeros_like(y))
    alike = [agree(by_class[i], by_class[j]) for i in range(len(y)) for j in range(i)]
    return agree(eps, torch.stack(alone)) and not any(alike) and not agree(by_time[0], by_time[-1])


def agree(a, b):
    return torch.allclose(a, b, atol=1e-5)


def asking(
    *skip,
    close=agree,
    images=None,
    times=None,
    null=None,
    far=0.0,
    against=None,
    turned=False,
):
    """A sanity test that skips some questions, or asks them in a way of its own."""

    def sanity(model):
        y = torch.arange((null or model.null_class) + 1)
        x, t = torch.randn(len(y), 3, 4, 4), 90 * torch.arange(len(y))
        x, t = images(x) if images else x, times(t) if times else t

        def heard(a, b):
            return not close(a, b) and (a - b).abs().max() > far

        eps = model(x, t, y)
        same, other, zero = x[:1].expand_as(x), torch.full_like(y, 500), torch.zeros_like(y)
        of_y, null_y = model(same, other, y), model(same, other, torch.full_like(y, int(y[-1])))
        passed = {
            "shape": eps.shape == x.shape,
            "dtype": eps.dtype == x.dtype,
            "batch": all(
                close(model(x[i:][:1], t[i:][:1], y[i:][:1]), e[None]) for i, e in enumerate(eps)
            ),
            "t": heard(model(same, other, zero), model(same, other + 77, zero)),
            "y": heard(of_y[0], of_y[1]),
            "null": all(heard(a, b) for a, b in list(zip(of_y, null_y))[against or slice(-1)]),
        }
        return turned ^ all(value for name, value in passed.items() if name not in skip)

    return sanity


known = right(
    "sanity",
    "a network that passes hears its timestep and its class, and keeps the images apart.",
    sanity,
    asking(),
    lambda model: torch.tensor(asking()(model)),
)
known.mistake("no_t", "You never change t alone, all else being the same.", asking("t"))
known.mistake(
    "no_y",
    "You compare ∅ with the classes, but no class with another one.",
    asking("y"),
)
known.mistake(
    "no_null",
    "You compare classes with each other, but ∅ with none of them: guidance lives on that "
    "difference.",
    asking("null"),
)
known.mistake(
    "null_against_one",
    "You compare ∅ with one class alone. It may still answer as another one does: compare it with "
    "each.",
    asking(against=slice(1)),
    asking(against=slice(-2, -1)),
)
known.mistake("no_shape", "You never look at the output's shape.", asking("shape"))
known.mistake("no_dtype", "You never look at the output's dtype.", asking("dtype"))
known.mistake(
    "no_batch",
    "Nothing shows whether the images of a batch influence each other: compare a batch with each "
    "of its images alone.",
    asking("batch"),
)
known.mistake(
    "same_images",
    "You do not see that one image changes another's result: compare a batch of *different* images "
    "with each of them alone.",
    asking(images=lambda x: x[:1].expand_as(x)),
    asking(images=torch.zeros_like),
)
known.mistake(
    "same_timesteps",
    "In your batch all images have the same timestep, so a network that takes one for all passes.",
    asking(times=lambda t: torch.full_like(t, 300)),
)
known.mistake(
    "to_the_last_digit",
    "You compare too finely, and refuse a sound network: sums in another order round differently. "
    "torch.allclose with atol=1e-5 allows for that.",
    asking(close=torch.allclose),
    asking(close=torch.equal),
)
known.mistake(
    "far_apart",
    "You refuse a network that does react, because it reacts weakly. Only outputs that agree "
    "within rounding count as the same.",
    asking(far=0.1),
)
known.mistake(
    "ten_classes",
    "You assume ten classes. How many a network has, it says itself: null_class comes right after "
    "the last one.",
    asking(null=10),
)
known.mistake(
    "turned_round",
    "You say True of a broken network and False of a sound one.",
    asking(turned=True),
)
known.mistake("always_true", "You let every network pass.", lambda model: True)


def embedding(put=side_by_side, frequencies=lambda half: 10_000 ** (-torch.arange(half) / half)):
    """A class as the notebook's, of waves of these frequencies put together like this."""

    class Embedding(torch.nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.frequencies = frequencies(dim // 2)

        def forward(self, t):
            angles = t[:, None] * self.frequencies
            return put(angles.sin(), angles.cos())

    return Embedding


known = right(
    "SinusoidalPositionEmbeddings",
    "each row is one timestep as waves from fast to slow.",
    unet.SinusoidalPositionEmbeddings,
    embedding(),
)
known.mistake(
    "one_frequency",
    "All your waves have the same length: two timesteps far apart look alike.",
    embedding(frequencies=torch.ones),
)
known.mistake(
    "transposed",
    "Your rows are frequencies, your columns timesteps; it is the other way round.",
    embedding(lambda sines, cosines: torch.cat([sines, cosines], 1).T),
)
known.mistake(
    "cosines_first",
    "The cosines stand first; the sines were asked for first.",
    embedding(lambda sines, cosines: torch.cat([cosines, sines], 1)),
)
known.mistake(
    "rising",
    "Your frequencies rise from 1/10,000; they fall from 1.",
    embedding(frequencies=lambda half: 10_000 ** (-torch.arange(half) / half).flip(0)),
)
known.mistake(
    "interleaved",
    "Sine and cosine alternate here: all sines come first, then all cosines.",
    embedding(alternating),
)
known.mistake(
    "one_too_few",
    "Your last frequency is 1/10,000 itself: the exponent's fraction is i / (d/2), which stops "
    "short of 1.",
    embedding(frequencies=lambda half: 10_000 ** (-torch.arange(half) / (half - 1))),
)
