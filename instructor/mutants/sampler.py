"""Answers to notebook 06's exercises."""

import math

import torch

from cdiff_helpers import sampling
from instructor.mutants import right, right_value, wrong, wrong_value


def bounds(process, t):
    """β̃ and β at time t."""
    before = process.alpha_bar[t - 1] if t else torch.tensor(1.0)
    beta = process.betas[t]
    return (1 - before) / (1 - process.alpha_bar[t]) * beta, beta


@wrong("mixed_variance", "mixed_plainly")
def _(process, t, v):
    low, high = bounds(process, t)
    return v * high + (1 - v) * low


@wrong("mixed_variance", "ends_swapped")
def _(process, t, v):
    low, high = bounds(process, t)
    return low**v * high ** (1 - v)


@wrong("mixed_variance", "spread")
def _(process, t, v):
    low, high = bounds(process, t)
    return (high**v * low ** (1 - v)).sqrt()


@wrong("mixed_variance", "alpha_bar_not_shifted")
def _(process, t, v):
    now, beta = process.alpha_bar[t], process.betas[t]
    low = (1 - now) / (1 - now) * beta
    return torch.exp(v * beta.log() + (1 - v) * low.log())


@wrong("mixed_variance", "logarithm_told")
def _(process, t, v):
    low, high = bounds(process, t)
    return v * high.log() + (1 - v) * low.log()


@right("mixed_variance")
def _(process, t, v):
    low, high = bounds(process, t)
    return 0.0 if t == 0 else float(low) * float(high / low) ** v


@right("mixed_variance")
def _(process, t, v):
    if not t:
        return torch.tensor(0)
    low, high = (math.log(float(each)) for each in bounds(process, t))
    return math.exp(low + v * (high - low))


def spread(eps):
    return eps.std(dim=(1, 2, 3), keepdim=True)


@wrong("rescaled", "one_for_the_batch")
def _(eps_y, eps_null, w, phi):
    guided = eps_null + w * (eps_y - eps_null)
    return phi * guided * eps_y.std() / guided.std() + (1 - phi) * guided


@wrong("rescaled", "phi_turned")
def _(eps_y, eps_null, w, phi):
    guided = eps_null + w * (eps_y - eps_null)
    return (1 - phi) * guided * spread(eps_y) / spread(guided) + phi * guided


@wrong("rescaled", "wrong_measure")
def _(eps_y, eps_null, w, phi):
    guided = eps_null + w * (eps_y - eps_null)
    return phi * guided * spread(eps_null) / spread(guided) + (1 - phi) * guided


@wrong("rescaled", "variance")
def _(eps_y, eps_null, w, phi):
    guided = eps_null + w * (eps_y - eps_null)
    return phi * guided * spread(eps_y) ** 2 / spread(guided) ** 2 + (1 - phi) * guided


@wrong("rescaled", "all_the_way")
def _(eps_y, eps_null, w, phi):
    guided = eps_null + w * (eps_y - eps_null)
    return guided * spread(eps_y) / spread(guided)


@wrong("rescaled", "turned_over")
def _(eps_y, eps_null, w, phi):
    guided = eps_null + w * (eps_y - eps_null)
    return phi * guided * spread(guided) / spread(eps_y) + (1 - phi) * guided


@right("rescaled")
def _(eps_y, eps_null, w, phi):
    guided = torch.lerp(eps_null, eps_y, w)
    factor = eps_y.flatten(1).std(1) / guided.flatten(1).std(1)
    return torch.einsum("bchw,b->bchw", guided, 1 - phi + phi * factor)


@right("rescaled")
def _(eps_y, eps_null, w, phi):
    pictures = []
    for with_class, without in zip(eps_y, eps_null):
        guided = w * with_class + (1 - w) * without
        loud = guided * with_class.std(correction=0) / guided.std(correction=0)
        pictures.append(guided + phi * (loud - guided))
    return torch.stack(pictures)


@wrong("away_from", "from_the_middle")
def _(model, xt, t, y, other, w):
    eps_y, eps_other = model(xt, t, y), model(xt, t, other)
    return eps_y + w * (eps_y - eps_other)


@wrong("away_from", "swapped")
def _(model, xt, t, y, other, w):
    eps_y, eps_other = model(xt, t, y), model(xt, t, other)
    return eps_y + w * (eps_other - eps_y)


@wrong("away_from", "null_as_well")
def _(model, xt, t, y, other, w):
    nobody = torch.full_like(y, model.null_class)
    return model(xt, t, nobody) + w * (model(xt, t, y) - model(xt, t, other))


@wrong("away_from", "nothing_pushed")
def _(model, xt, t, y, other, w):
    return model(xt, t, y)


@right("away_from")
def _(model, xt, t, y, other, w):
    both = model(torch.cat([xt, xt]), torch.cat([t, t]), torch.cat([y, other]))
    eps_y, eps_other = both.chunk(2)
    return torch.lerp(eps_other, eps_y, w)


@right("away_from")
def _(model, xt, t, y, other, w):
    return w * model(xt, t, y) + (1 - w) * model(xt, t, other)


@wrong("times", "starts_low")
def _(num_steps, count):
    return list(range(0, num_steps, num_steps // count))[:count][::-1]


@wrong("times", "ends_early")
def _(num_steps, count):
    return [num_steps - 1 - i * (num_steps // count) for i in range(count)]


@wrong("times", "rising")
def _(num_steps, count):
    return torch.linspace(0, num_steps - 1, count).round().int()


@wrong("times", "twice")
def _(num_steps, count):
    return [num_steps - 1, *torch.linspace(num_steps - 1, 0, count - 1).round().int()]


@wrong("times", "one_too_many")
def _(num_steps, count):
    return torch.linspace(num_steps - 1, 0, count + 1).round().int().unique().flip(0)


@right("times")
def _(num_steps, count):
    return [(num_steps - 1) * i // (count - 1) for i in reversed(range(count))]


right_value("times", sampling.respaced_times)


def walked(*, stop=-1, clamp=True, noise="fresh", root=True, at_the_end=False):
    """DDPM's algorithm 2, with a mistake."""

    def ancestral(model, process, xt, y, draw):
        for i in range(process.num_steps - 1, stop, -1):
            t = torch.full((len(xt),), i)
            eps = model(xt, t, y)
            x0 = process.predict_x0(xt, t, eps)
            mean, variance = process.posterior(x0.clamp(-1, 1) if clamp else x0, xt, t)
            if i == 0 and at_the_end:
                variance = process.betas[0]
            z = {"fresh": draw, "again": lambda eps=eps: eps, "none": lambda: 0}[noise]()
            xt = mean + (variance.sqrt() if root else variance) * z
        return xt

    return ancestral


wrong_value("ancestral", "noise_at_the_end", walked(at_the_end=True))
wrong_value("ancestral", "stops_early", walked(stop=0))
wrong_value("ancestral", "not_clamped", walked(clamp=False))
wrong_value("ancestral", "noise_again", walked(noise="again"))
wrong_value("ancestral", "no_fresh_noise", walked(noise="none"))
wrong_value("ancestral", "variance", walked(root=False))
right_value("ancestral", walked())


@right("ancestral")
def _(model, process, xt, y, draw):
    time = process.num_steps - 1
    while time >= 0:
        t = torch.full_like(y, time)
        x0 = process.predict_x0(xt, t, model(xt, t, y)).clip(-1, 1)
        frame = sampling.Frame(time, xt, x0)
        xt = sampling.ddpm_step(process, frame, time - 1, draw)
        time -= 1
    return xt


def ab2(now, before, *, needs=False):
    """DDIM's step along now · ε + before · ε_before; `needs` forgets that there may be none."""

    def step(process, frame, t_prev, draw):
        def noise(frame):
            t = torch.full((len(frame.xt),), frame.t)
            return process.predict_noise(frame.xt, t, frame.x0)

        eps = noise(frame)
        if needs or frame.before is not None:
            eps = now * eps + before * noise(frame.before)
        t = torch.full((len(eps),), frame.t)
        guess, kept = process.predict_x0(frame.xt, t, eps), process.alpha_bar[t_prev]
        return kept.sqrt() * guess + (1 - kept).sqrt() * eps

    return step


wrong_value("two_step", "minus", ab2(0.5, 0.5))
wrong_value("two_step", "swapped", ab2(-0.5, 1.5))
wrong_value("two_step", "not_halved", ab2(3, -1))
wrong_value("two_step", "memory_ignored", ab2(1, 0))
wrong_value("two_step", "first_step", ab2(1.5, -0.5, needs=True))
right_value("two_step", ab2(1.5, -0.5))


@right("two_step")
def _(process, frame, t_prev, draw):
    def look(frame):
        kept = process.alpha_bar[frame.t]
        return (frame.xt - kept.sqrt() * frame.x0) / (1 - kept).sqrt()

    eps = look(frame)
    if frame.before:
        eps = eps + (eps - look(frame.before)) / 2
    now, then = process.alpha_bar[frame.t], process.alpha_bar[t_prev]
    ratio = (then / now).sqrt()
    return ratio * frame.xt + ((1 - then).sqrt() - ratio * (1 - now).sqrt()) * eps


wrong_value("pictures_through_the_network", "asked_once", 200)
wrong_value("pictures_through_the_network", "calls_counted", 20)
wrong_value("pictures_through_the_network", "all_guided", 400)
wrong_value("pictures_through_the_network", "one_more_step", 290)
right_value("pictures_through_the_network", 280)
right_value("pictures_through_the_network", sum(10 * n for n in [2] * 8 + [1] * 12))


def guided(formula):
    """guided_noise by another formula of eps_y, eps_null and w."""

    def guided_noise(model, xt, t, y, null_class, w):
        eps_y, eps_null = model(xt, t, y), model(xt, t, torch.full_like(y, null_class))
        return formula(eps_y, eps_null, w)

    return guided_noise


wrong_value("guided_noise", "off_by_one", guided(lambda y, null, w: y + w * (y - null)))
wrong_value("guided_noise", "swapped", guided(lambda y, null, w: y + w * (null - y)))
wrong_value("guided_noise", "from_the_class", guided(lambda y, null, w: y + (w - 1) * (null - y)))
wrong_value("guided_noise", "no_null", guided(lambda y, null, w: y + w * (y - y)))
right_value("guided_noise", sampling.guided_noise)
right_value("guided_noise", guided(lambda y, null, w: w * y + (1 - w) * null))


def implicit(present=False, added=False, rooted=True, clean=True):
    """DDIM's step, with a mistake."""

    def step(process, frame, t_prev, draw, *, eta=0.0):
        t = torch.full((len(frame.xt),), frame.t)
        eps = process.predict_noise(frame.xt, t, frame.x0)
        kept = process.alpha_bar[frame.t if present else max(t_prev, 0)]
        if t_prev < 0 and clean:
            kept = torch.ones(())
        eps = draw() if added else eps
        return (kept.sqrt() if rooted else kept) * frame.x0 + (1 - kept).sqrt() * eps

    return step


wrong_value("ddim_step", "present_alpha_bar", implicit(present=True))
wrong_value("ddim_step", "noise_added", implicit(added=True))
wrong_value("ddim_step", "x0_not_scaled", implicit(rooted=False))
wrong_value("ddim_step", "last_not_clean", implicit(clean=False))
right_value("ddim_step", sampling.ddim_step)
right_value("ddim_step", implicit())


def ancestral_step(size=torch.sqrt, beta=False, last=True):
    """DDPM's step, with a mistake."""

    def step(process, frame, t_prev, draw, *, variance="posterior"):
        t = torch.full((len(frame.xt),), frame.t)
        mean, sigma2 = process.posterior(frame.x0, frame.xt, t)
        if beta or (t_prev < 0 and not last):
            sigma2 = process.betas[frame.t]
        return mean if t_prev < 0 and last else mean + size(sigma2) * draw()

    return step


wrong_value("ddpm_step", "noise_at_the_end", ancestral_step(last=False))
wrong_value("ddpm_step", "variance", ancestral_step(size=lambda sigma2: sigma2))
wrong_value("ddpm_step", "no_noise", ancestral_step(size=lambda sigma2: 0))
wrong_value("ddpm_step", "beta", ancestral_step(beta=True))
right_value("ddpm_step", sampling.ddpm_step)
right_value("ddpm_step", ancestral_step())
