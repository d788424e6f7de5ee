"""Hidden checks of notebook 06."""

import torch

from cdiff_helpers.checks.verdict import Wrong, call, call_tensor, diagnose, number
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.sampling import Frame, denoise, respaced_times, seeded_noise

from .draws import normal, share, whole


def mixed_variance(answer, generator) -> None:
    process = DiffusionProcess(whole(generator, 10, 300))
    t, v = whole(generator, 1, process.num_steps - 1), share(generator)
    clean = torch.zeros(1, 1, 1, 1)
    _, low = process.posterior(clean, clean, torch.tensor([t]))
    wanted = float(low) ** (1 - v) * float(process.betas[t]) ** v
    value = number(call(answer, process, t, v))
    if abs(value / wanted - 1) > 1e-2:
        raise Wrong(f"at t = {t} of {process.num_steps} and v = {v:.2f} it is {wanted:.4g}.")
    if number(call(answer, process, 0, v)) != 0:
        raise Wrong("at t = 0 the variance is 0.")


def rescaled(answer, generator) -> None:
    shape = (whole(generator, 1, 5), 3, whole(generator, 2, 6), whole(generator, 2, 6))
    eps_y, eps_null = normal(generator, *shape), 2 * normal(generator, *shape)
    w, phi = 1 + 5 * share(generator), share(generator)
    wanted = []
    for with_class, without in zip(eps_y, eps_null):
        guided = w * with_class + (1 - w) * without
        wanted.append(guided * (1 - phi + phi * with_class.std() / guided.std()))
    value = call_tensor(answer, eps_y, eps_null, w, phi, shape=shape)
    diagnose(value, torch.stack(wanted), {}, 1e-3)


def away_from(answer, generator) -> None:
    b, w = whole(generator, 1, 5), 4 * share(generator)
    xt = normal(generator, b, 3, 4, 4)
    t = torch.randint(0, 50, (b,), generator=generator)
    y, other = torch.randint(0, 9, (2, b), generator=generator)
    table = normal(generator, 10)

    def model(xt, t, y):
        return xt * table[y].view(-1, 1, 1, 1) + t.view(-1, 1, 1, 1)

    wanted = w * model(xt, t, y) + (1 - w) * model(xt, t, other)
    diagnose(call_tensor(answer, model, xt, t, y, other, w, shape=tuple(xt.shape)), wanted, {})


def times(answer, generator) -> None:
    num_steps = whole(generator, 20, 2000)
    count = whole(generator, 2, min(num_steps, 100))
    value = [int(t) for t in call(answer, num_steps, count)]
    near = all(abs(a - b) <= 1 for a, b in zip(value, respaced_times(num_steps, count)))
    ends = len(value) == count and (value[0], value[-1]) == (num_steps - 1, 0)
    if not ends or not near or value != sorted(set(value), reverse=True):
        raise Wrong(f"for T = {num_steps} and {count} times they are not even, or not distinct.")


def ancestral(answer, generator) -> None:
    process, n = DiffusionProcess(whole(generator, 5, 15)), whole(generator, 1, 3)
    y = torch.randint(0, 9, (n,), generator=generator)
    knob = 0.5 + share(generator)

    def model(xt, t, y):
        return knob * xt + 0.05 * y.view(-1, 1, 1, 1)

    *_, last = denoise(model, process, y, solver="ddpm", seed=7)
    draw = seeded_noise(7, n, process.alpha_bar.device)
    value = call_tensor(answer, model, process, draw(), y, draw, shape=tuple(last.xt.shape))
    diagnose(value, last.xt, {}, 1e-3)


def two_step(answer, generator) -> None:
    process = DiffusionProcess(60)
    t_prev, t = whole(generator, 0, 10), whole(generator, 15, 30)
    x, x0, x_before, x0_before = normal(generator, 4, 2, 3, 4, 4).float()
    frame = Frame(t, x, x0, Frame(whole(generator, 35, 55), x_before, x0_before))

    def noise_of(frame):
        kept = process.alpha_bar[frame.t]
        return (frame.xt - kept.sqrt() * frame.x0) / (1 - kept).sqrt()

    eps = noise_of(frame) + 0.5 * (noise_of(frame) - noise_of(frame.before))
    now, then = process.alpha_bar[t], process.alpha_bar[t_prev]
    guess = (x - (1 - now).sqrt() * eps) / now.sqrt()
    wanted = then.sqrt() * guess + (1 - then).sqrt() * eps
    value = call_tensor(answer, process, frame, t_prev, None, shape=tuple(x.shape))
    diagnose(value, wanted, {}, 1e-3)


HIDDEN = {
    "mixed_variance": mixed_variance,
    "rescaled": rescaled,
    "away_from": away_from,
    "times": times,
    "ancestral": ancestral,
    "two_step": two_step,
}
