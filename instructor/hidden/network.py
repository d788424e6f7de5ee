"""Hidden checks of notebook 04."""

import math

import torch

from cdiff_helpers.checks.verdict import Wrong, call, call_tensor, diagnose

from .draws import normal, whole


def fourier_features(answer, generator) -> None:
    b, k = whole(generator, 1, 6), whole(generator, 1, 6)
    t, f = normal(generator, b), normal(generator, k)
    rows = [
        [math.sin(2 * math.pi * x * y) for y in f.tolist()]
        + [math.cos(2 * math.pi * x * y) for y in f.tolist()]
        for x in t.tolist()
    ]
    diagnose(call_tensor(answer, t, f, shape=(b, 2 * k)), torch.tensor(rows), {})


def modulate(answer, generator) -> None:
    groups = whole(generator, 1, 3)
    b, c = whole(generator, 1, 4), groups * whole(generator, 1, 3)
    h, emb = normal(generator, b, c, 3, 5) * 2 - 1, normal(generator, b, 2 * c)
    parts = h.view(b, groups, -1)
    mean, spread = parts.mean(-1, keepdim=True), parts.var(-1, keepdim=True, correction=0)
    normed = ((parts - mean) / (spread + 1e-5).sqrt()).view(h.shape)
    wanted = torch.stack(
        [
            torch.stack([(1 + emb[i, j]) * normed[i, j] + emb[i, c + j] for j in range(c)])
            for i in range(b)
        ]
    )
    diagnose(call_tensor(answer, h, emb, groups, shape=tuple(h.shape)), wanted, {}, 1e-3)


def walk(answer, generator) -> None:
    levels = whole(generator, 1, 6)
    factors = torch.randint(2, 9, (levels,), generator=generator).tolist()
    downs = [lambda x, f=f: [*x, f] for f in factors]
    ups = [lambda x, note, i=i: [*x, ("up", i, tuple(note))] for i in range(levels)]
    wanted = [*factors]
    for i in range(levels):
        wanted.append(("up", i, tuple(factors[: levels - i])))
    if call(answer, [], list(downs), list(ups)) != wanted:
        raise Wrong(f"with {levels} levels some way up reads another's note.")


HIDDEN = {"fourier_features": fourier_features, "modulate": modulate, "walk": walk}
