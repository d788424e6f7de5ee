"""Trials of notebook 06: conditional sampling."""

from collections.abc import Callable, Iterator
from itertools import cycle

import torch

from cdiff_exercises.answer import Draw, Wrong
from cdiff_exercises.room import exercise
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.sampling import Frame
from cdiff_helpers.validation import checked

ONE = ("1 image, 2 pixels wide", (1, 3, 2, 2))


def sizes(draw: Draw) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Shapes of batches with words for them: as many images as pixels in a row, then others."""
    for b, h, w in ((4, 2, 4), (3, 4, 2), (draw.whole(1, 3), 2, draw.whole(5, 6))):
        yield f"{b} image{'s' * (b > 1)}, {w} pixels wide", (b, 3, h, w)


def network(draw: Draw) -> Callable:
    """A stand-in for the network: it looks at x_t, at the timesteps and at the classes."""
    scale, shift = 0.7 + 0.3 * draw.uniform(11), 0.2 * draw.normal(11)

    @checked
    def model(xt, t, y):
        factor, term = (each.view(-1, 1, 1, 1) for each in (scale[y], shift[y] + t / 100))
        return (factor * xt + term).to(xt.dtype)

    model.null_class = 10
    return model


def random_frame(draw: Draw, t: int, shape: tuple[int, ...], before: Frame | None = None) -> Frame:
    """A moment of sampling that no network has seen: float32."""
    return Frame(t, draw.normal(*shape).float(), draw.normal(*shape).float().clamp(-1, 1), before)


@exercise("build", points=3, minutes=12)
def mixed_variance(answer, draw):
    """mixed_variance(process: DiffusionProcess, t: int, v: float) -> number"""
    cases = [
        (20, 3, 0.5),
        (100, 3, 0.5),
        (100, 60, 0.25),
        (1000, 1, 0.0),
        (20, 5, 1.0),
        (20, 19, 0.8),
    ]
    cases.append((draw.whole(20, 100), draw.whole(2, 15), draw.number(0.1, 0.9)))
    values = [answer(DiffusionProcess(T), t, v, shape=()) for T, t, v in cases]
    for (T, t, v), value in zip(cases, values):
        name = f"the logarithm of the variance for T = {T}, t = {t}, v = {v:.2f}"
        yield name, value.abs().clamp(min=1e-30).log(), 1e-3
    yield "the number of negative variances", sum(value < 0 for value in values), 0
    for v in (0.0, 0.7, 1.0):
        yield f"the variance at t = 0 for v = {v}", answer(DiffusionProcess(20), 0, v, shape=()), 0


@exercise("bug", points=2, minutes=8)
def times(answer, draw):
    """times(num_steps: int, count: int) -> whole numbers (count,)"""
    cases = [(1000, 50), (1000, 7), (12, 9), (10, 10), (20, 2)]
    cases.append((draw.whole(1100, 2000), draw.whole(2, 100)))
    for T, count in cases:
        values = answer(T, count, dtype="whole")
        if values.ndim != 1 or not len(values):
            sentence = f"you return the shape {tuple(values.shape)}; expected ({count},)."
            raise Wrong(sentence, "no list")
        asked, steps = f"for num_steps = {T} and count = {count}", values.diff()
        line = torch.linspace(values[0], values[-1], len(values), dtype=torch.float64)
        off = (values - line).abs() > 1 - 1e-6  # rounding down, or up, moves by less than 1
        yield f"the number of timesteps {asked}", len(values), 0
        yield f"the first timestep {asked}", values[0], 0
        yield f"the last timestep {asked}", values[-1], 0
        yield f"the number of repeated timesteps {asked}", len(values) - len(values.unique()), 0
        yield f"the number of rises {asked}", (steps > 0).sum(), 0
        yield f"the number of timesteps off the even line between the ends {asked}", off.sum(), 0


@exercise("bug", points=4, minutes=15)
def ancestral(answer, draw):
    """ancestral(model, process, xt, y: int64 (B,), draw) -> clean images (B, 3, H, W)"""
    for case, shape in sizes(draw):
        process, model, visited = DiffusionProcess(draw.whole(7, 9)), network(draw), set()

        def watched(xt, t, y, model=model, visited=visited):
            eps = model(xt, t, y)
            visited.update(t.tolist())
            return eps

        start, y = draw.normal(*shape).float(), draw.labels(shape[0])
        fresh = cycle(draw.normal(process.num_steps, *shape).float())
        stream = torch.get_rng_state()
        images = answer(watched, process, start, y, lambda fresh=fresh: next(fresh), shape=shape)
        if not torch.equal(stream, torch.get_rng_state()):
            raise Wrong("your noise is not draw()'s.", "own noise")
        yield f"the number of timesteps visited for {case}", len(visited), 0
        yield f"the batch of {case}", images, 1e-3


@exercise("build", points=4, minutes=18)
def two_step(answer, draw):
    """two_step(process, frame: Frame, t_prev: int, draw) -> x at t_prev (B, 3, H, W)"""
    process = DiffusionProcess(50)
    for (case, shape), t_prev in zip(sizes(draw), (draw.whole(8, 20), draw.whole(8, 20), 0)):
        before = random_frame(draw, draw.whole(36, 42), shape)
        frame, fresh = random_frame(draw, draw.whole(28, 34), shape, before), draw.normal(*shape)
        x = answer(process, frame, t_prev, fresh.float().clone, shape=shape)
        yield f"x of {case} at t_prev = {t_prev}", x, 1e-3
    frame = random_frame(draw, 30, shape)
    x = answer(process, frame, 18, fresh.float().clone, shape=shape)
    yield "x after a first step", x, 1e-3


@exercise("build", points=3, minutes=10)
def away_from(answer, draw):
    """away_from(model, xt, t, y, other: int64 (B,), w: float) -> (B, 3, H, W)"""
    cases = [*sizes(draw), ONE, ONE]
    for (case, shape), w in zip(cases, (1.0, 3.0, draw.number(-2, -0.5), 0.0, 0.5)):
        b, model, xt = shape[0], network(draw), draw.normal(*shape)
        t, y = draw.labels(b, 50), draw.labels(b)
        other = (y + 1 + draw.labels(b, 9)) % 10
        yield f"the noise for {case}, w = {w:.1f}", answer(model, xt, t, y, other, w, shape=shape)


@exercise("predict", points=1, minutes=5)
def pictures_through_the_network(answer, draw):
    """pictures_through_the_network = whole number"""
    yield "the number of images", round(*answer.number(), 3)


@exercise("build", points=4, minutes=15)
def rescaled(answer, draw):
    """rescaled(eps_y, eps_null: (B, 3, H, W), w: float, phi: float) -> (B, 3, H, W)"""
    knobs = [(3.0, 0.7), (5.0, 0.25), (draw.number(1, 6), draw.number(0.1, 0.9))]
    knobs += [(0.5, 1.0), (2.0, 0.0)]
    for (case, shape), (w, phi) in zip([*sizes(draw), ONE, ONE], knobs):
        loud = torch.tensor([1.0, 2.0, 0.5, 3.0])[: shape[0]].view(-1, 1, 1, 1)
        value = answer(loud * draw.normal(*shape), draw.normal(*shape), w, phi, shape=shape)
        yield f"the noise for {case}, w = {w:.1f}, φ = {phi:.2f}", value, 1e-3


@exercise("taught", points=2, minutes=8)
def guided_noise(answer, draw):
    """guided_noise(model, xt, t, y, null_class, guidance_scale) -> (B, 3, H, W)"""
    for (case, shape), w in zip([*sizes(draw), ONE, ONE], (3.0, 0.5, 1.0, 0.0, -1.0)):
        b, model, xt = shape[0], network(draw), draw.normal(*shape)
        t, y = draw.labels(b, 50), draw.labels(b)
        value = answer(model, xt, t, y, 10, w, shape=shape)
        yield f"the noise for {case} at scale {w}", value


@exercise("taught", points=3, minutes=12)
def ddim_step(answer, draw):
    """ddim_step(process, frame, t_prev: int, draw, *, eta=0.0) -> x at t_prev"""
    process, shape = DiffusionProcess(50), (2, 3, 2, 4)
    fresh = draw.normal(*shape).float()
    for t, t_prev, eta in (
        *((30, 18, eta) for eta in (0.0, 1.0, 0.5)),
        *((30, 0, 0.0), (30, -1, 0.0), (30, -1, 1.0), (0, -1, 0.0)),
    ):
        x = answer(process, random_frame(draw, t, shape), t_prev, fresh.clone, eta=eta, shape=shape)
        yield f"x after a step from t = {t} to {t_prev} with η = {eta}", x, 1e-3


@exercise("taught", points=3, minutes=12)
def ddpm_step(answer, draw):
    """ddpm_step(process, frame, t_prev: int, draw, *, variance="posterior") -> x at t_prev"""
    process, shape = DiffusionProcess(50), (2, 3, 2, 4)
    fresh = draw.normal(*shape).float()
    for t, t_prev in ((30, 29), (30, 18), (30, 0), (30, -1), (0, -1)):
        for words, keywords in (("", {}), (' with variance="beta"', {"variance": "beta"})):
            frame = random_frame(draw, t, shape)
            x = answer(process, frame, t_prev, fresh.clone, shape=shape, **keywords)
            yield f"x after a step from t = {t} to {t_prev}{words}", x, 1e-3
