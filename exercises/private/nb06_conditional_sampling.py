"""Answers to notebook 06's exercises: conditional sampling."""

import math
from functools import cache

import torch

from cdiff_helpers import sampling
from exercises.private import answers


def mixed_variance(process, t, v):
    """The step's variance at timestep t, between the posterior's (v = 0) and β (v = 1)."""
    if t == 0:
        return 0.0
    beta, before = process.betas[t], process.alpha_bar[t - 1]
    low = (1 - before) / (1 - process.alpha_bar[t]) * beta
    return float((v * beta.log() + (1 - v) * low.log()).exp())


def mixing(formula, late=0):
    """mixed_variance by a formula of β̃, β and v: with an exception at t = 0, and with none."""

    def everywhere(process, t, v):
        a, beta = process.alpha_bar, process.betas[t - late]
        return formula((1 - a[t - 1]) / (1 - a[t]) * beta, beta, v)

    return lambda process, t, v: everywhere(process, t, v) if t else 0, everywhere


in_powers, no_exception = mixing(lambda low, high, v: low * (high / low) ** v)

answers(
    "mixed_variance",
    right=[mixed_variance, in_powers],
    mixed_plainly=[*mixing(lambda low, high, v: v * high + (1 - v) * low)],
    ends_swapped=[*mixing(lambda low, high, v: low**v * high ** (1 - v))],
    standard_deviation=[*mixing(lambda low, high, v: (high**v * low ** (1 - v)).sqrt())],
    alpha_bar_not_shifted=[*mixing(lambda low, high, v: high)],
    upside_down=[*mixing(lambda low, high, v: high**v * (high**2 / low) ** (1 - v))],
    beta_before=[*mixing(lambda low, high, v: high**v * low ** (1 - v), late=1)],
    logarithm_told=[*mixing(lambda low, high, v: v * high.log() + (1 - v) * low.log())],
    last_entry=[no_exception],
    no_exception=[
        lambda process, t, v: in_powers(process, t, v) if t else process.betas[0] * (v == 1),
        lambda process, t, v: in_powers(process, t, v) if t else math.nan if v == 1 else 0,
    ],
)


def times(num_steps, count):
    """`count` distinct timesteps from num_steps - 1 down to 0."""
    even = torch.linspace(num_steps - 1, 0, count, dtype=torch.float64)
    return even.round().int().tolist()


def even(first, last, count):
    return torch.linspace(first, last, count).round().int()


answers(
    "times",
    right=[
        times,
        lambda T, count: [(T - 1) * i // (count - 1) for i in reversed(range(count))],
        lambda T, count: even(T - 1, 0, count),
        lambda T, count: [-((1 - T) * i // (count - 1)) for i in reversed(range(count))],
    ],
    starts_low=[lambda T, count: list(range(0, T, T // count))[:count][::-1]],
    starts_high=[lambda T, count: even(T, 0, count)],
    ends_early=[
        lambda T, count: [T - 1 - i * (T // count) for i in range(count)],
        lambda T, count: even(T - 1, 1, count),
    ],
    rising=[lambda T, count: even(0, T - 1, count)],
    uneven=[
        lambda T, count: [*range(T - 1, 0, -(T // count))[: count - 1], 0],
        lambda T, count: [T - 1, *(even(T - 1, 0, count)[1:-1] + 1), 0],
    ],
    twice=[lambda T, count: [T - 1, *even(T - 1, 0, count - 1)]],
    one_too_many=[
        lambda T, count: even(T - 1, 0, count + 1).unique().flip(0),
        lambda T, count: even(T - 1, 0, count + 1),
    ],
    not_whole=[
        lambda T, count: torch.linspace(T - 1, 0, count),
        lambda T, count: torch.linspace(T - 1, 0, count, dtype=torch.float64).round(),
    ],
)


def ancestral(model, process, xt, y, draw):
    """Ancestral sampling from noise xt to clean images. DDPM, algorithm 2."""
    for i in reversed(range(process.num_steps)):
        t = torch.full_like(y, i)
        x0 = process.predict_x0(xt, t, model(xt, t, y)).clamp(-1, 1)
        mean, variance = process.posterior(x0, xt, t)
        xt = mean + variance.sqrt() * draw()
    return xt


def walked(*, stop=-1, clamp="guess", again=False, size=torch.sqrt, noisy_end=False):
    """ancestral with a mistake."""

    def ancestral(model, process, xt, y, draw):
        for i in range(process.num_steps - 1, stop, -1):
            t = torch.full_like(y, i)
            eps = model(xt, t, y)
            x0 = process.predict_x0(xt, t, eps)
            mean, variance = process.posterior(x0.clip(-1, 1) if clamp == "guess" else x0, xt, t)
            variance = process.betas[0] if noisy_end and i == 0 else variance
            z = eps if again else draw() if i or noisy_end else 0
            xt = mean + size(variance) * z
            xt = xt.clamp(-1, 1) if clamp == "steps" else xt
        return xt.clamp(-1, 1) if clamp == "end" else xt

    return ancestral


def drawing(noise):
    """ancestral with what `noise` makes of draw and of the images."""
    return lambda model, process, xt, y, draw: ancestral(model, process, xt, y, noise(draw, xt))


def plain(variance):
    return variance


answers(
    "ancestral",
    right=[ancestral, walked()],
    two_left=[
        walked(stop=0, clamp="none"),
        walked(stop=0, size=plain),
        walked(clamp="none", size=plain),
    ],
    noise_at_the_end=[walked(noisy_end=True)],
    stops_early=[walked(stop=0)],
    not_clamped=[walked(clamp="none")],
    clamped_at_the_end=[walked(clamp="end")],
    steps_clamped=[walked(clamp="steps")],
    noise_again=[walked(again=True)],
    own_noise=[drawing(lambda draw, xt: lambda: torch.randn_like(xt))],
    one_draw=[drawing(lambda draw, xt: cache(draw))],
    one_image=[drawing(lambda draw, xt: lambda: draw()[0])],
    no_fresh_noise=[drawing(lambda draw, xt: lambda: 0)],
    variance=[walked(size=plain)],
)


def two_step(process, frame, t_prev, draw):
    """DDIM's step along the line through this frame's ε and the one before it."""
    t = torch.full((len(frame.xt),), frame.t, device=frame.xt.device)
    eps, last = process.predict_noise(frame.xt, t, frame.x0), frame.before
    if last is not None:
        eps_before = process.predict_noise(last.xt, torch.full_like(t, last.t), last.x0)
        eps = 1.5 * eps - 0.5 * eps_before
    x0, kept = process.predict_x0(frame.xt, t, eps), process.alpha_bar[t_prev]
    return kept.sqrt() * x0 + (1 - kept).sqrt() * eps


def implied(process, frame, t=None):
    """The ε that a frame's xt and x0 imply, at its own timestep or at another."""
    kept = process.alpha_bar[frame.t if t is None else t]
    return (frame.xt - kept.sqrt() * frame.x0) / (1 - kept).sqrt()


def along(
    now=1.5,
    before=-0.5,
    *,
    guess="own",
    needs=False,
    one_time=False,
    size=torch.sqrt,
    one=False,
    fresh=False,
):
    """two_step with a mistake; `needs` forgets that there may be no frame before."""

    def two_step(process, frame, t_prev, draw):
        eps, last = implied(process, frame), frame.before
        if needs or last is not None:
            eps = now * eps + before * implied(process, last, frame.t if one_time else None)
        x0 = process.predict_x0(frame.xt, torch.full((len(eps),), frame.t), eps)
        x0 = {"own": x0, "clamped": x0.clamp(-1, 1), "old": frame.x0}[guess]
        kept = process.alpha_bar[frame.t - 1 if one else t_prev]
        return size(kept) * x0 + size(1 - kept) * (draw() if fresh else eps)

    return two_step


answers(
    "two_step",
    right=[two_step, along()],
    minus=[along(0.5, 0.5)],
    swapped=[along(-0.5, 1.5)],
    not_halved=[along(3, -1), along(1.5, 0.5)],
    memory_ignored=[along(1, 0)],
    old_guess=[along(guess="old")],
    clamped=[along(guess="clamped")],
    no_root=[along(size=plain)],
    always_one_step=[along(one=True)],
    noise_added=[along(fresh=True)],
    one_timestep=[along(one_time=True)],
    first_step=[along(needs=True)],
)


def away_from(model, xt, t, y, other, w):
    """The noise for y, pushed away from the classes in `other` (B,)."""
    eps_y, eps_other = model(xt, t, y), model(xt, t, other)
    return eps_other + w * (eps_y - eps_other)


def asked(formula):
    """away_from by a formula of the network's noise for y, for the others, for none, and of w."""

    def away_from(model, xt, t, y, other, w):
        return formula(*(model(xt, t, 0 * y + c) for c in (y, other, model.null_class)), w)

    return away_from


answers(
    "away_from",
    right=[away_from, asked(lambda y, other, null, w: w * y + (1 - w) * other)],
    from_the_middle=[asked(lambda y, other, null, w: y + w * (y - other))],
    swapped=[
        asked(lambda y, other, null, w: y + w * (other - y)),
        asked(lambda y, other, null, w: other + w * (other - y)),
    ],
    null_as_well=[
        asked(lambda y, other, null, w: null + w * (y - other)),
        asked(lambda y, other, null, w: y + w * (null - other)),
    ],
    other_ignored=[asked(lambda y, other, null, w: null + w * (y - null))],
    nothing_pushed=[asked(lambda y, other, null, w: y)],
)

answers(
    "pictures_through_the_network",
    right=[8 * 2 * 10 + 12 * 10],
    asked_once=[200],
    calls_counted=[20],
    one_image=[28],
    all_guided=[400],
    guided_alone=[160],
    swapped=[320],
    one_more_step=[290, 300],
)


def rescaled(eps_y, eps_null, w, phi):
    """Guided noise (B, 3, H, W), brought back by phi to the standard deviation of eps_y."""
    guided = eps_null + w * (eps_y - eps_null)
    std, wanted = (eps.std(dim=(1, 2, 3), keepdim=True) for eps in (guided, eps_y))
    return phi * guided * wanted / std + (1 - phi) * guided


def image_by_image(eps_y, eps_null, w, phi):
    noises = []
    for y, null in zip(eps_y, eps_null):
        guided = w * y + (1 - w) * null
        back = guided * y.std(correction=0) / guided.std(correction=0)
        noises.append(guided + phi * (back - guided))
    return torch.stack(noises)


def std(eps, dim=(1, 2, 3)):
    return eps.std(dim=dim, keepdim=True)


def root_mean_square(eps):
    return eps.square().mean((1, 2, 3), keepdim=True).sqrt()


def rescaling(ratio=lambda y, null, e: std(y) / std(e), off=0, mix=None):
    """rescaled with another ratio, a scale that is off, or another mixture of its parts."""

    def rescaled(y, null, w, phi):
        e = null + (w + off) * (y - null)
        factor = ratio(y, null, e)
        return mix(y, e, factor, phi) if mix else phi * factor * e + (1 - phi) * e

    return rescaled


def guided(formula):
    """guided_noise by a formula of the noise with a class and without, and of w."""
    return asked(lambda y, null, _, w: formula(y, null, w))


answers(
    "rescaled",
    right=[rescaled, image_by_image],
    one_for_the_batch=[rescaling(lambda y, null, e: y.std() / e.std())],
    per_channel=[rescaling(lambda y, null, e: std(y, (2, 3)) / std(e, (2, 3)))],
    columns=[rescaling(lambda y, null, e: y.std((1, 2, 3)) / e.std((1, 2, 3)))],
    phi_turned=[lambda y, null, w, phi: rescaled(y, null, w, 1 - phi)],
    wrong_measure=[rescaling(lambda y, null, e: std(null) / std(e))],
    mean_kept=[rescaling(lambda y, null, e: root_mean_square(y) / root_mean_square(e))],
    variance=[rescaling(lambda y, null, e: (std(y) / std(e)) ** 2)],
    all_the_way=[lambda y, null, w, phi: rescaled(y, null, w, 1)],
    turned_over=[rescaling(lambda y, null, e: std(e) / std(y))],
    mixed_with_plain=[
        rescaling(mix=lambda y, e, factor, phi: phi * factor * e + (1 - phi) * y),
        rescaling(mix=lambda y, e, factor, phi: phi * factor * y + (1 - phi) * e),
        rescaling(mix=lambda y, e, factor, phi: phi * factor * y + (1 - phi) * y),
        rescaling(mix=lambda y, e, factor, phi: phi * y + (1 - phi) * e),
    ],
    not_guided=[lambda y, null, w, phi: y],
    off_by_one=[rescaling(off=1)],
)


def implicit(*, present=False, added=False, rooted=True, clean=None, fresh="balanced"):
    """DDIM's step, or one with a mistake; `clean` is the entry of ᾱ taken at t_prev = -1."""

    def step(process, frame, t_prev, draw, *, eta=0.0):
        now, kept = process.alpha_bar[frame.t], process.alpha_bar[t_prev]
        if t_prev < 0:
            kept = torch.tensor(1.0) if clean is None else process.alpha_bar[clean]
        sigma2 = eta**2 * (1 - kept) / (1 - now) * (1 - now / kept) * (fresh != "never")
        sigma2 = sigma2.clamp(min=0)
        eps, kept = draw() if added else implied(process, frame), now if present else kept
        rest = (1 - kept - sigma2 * (fresh == "balanced")).clamp(min=0).sqrt()
        return (kept.sqrt() if rooted else kept) * frame.x0 + rest * eps + sigma2.sqrt() * draw()

    return step


answers(
    "guided_noise",
    right=[sampling.guided_noise, guided(lambda y, null, w: w * y + (1 - w) * null)],
    off_by_one=[guided(lambda y, null, w: y + w * (y - null))],
    swapped=[
        guided(lambda y, null, w: y + w * (null - y)),
        guided(lambda y, null, w: null + w * (null - y)),
    ],
    from_the_class=[guided(lambda y, null, w: y + (w - 1) * (null - y))],
    no_null=[guided(lambda y, null, w: y)],
)


def ancestral_step(*, size=torch.sqrt, always="", noisy_end=(), one=False):
    """DDPM's step, or one with a mistake; `always` is a variance that the keyword cannot change."""

    def step(process, frame, t_prev, draw, *, variance="posterior"):
        t, t_prev = torch.full((len(frame.xt),), frame.t), frame.t - 1 if one else t_prev
        mean, sigma2 = process.posterior(frame.x0, frame.xt, t, torch.full_like(t, t_prev))
        if t_prev < 0:
            return mean + process.betas[0].sqrt() * draw() * (variance in noisy_end)
        if (always or variance) == "beta":
            sigma2 = 1 - process.alpha_bar[frame.t] / process.alpha_bar[t_prev]
        return mean + size(sigma2) * draw()

    return step


answers(
    "ddim_step",
    right=[sampling.ddim_step, implicit()],
    present_alpha_bar=[implicit(present=True), implicit(present=True, fresh="never")],
    noise_added=[implicit(added=True), implicit(added=True, fresh="never")],
    x0_not_scaled=[implicit(rooted=False), implicit(rooted=False, fresh="never")],
    last_not_clean=[implicit(clean=0), implicit(clean=-1)],
    eta_ignored=[implicit(fresh="never")],
    too_much_noise=[implicit(fresh="too much")],
)

answers(
    "ddpm_step",
    right=[sampling.ddpm_step, ancestral_step()],
    noise_at_the_end=[
        ancestral_step(noisy_end=names) for names in (["posterior", "beta"], ["beta"])
    ],
    variance=[ancestral_step(size=plain)],
    no_noise=[ancestral_step(size=lambda sigma2: 0)],
    beta=[ancestral_step(always="beta")],
    keyword_ignored=[ancestral_step(always="posterior")],
    always_one_step=[ancestral_step(one=True), ancestral_step(one=True, always="posterior")],
)
