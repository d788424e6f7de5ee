"""Answers to notebook 04's exercises: the conditional U-Net."""

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from cdiff_helpers import unet
from exercises.private import answers

answers(
    "parameters_of_conv",
    right=[64 * 96 * 3**2 + 96, float(55_392)],
    solution="parameters_of_conv = 64 * 96 * 3**2 + 96",
    no_bias=[64 * 96 * 9],
    every_place=[64 * 96 * 9 * 256, (64 * 96 * 9 + 96) * 256],
    side_not_squared=[64 * 96 * 3 + 96, 64 * 96 * 3],
    one_channel_in=[96 * 9 + 96, 96 * 9],
    bias_each_pair=[64 * 96 * 10],
    bias_each_input=[64 * 96 * 9 + 64],
    bias_each_place=[64 * 96 * 9 + 96 * 256],
    numbers_that_come_out=[96 * 16 * 16],
    point_for_thousands=[55.392],
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


answers(
    "walk",
    right=[walk, inward, walking(reversed)],
    same_order=[walking(list)],
    what_goes_in=[walking(reversed, noted=lambda before, after: before)],
    no_notes=[walking(lambda notes: [None] * len(notes))],
    same_note=[
        walking(lambda notes: notes[-1:] * len(notes)),
        walking(lambda notes: notes[:1] * len(notes)),
    ],
    ups_turned_round=[lambda x, downs, ups: walking(list)(x, downs, ups[::-1])],
    x_stays=[walking(reversed, kept=lambda before, after: before)],
    lists_emptied=[lambda x, downs, ups: (walk(x, downs, ups), downs.clear())[0]],
    called_twice=[
        lambda x, downs, ups: walk(x, [lambda x, d=d: d(0 * d(x) + x) for d in downs], ups),
        lambda x, downs, ups: walk(
            x, downs, [lambda x, n, u=u: u(0 * u(x, n) + x, n) for u in ups]
        ),
    ],
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


def side_by_side(*parts):
    return torch.cat(parts, 1)


def alternating(*parts):
    return torch.stack(parts, 2).flatten(1)


def waves(put=side_by_side, turn=math.tau, meet=torch.outer):
    """Features of the angles turn * meet(t, frequencies), put together in a way of their own."""

    def fourier_features(t, frequencies):
        angles = turn * meet(t, frequencies)
        return put(angles.sin(), angles.cos())

    return fourier_features


answers(
    "fourier_features",
    right=[fourier_features, complex_waves, one_at_a_time],
    no_two_pi=[waves(turn=1)],
    half_turns=[waves(turn=math.pi)],
    cosines_first=[waves(lambda sines, cosines: side_by_side(cosines, sines))],
    interleaved=[waves(alternating)],
    sines_twice=[waves(lambda sines, cosines: side_by_side(sines, sines))],
    squeezed=[waves(meet=lambda t, f: (t * f).expand(len(t), len(f)))],
    transposed=[waves(meet=lambda t, f: torch.outer(f, t))],
    periods=[waves(meet=lambda t, f: t[:, None] / f)],
    t_is_changed=[
        waves(meet=lambda t, f: torch.outer(t % 1, f)),
        waves(meet=lambda t, f: torch.outer(t.clamp(0, 1), f)),
        waves(meet=lambda t, f: torch.outer(t.abs(), f)),
    ],
    signs_lost=[waves(meet=lambda t, f: torch.outer(t, f.abs()))],
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


def turning(rule, parts=lambda emb: emb[:, :, None, None].chunk(2, 1), groups_of=None, **options):
    """A wrong modulate: rule(h, γ, δ, norm), maybe with other parts of emb or another norm."""

    def modulate(h, emb, groups):
        groups = groups_of(h, groups) if groups_of else groups
        return rule(h, *parts(emb), lambda x: F.group_norm(x, groups, **options))

    return modulate


def scale_and_shift(h, gamma, delta, norm):
    return torch.addcmul(norm(h) + delta, gamma, norm(h))


answers(
    "modulate",
    right=[modulate, normed_by_hand, turning(scale_and_shift)],
    no_one=[turning(lambda h, gamma, delta, norm: gamma * norm(h) + delta)],
    before_the_norm=[turning(lambda h, gamma, delta, norm: norm((1 + gamma) * h + delta))],
    swapped=[turning(lambda h, gamma, delta, norm: (1 + delta) * norm(h) + gamma)],
    no_norm=[turning(lambda h, gamma, delta, norm: (1 + gamma) * h + delta)],
    along_the_width=[
        turning(scale_and_shift, lambda emb: emb.chunk(2, 1)),
        turning(scale_and_shift, lambda emb: emb[:, :, None].chunk(2, 1)),
    ],
    shift_only=[turning(lambda h, gamma, delta, norm: norm(h) + delta)],
    scale_only=[turning(lambda h, gamma, delta, norm: (1 + gamma) * norm(h))],
    shift_scaled=[turning(lambda h, gamma, delta, norm: (1 + gamma) * (norm(h) + delta))],
    other_groups=[
        turning(scale_and_shift, groups_of=lambda h, groups: h.shape[1]),
        turning(scale_and_shift, groups_of=lambda h, groups: 1),
        turning(scale_and_shift, groups_of=lambda h, groups: min(groups, 2)),
    ],
    another_eps=[turning(scale_and_shift, eps=1e-4)],
    interleaved=[
        turning(scale_and_shift, lambda emb: emb[:, :, None, None].unflatten(1, (-1, 2)).unbind(2))
    ],
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


def split_by_view(x, heads):
    return x.reshape(len(x), heads, x.shape[1], -1)


def join_by_view(x):
    return x.reshape(len(x), x.shape[2], -1)


def attending(
    *,
    scale=lambda d, heads: d**-0.5,
    weigh=lambda scores: scores.softmax(-1),
    roles=lambda q, k, v: (q, k, v),
    parts=lambda x, heads: x.unflatten(-1, (heads, -1)).transpose(1, 2),
    whole=lambda x: x.transpose(1, 2).flatten(2),
):
    """Attention with one of its parts replaced."""

    def attend(q, k, v, heads):
        q, k, v = roles(*(parts(x, heads) for x in (q, k, v)))
        return whole(weigh(q @ k.mT * scale(q.shape[-1], heads)) @ v)

    return attend


answers(
    "attend",
    right=[attend, head_by_head, with_einsum],
    unscaled=[attending(scale=lambda d, heads: 1)],
    whole_width=[attending(scale=lambda d, heads: (d * heads) ** -0.5)],
    other_scale=[attending(scale=lambda d, heads: 1 / d), attending(scale=lambda d, heads: d**0.5)],
    over_the_queries=[attending(weigh=lambda scores: scores.softmax(-2))],
    over_the_heads=[attending(weigh=lambda scores: scores.softmax(1))],
    no_softmax=[attending(weigh=lambda scores: scores)],
    one_head=[attending(parts=lambda x, heads: x[:, None])],
    split_by_view=[
        attending(parts=split_by_view),
        attending(parts=split_by_view, whole=join_by_view),
    ],
    joined_by_view=[attending(whole=join_by_view)],
    interleaved=[
        attending(
            parts=lambda x, heads: x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2),
            whole=lambda x: x.permute(0, 2, 3, 1).flatten(2),
        )
    ],
    queries_and_keys_swapped=[attending(roles=lambda q, k, v: (k, q, v))],
    not_the_values=[
        attending(roles=lambda q, k, v: (q, k, k)),
        attending(roles=lambda q, k, v: (q, v, k)),
    ],
    all_alike=[attending(weigh=lambda scores: torch.ones_like(scores).softmax(-1))],
    weights_transposed=[attending(weigh=lambda scores: scores.softmax(-1).mT)],
    exp_overflows=[attending(weigh=lambda scores: scores.exp() / scores.exp().sum(-1, True))],
    some_images=[lambda q, k, v, heads: attend(q[:2], k[:2], v[:2], heads)],
)


def from_velocity(v, xt, alpha_bar):
    """The estimates (x0, eps) that a velocity v stands for; alpha_bar (B,) is one per image."""
    a = alpha_bar[:, None, None, None]  # (B, 1, 1, 1)
    return a.sqrt() * xt - (1 - a).sqrt() * v, a.sqrt() * v + (1 - a).sqrt() * xt


def as_rotation(v, xt, alpha_bar):
    angle = torch.acos(alpha_bar.double().sqrt())
    turned = torch.complex(xt, v).movedim(0, -1) * torch.polar(torch.ones_like(angle), angle)
    return turned.movedim(-1, 0).real, turned.movedim(-1, 0).imag


def image_by_image(*asked):
    pairs = map(from_velocity, *(each.split(1) for each in asked))
    return tuple(torch.cat(parts) for parts in zip(*pairs))


def turned_back(
    x0=lambda v, xt, s, r: s * xt - r * v,
    eps=lambda v, xt, s, r: s * v + r * xt,
    *,
    factors=lambda a: (a.sqrt(), (1 - a).sqrt()),
    of=lambda a: a[:, None, None, None],
):
    """A wrong from_velocity, from estimates of v, x_t, s = √ᾱ and r = √(1-ᾱ)."""

    def from_velocity(v, xt, alpha_bar):
        s, r = factors(of(alpha_bar))
        return x0(v, xt, s, r), eps(v, xt, s, r)

    return from_velocity


answers(
    "from_velocity",
    right=[from_velocity, as_rotation, image_by_image],
    sign_of_x0=[
        turned_back(x0=lambda v, xt, s, r: s * xt + r * v),
        turned_back(x0=lambda v, xt, s, r: r * v - s * xt),
    ],
    sign_of_eps=[
        turned_back(eps=lambda v, xt, s, r: s * v - r * xt),
        turned_back(eps=lambda v, xt, s, r: r * xt - s * v),
    ],
    both_signs=[
        turned_back(lambda v, xt, s, r: s * xt + r * v, lambda v, xt, s, r: s * v - r * xt)
    ],
    not_rooted=[
        turned_back(factors=lambda a: (a, 1 - a)),
        turned_back(factors=lambda a: (a.sqrt(), 1 - a)),
        turned_back(factors=lambda a: (a, (1 - a).sqrt())),
        turned_back(factors=lambda a: (a.sqrt(), 1 - a.sqrt())),
    ],
    factors_swapped=[turned_back(factors=lambda a: ((1 - a).sqrt(), a.sqrt()))],
    arguments_swapped=[lambda v, xt, alpha_bar: from_velocity(xt, v, alpha_bar)],
    pair_swapped=[lambda v, xt, alpha_bar: from_velocity(v, xt, alpha_bar)[::-1]],
    columns=[*(turned_back(of=lambda a, k=k: a[(..., *[None] * k)]) for k in range(3))],
    one_alpha_bar=[turned_back(of=lambda a: a[0]), turned_back(of=torch.mean)],
    velocity_as_noise=[
        turned_back(lambda v, xt, s, r: (xt - r * v) / s, lambda v, xt, s, r: v),
        turned_back(eps=lambda v, xt, s, r: v),
    ],
    divided=[
        turned_back(x0=lambda v, xt, s, r: (xt - r * (s * v + r * xt)) / s),
        turned_back(eps=lambda v, xt, s, r: (xt - s * (s * xt - r * v)) / r),
        turned_back(x0=lambda v, xt, s, r: torch.where(s > 0, (xt - r * (s * v + r * xt)) / s, -v)),
    ],
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


def agree(a, b, atol=1e-5):
    return torch.allclose(a, b, atol=atol)


def each_alone(model, x, t, y, eps, close, which=slice(None)):
    singles = [*zip(x.split(1), t.split(1), y.split(1), eps.split(1))]
    return all(close(model(*asked), result) for *asked, result in singles[which])


def asking(
    *skip, close=agree, alike=None, far=0.0, null=None, step=77, batch=each_alone,
    pairs=lambda i, j, null: True, images=lambda x: x, times=lambda t: t,
    fits=lambda eps, x: eps.shape == x.shape,
):  # fmt: skip
    """A sanity test that skips some questions, or asks them in a way of its own."""

    def sanity(model):
        y = torch.arange((null or model.null_class) + 1)
        x, t = images(torch.randn(len(y), 3, 4, 4)), times(90 * torch.arange(len(y)))

        def heard(a, b):
            return not (alike or close)(a, b) and (a - b).abs().max() > far

        eps, same = model(x, t, y), x[:1].expand_as(x)
        of_y = model(same, torch.full_like(t, 500), y)
        of_t = [model(same, torch.full_like(t, each), 0 * y) for each in (0, step)]
        passed = {
            "shape": fits(eps, x),
            "dtype": eps.dtype == x.dtype,
            "batch": batch(model, x, t, y, eps, close),
            "t": heard(*of_t),
            "y": all(heard(of_y[i], of_y[j]) for j in y for i in y[:j] if pairs(i, j, len(y) - 1)),
        }
        return all(value for name, value in passed.items() if name not in skip)

    return sanity


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


answers(
    "sanity",
    right=[sanity, asking(step=47), lambda model: torch.tensor(asking(step=953)(model))],
    no_t=[asking("t")],
    no_y=[asking(pairs=lambda i, j, null: j == null)],
    two_classes=[asking(pairs=lambda i, j, null: j in (i + 1, null))],
    no_null=[asking(pairs=lambda i, j, null: j < null)],
    null_against_one=[
        asking(pairs=lambda i, j, null: j < null or i == 0),
        asking(pairs=lambda i, j, null: j < null or i == null - 1),
    ],
    no_shape=[asking("shape")],
    part_of_the_shape=[
        asking(fits=lambda eps, x: eps.shape[1] == x.shape[1]),
        asking(fits=lambda eps, x: eps.numel() == x.numel()),
    ],
    no_dtype=[asking("dtype")],
    no_batch=[asking("batch")],
    same_images=[asking(images=lambda x: x[:1].expand_as(x)), asking(images=torch.zeros_like)],
    same_timesteps=[
        asking(times=lambda t: torch.full_like(t, 300)),
        asking(
            batch=lambda model, x, t, y, eps, close: close(
                model(x + (y > 0)[:, None, None, None], t, y)[0], eps[0]
            )
        ),
    ],
    one_alone=[
        asking(batch=lambda *asked: each_alone(*asked, which=slice(1))),
        asking(batch=lambda *asked: each_alone(*asked, which=slice(-1, None))),
    ],
    only_shuffled=[
        asking(
            batch=lambda model, x, t, y, eps, close: close(
                model(x.flip(0), t.flip(0), y.flip(0)), eps.flip(0)
            )
        )
    ],
    to_the_last_digit=[asking(close=torch.allclose), asking(close=torch.equal)],
    last_digits_heard=[asking(alike=torch.equal)],
    too_coarse=[asking(close=partial(agree, atol=1e-4)), asking(close=partial(agree, atol=1e-3))],
    far_apart=[asking(far=0.05)],
    ten_classes=[asking(null=10)],
    turned_round=[lambda model: not sanity(model)],
    always_true=[lambda model: True],
    always_false=[lambda model: False],
)

answers(
    "SinusoidalPositionEmbeddings",
    right=[unet.SinusoidalPositionEmbeddings, embedding()],
    one_frequency=[embedding(frequencies=torch.ones)],
    transposed=[embedding(lambda *parts: side_by_side(*parts).T)],
    cosines_first=[embedding(lambda sines, cosines: side_by_side(cosines, sines))],
    rising=[embedding(frequencies=lambda half: 10_000 ** (-torch.arange(half) / half).flip(0))],
    interleaved=[embedding(alternating)],
    one_too_few=[embedding(frequencies=lambda half: 10_000 ** (-torch.arange(half) / (half - 1)))],
)
