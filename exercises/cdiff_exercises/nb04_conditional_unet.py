"""Trials of notebook 04: the conditional U-Net."""

import torch
from torch import nn

from cdiff_exercises.room import exercise


@exercise("predict", points=1, minutes=5)
def parameters_of_conv(answer, draw):
    """parameters_of_conv = whole number"""
    yield "the number of parameters", *answer.number()


def way_down(i):
    """A function of x, for the i-th level."""
    return lambda x: 2 * x + i


def way_up(i, read):
    """A function of x and a note, which it also puts into the list `read`."""

    def up(x, note):
        read[i] = 0 if note is None else note
        return 3 * x + 5 * read[i] + i

    return up


@exercise("bug", points=3, minutes=12)
def walk(answer, draw):
    """walk(x, downs: list of functions of x, ups: list of functions of x and a note) -> x"""
    for levels in (2, 4, draw.whole(3, 6)):
        read = [0] * levels
        downs = [way_down(i) for i in range(levels)]
        ups = [way_up(i, read) for i in range(levels)]
        end = answer(draw.whole(1, 5), downs, ups, shape=())
        read = answer.tensor(read, shape=(levels,))
        yield f"the list of notes that the {levels} ways up read", read, 0
        yield f"what comes out with {levels} levels", end, 0


@exercise("build", points=3, minutes=10)
def fourier_features(answer, draw):
    """fourier_features(t: float (B,), frequencies: float (K,)) -> (B, 2 K)"""
    for b, k in ((4, 4), (3, 5), (draw.whole(1, 6), draw.whole(1, 6))):
        t, frequencies = draw.uniform(b).float(), (0.3 + 3 * draw.uniform(k)).float()
        yield f"γ of {b} values of t at {k} frequencies", answer(t, frequencies, shape=(b, 2 * k))


@exercise("bug", points=3, minutes=12)
def modulate(answer, draw):
    """modulate(h: (B, C, H, W), emb: (B, 2 C), groups: int) -> (B, C, H, W)"""
    groups, each = draw.whole(1, 2), draw.whole(1, 3)
    sizes = ((3, 3, 3, 3, 1), (2, 4, 2, 5, 2), (draw.whole(1, 3), groups * each, 2, 3, groups))
    for b, c, height, width, groups in sizes:
        h, emb = 3 * draw.normal(b, c, height, width).float() + 1, draw.normal(b, 2 * c).float()
        case = f"{b} images of {c} channels in groups of {c // groups}"
        yield f"the result for {case}", answer(h, emb, groups, shape=h.shape)
    h = draw.normal(1, 4, 2, 3).float()
    yield "the result for an embedding of zeros", answer(h, torch.zeros(1, 8), 2, shape=h.shape)


@exercise("build", points=4, minutes=15)
def attend(answer, draw):
    """attend(q, k, v: (B, N, C), heads: int) -> (B, N, C)"""
    heads = draw.whole(1, 4)
    sizes = (draw.whole(1, 3), draw.whole(2, 5), heads * draw.whole(2, 3), heads)
    for b, n, c, heads in ((2, 4, 4, 1), (2, 5, 6, 3), sizes):
        q, k, v = 1.5 * draw.normal(3, b, n, c).float()
        result = answer(q, k, v, heads, shape=q.shape)
        case = f"{n} positions, {c} channels, heads = {heads}"
        if heads == 3:
            order = draw.uniform(n).argsort()
            shuffled = answer(q[:, order], k[:, order], v[:, order], heads, shape=q.shape)
            gap = round(float((shuffled - result[:, order]).abs().max()), 4)
            yield "the gap between shuffling the positions before and after", gap
        yield f"the result for {case}", result


@exercise("build", points=3, minutes=10)
def from_velocity(answer, draw):
    """from_velocity(v, xt: (B, C, H, W), alpha_bar: (B,)) -> (x0, eps), each (B, C, H, W)"""
    sizes = ((3, 3, 3, 3), (2, 3, 4, 5), (draw.whole(1, 4), 2, draw.whole(1, 4), draw.whole(1, 4)))
    cases = [(f"{size[0]} images, {size[3]} pixels wide", size, None) for size in sizes]
    cases.append(("2 images where ᾱ is 0 and 1", (2, 1, 2, 3), torch.tensor([0.0, 1.0])))
    for name, size, alpha_bar in cases:
        v, xt = draw.normal(2, *size).float()
        kept = draw.uniform(len(v)).float() if alpha_bar is None else alpha_bar
        x0, eps = answer.several(2, v, xt, kept)
        yield f"x0 of {name}", answer.tensor(x0, shape=size)
        yield f"ε of {name}", answer.tensor(eps, shape=size)


class Network(nn.Module):
    """A conditional network of a few numbers; the functions make it what a case needs."""

    def __init__(self, null_class, draw, *, weight=1.0, of_x=None, of_t=None, of_y=None, end=None):
        super().__init__()
        self.null_class, self.num_steps, self.weight = null_class, 1000, weight
        self.of_x, self.of_t, self.of_y, self.end = of_x, of_t, of_y, end
        rows = torch.linspace(-1, 1, null_class + 1)[draw.uniform(null_class + 1).argsort()]
        self.rows = nn.Parameter(rows, requires_grad=False)

    def forward(self, xt, t, y):
        x = self.of_x(xt) if self.of_x else xt
        level = (self.of_t(t) if self.of_t else t) * 617 % 1000 / 1000
        row = self.rows[y]
        if self.of_y:
            row = self.rows[self.of_y(y, self.null_class)]
        eps = 0.5 * x + self.weight * (level + row)[:, None, None, None]
        return self.end(eps) if self.end else eps


def centered(x):
    """Images less the mean of each channel over the batch, exact in any order of summing."""
    return (x.double() - x.double().mean((0, 2, 3), keepdim=True)).to(x.dtype)


def rounded(eps):
    """As if it had been summed in an order that depends on the size of the batch."""
    return eps + 3e-7 * min(len(eps), 16)


@exercise("build", points=4, minutes=20)
def sanity(answer, draw):
    """sanity(model) -> True or False; eps = model(xt: (B, 3, H, W), t: (B,), y: (B,))"""
    cases = {
        "sound network": {},
        "sound network whose last digits vary with B": {"end": rounded},
        "sound network that reacts weakly": {"weight": 0.01},
        "network that ignores t": {"of_t": torch.zeros_like},
        "network that answers all classes alike": {"of_y": lambda y, null: y // null * null},
        "network that answers ∅ as class 0": {"of_y": lambda y, null: y % null},
        "network that answers ∅ as the last class": {"of_y": lambda y, null: y.clamp(max=null - 1)},
        "network with one channel in its output": {"end": lambda e: e[:, :1]},
        "network whose output is float16": {"end": torch.Tensor.half},
        "network that subtracts the batch's mean": {"of_x": centered},
        "network that gives all images the first one's t": {"of_t": lambda t: t[:1].expand_as(t)},
    }
    for number, (name, flaw) in enumerate(cases.items()):
        network = Network(10 if number < 2 else draw.whole(3, 9), draw, **flaw)
        yield f"what you say of a {name}", answer(network, shape=()), 0


@exercise("taught", points=2, minutes=10)
def SinusoidalPositionEmbeddings(answer, draw):
    """SinusoidalPositionEmbeddings(dim: int)(t: int64 (B,)) -> (B, dim)"""
    for b, dim in ((4, 4), (3, 8)):
        layer = answer.ask(answer.value, dim)
        waves = answer.tensor(answer.ask(layer, draw.labels(b, 1000)), shape=(b, dim))
        yield f"the table of waves for {b} timesteps, dim = {dim},", waves, 1e-3
