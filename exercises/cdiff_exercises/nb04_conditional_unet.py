"""Trials of notebook 04: the conditional U-Net."""

import torch
from torch import nn

from cdiff_exercises.room import exercise


@exercise("predict", points=1, minutes=5)
def parameters_of_conv(answer, draw):
    """parameters_of_conv = whole number"""
    yield "the number of parameters", *answer.number()


def way(i, asked, read=None):
    """The i-th way down, a function of x, or with `read` the i-th way up, which also reads notes.

    It counts in the list `asked` how often it is called.
    """

    def down(x):
        asked[i] += 1
        return 2 * x + i

    def up(x, note):
        asked[i] += 1
        read[i] = 0 if note is None else note
        return 3 * x + 5 * read[i] + i

    return up if read else down


@exercise("bug", points=3, minutes=12)
def walk(answer, draw):
    """walk(x, downs: list of functions of x, ups: list of functions of x and a note) -> x"""
    for levels in (2, 4, 1, draw.whole(3, 6)):
        down, up, read = [0] * levels, [0] * levels, [0] * levels
        downs = [way(i, down) for i in range(levels)]
        ups = [way(i, up, read) for i in range(levels)]
        end = answer(draw.whole(1, 5), downs, ups, shape=())
        read = answer.tensor(read, shape=(levels,))
        yield f"the list of notes that the ways up read, levels = {levels},", read, 0
        yield f"what comes out, levels = {levels},", end, 0
        yield f"how often each way down is called, levels = {levels},", down, 0
        yield f"how often each way up is called, levels = {levels},", up, 0


@exercise("build", points=3, minutes=10)
def fourier_features(answer, draw):
    """fourier_features(t: float (B,), frequencies: float (K,)) -> (B, 2 K)"""
    for b, k in ((4, 4), (3, 5), (1, 2), (2, 1), (1, 1), (draw.whole(1, 6), draw.whole(1, 6))):
        t, frequencies = 40 * draw.uniform(b).float() - 10, 3 * draw.normal(k).float()
        case = f"γ of {b} values of t at {k} frequencies"
        yield case, answer(t, frequencies, shape=(b, 2 * k)), 2e-3  # float32 angles to 2000


@exercise("bug", points=3, minutes=12)
def modulate(answer, draw):
    """modulate(h: (B, C, H, W), emb: (B, 2 C), groups: int) -> (B, C, H, W)"""
    groups, each = draw.whole(1, 4), draw.whole(1, 3)
    drawn = (draw.whole(1, 3), groups * each, 2, 3, groups)
    for b, c, height, width, groups in ((2, 2, 2, 2, 1), (1, 6, 2, 2, 3), (2, 4, 2, 3, 4), drawn):
        h, emb = 3 * draw.normal(b, c, height, width).float() + 1, draw.normal(b, 2 * c).float()
        case = f"{b} images of {c} channels in groups of {c // groups}"
        yield f"the result for {case}", answer(h, emb, groups, shape=h.shape)
    h = 0.07 * draw.normal(1, 4, 2, 3).float()  # so faint that the norm's eps counts a little
    zeros = torch.zeros(1, 8)
    yield "the result for an embedding of zeros", answer(h, zeros, 2, shape=h.shape), 2e-3


@exercise("build", points=4, minutes=15)
def attend(answer, draw):
    """attend(q, k, v: (B, N, C), heads: int) -> (B, N, C)"""
    heads = draw.whole(1, 4)
    drawn = (draw.whole(1, 3), draw.whole(2, 5), heads * draw.whole(2, 3), heads)
    for b, n, c, heads in ((3, 3, 4, 1), (1, 5, 6, 3), (1, 1, 2, 2), drawn):
        q, k, v = 1.5 * draw.normal(3, b, n, c).float()
        result = answer(q, k, v, heads, shape=q.shape)
        case = f"{n} positions, {c} channels, heads = {heads}"
        if heads == 3:
            order = draw.uniform(n).argsort()
            shuffled = answer(q[:, order], k[:, order], v[:, order], heads, shape=q.shape)
            gap = round(float((shuffled - result[:, order]).abs().max()), 4)
            yield "the gap between shuffling the positions before and after", gap
        yield f"the result for {case}", result
    q, k, v = draw.normal(3, 2, 3, 4).float()
    yield "the result for large queries", answer(200 * q, k, v, 2, shape=q.shape), 1e-3


@exercise("build", points=3, minutes=10)
def from_velocity(answer, draw):
    """from_velocity(v, xt: (B, C, H, W), alpha_bar: (B,)) -> (x0, eps), each (B, C, H, W)"""
    sizes = ((2, 2, 2, 2), (1, 2, 3, 4), (draw.whole(1, 4), 2, draw.whole(1, 4), draw.whole(1, 4)))
    cases = [(f"{size[0]} images, {size[3]} pixels wide", size, None) for size in sizes]
    ends = torch.tensor([0.0, 1e-10, 1.0])
    cases.append(("3 images where ᾱ is 0, almost 0, and 1", (3, 1, 2, 3), ends))
    for name, size, alpha_bar in cases:
        v, xt = draw.normal(2, *size).float()
        kept = draw.uniform(len(v)).float() if alpha_bar is None else alpha_bar
        x0, eps = answer.several(2, v, xt, kept)
        yield f"x0 of {name}", answer.tensor(x0, shape=size)
        yield f"ε of {name}", answer.tensor(eps, shape=size)


class Network(nn.Module):
    """A conditional network of a few numbers; the functions make it what a case needs."""

    def __init__(self, null_class, draw, *, weight=1.0, classes=1.0, **functions):
        super().__init__()
        self.null_class, self.num_steps, self.weight = null_class, 1000, weight
        rows = torch.linspace(-1, 1, null_class + 1)[draw.uniform(null_class + 1).argsort()]
        rows[:-1] *= classes
        self.rows, self.functions = nn.Parameter(rows, requires_grad=False), functions

    def through(self, name, value, *more):
        """A value, through the function of that name if there is one."""
        return self.functions[name](value, *more) if name in self.functions else value

    def forward(self, xt, t, y):
        level = self.through("of_t", t / 1000)
        row = self.rows[self.through("of_y", y, self.null_class)]
        eps = 0.5 * self.through("of_x", xt) + self.weight * (level + row)[:, None, None, None]
        return self.through("end", eps)


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
        "plain network": {},
        "network whose last digits vary with B": {"end": rounded},
        "network that reacts weakly": {"weight": 0.02},
        "network that ignores t": {"of_t": torch.zeros_like},
        "network that ignores t but for the last digits": {"of_t": lambda t: 5e-6 * t},
        "network that answers all classes alike": {"of_y": lambda y, null: y // null * null},
        "network that answers two classes alike": {"of_y": lambda y, null: y - 2 * (y == 3).int()},
        "network whose classes differ in the last digits alone": {"classes": 3e-6},
        "network that answers ∅ as class 0": {"of_y": lambda y, null: y % null},
        "network that answers ∅ as the last class": {"of_y": lambda y, null: y.clamp(max=null - 1)},
        "network with one channel in its output": {"end": lambda e: e[:, :1]},
        "network that halves the image's sides": {"end": lambda e: e[:, :, ::2, ::2]},
        "network that puts the channels last": {"end": lambda e: e.movedim(1, -1)},
        "network whose output is float16": {"end": torch.Tensor.half},
        "network that subtracts the batch's mean": {"of_x": centered},
        "network that leaves a trace of each image in the next": {
            "of_x": lambda x: x + 9e-5 * x.clamp(-1, 1).roll(1, 0)
        },
        "network that gives all images the first one's t": {"of_t": lambda t: t[:1].expand_as(t)},
        "network that gives all images the last one's t": {"of_t": lambda t: t[-1:].expand_as(t)},
    }
    for number, (name, flaw) in enumerate(cases.items()):
        network = Network(10 if number < 2 else draw.whole(4, 9), draw, **flaw)
        yield f"Is a {name} sound?", answer(network, shape=()), 0


@exercise("taught", points=2, minutes=10)
def SinusoidalPositionEmbeddings(answer, draw):
    """SinusoidalPositionEmbeddings(dim: int)(t: int64 (B,)) -> (B, dim)"""
    for b, dim in ((4, 4), (1, 8)):
        layer = answer.ask(answer.value, dim)
        waves = answer.tensor(answer.ask(layer, draw.labels(b, 1000)), shape=(b, dim))
        yield f"the table of waves for {b} timesteps, dim = {dim},", waves, 1e-3
