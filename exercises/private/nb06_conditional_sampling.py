"""Answers to notebook 06's exercises: conditional sampling."""

import math

import torch

from cdiff_helpers import sampling
from exercises.private import right


def mixed_variance(process, t, v):
    """The step's variance at timestep t, between the posterior's (v = 0) and β (v = 1)."""
    if t == 0:
        return 0.0
    beta, before = process.betas[t], process.alpha_bar[t - 1]
    low = (1 - before) / (1 - process.alpha_bar[t]) * beta
    return float((v * beta.log() + (1 - v) * low.log()).exp())


def by_posterior(process, t, v):
    if not t:
        return torch.tensor(0)
    clean = torch.zeros(1, 1, 1, 1)
    low = math.log(process.posterior(clean, clean, torch.tensor([t]))[1])
    return math.exp(low + v * (math.log(process.betas[t]) - low))


def mixing(formula):
    """mixed_variance by a formula of β̃, β and v: with an exception at t = 0, and with none."""

    def everywhere(process, t, v):
        a, beta = process.alpha_bar, process.betas[t]
        return formula((1 - a[t - 1]) / (1 - a[t]) * beta, beta, v)

    return lambda process, t, v: everywhere(process, t, v) if t else 0, everywhere


in_powers, no_exception = mixing(lambda low, high, v: low * (high / low) ** v)
known = right(
    "mixed_variance",
    "between β̃ and β on a logarithmic scale, and 0 at the last step, t = 0.",
    mixed_variance,
    by_posterior,
    in_powers,
)
known.mistake(
    "mixed_plainly",
    "You mix the variances themselves; the paper mixes their logarithms.",
    *mixing(lambda low, high, v: v * high + (1 - v) * low),
)
known.mistake(
    "ends_swapped",
    "v = 1 is to give the upper bound β, v = 0 the lower one β̃; yours swap.",
    *mixing(lambda low, high, v: low**v * high ** (1 - v)),
)
known.mistake(
    "standard_deviation",
    "You return the standard deviation; the variance was asked for.",
    *mixing(lambda low, high, v: (high**v * low ** (1 - v)).sqrt()),
)
known.mistake(
    "alpha_bar_not_shifted",
    "You return β, whatever v is. If your β̃ equals β, look at its numerator: that ᾱ belongs to one "
    "step earlier.",
    *mixing(lambda low, high, v: high),
)
known.mistake(
    "upside_down",
    "Your β̃ is larger than β: the fraction in it is upside down.",
    *mixing(lambda low, high, v: high**v * (high**2 / low) ** (1 - v)),
)
known.mistake(
    "logarithm_told",
    "You return the logarithm. Take exp of it at the end.",
    *mixing(lambda low, high, v: v * high.log() + (1 - v) * low.log()),
)
known.mistake(
    "last_entry",
    "Right for t > 0. At 0, alpha_bar[t - 1] is the table's last entry, not 1: treat t = 0 apart.",
    no_exception,
)
known.mistake(
    "no_exception",
    "Right for t > 0. At 0, β̃ is 0: it has no logarithm, and 0 to the power of 0 is 1.",
    lambda process, t, v: in_powers(process, t, v) if t else process.betas[0] * (v == 1),
    lambda process, t, v: in_powers(process, t, v) if t else math.nan if v == 1 else 0,
)


def times(num_steps, count):
    """`count` distinct timesteps from num_steps - 1 down to 0."""
    even = torch.linspace(num_steps - 1, 0, count, dtype=torch.float64)
    return even.round().int().tolist()


def even(first, last, count):
    return torch.linspace(first, last, count).round().int()


known = right(
    "times",
    "from T-1 down to 0, all of them distinct.",
    times,
    sampling.respaced_times,
    lambda T, count: [(T - 1) * i // (count - 1) for i in reversed(range(count))],
    lambda T, count: even(T - 1, 0, count),
    lambda T, count: [-((1 - T) * i // (count - 1)) for i in reversed(range(count))],
)
known.mistake(
    "unchanged",
    "This is the printed code: for 1000 and 50 it starts at 980, and for 1000 and 7 it returns "
    "eight timesteps.",
)
known.mistake(
    "starts_low",
    "Your first timestep is below T-1: sampling starts from pure noise, but the network is told "
    "that there is still an image in it.",
    lambda T, count: list(range(0, T, T // count))[:count][::-1],
)
known.mistake(
    "starts_high",
    "Your first timestep is T. They count from 0, so T-1 is the last one in the process's tables.",
    lambda T, count: even(T, 0, count),
)
known.mistake(
    "ends_early",
    "Your last timestep is above 0: what comes out is a guess made while noise still hides the "
    "finest details.",
    lambda T, count: [T - 1 - i * (T // count) for i in range(count)],
    lambda T, count: even(T - 1, 1, count),
)
known.mistake(
    "rising",
    "Your timesteps rise; a sampler goes from noise to image.",
    lambda T, count: even(0, T - 1, count),
    lambda T, count: list(range(0, T, T // count)),
)
known.mistake(
    "twice",
    "A timestep comes twice: that step would go nowhere.",
    lambda T, count: [T - 1, *even(T - 1, 0, count - 1)],
)
known.mistake(
    "one_too_many",
    "You return one timestep more than asked.",
    lambda T, count: even(T - 1, 0, count + 1).unique().flip(0),
    lambda T, count: even(T - 1, 0, count + 1),
)
known.mistake(
    "not_whole",
    "Your timesteps are floats. They look up entries of tables, and a sampler refuses floats: "
    "round, then make them whole numbers.",
    lambda T, count: torch.linspace(T - 1, 0, count),
    lambda T, count: torch.linspace(T - 1, 0, count, dtype=torch.float64).round(),
)


def ancestral(model, process, xt, y, draw):
    """Ancestral sampling from noise xt to clean images. DDPM, algorithm 2."""
    for i in reversed(range(process.num_steps)):
        t = torch.full_like(y, i)
        x0 = process.predict_x0(xt, t, model(xt, t, y)).clamp(-1, 1)
        mean, variance = process.posterior(x0, xt, t)
        xt = mean + variance.sqrt() * draw()
    return xt


def by_frames(model, process, xt, y, draw):
    time = process.num_steps - 1
    while time >= 0:
        t = torch.full_like(y, time)
        x0 = process.predict_x0(xt, t, model(xt, t, y)).clip(-1, 1)
        xt = sampling.ddpm_step(process, sampling.Frame(time, xt, x0), time - 1, draw)
        time -= 1
    return xt


def walked(*, stop=-1, clamp="guess", noise="fresh", root=True, noisy_end=False):
    """ancestral with a mistake."""

    def ancestral(model, process, xt, y, draw):
        for i in range(process.num_steps - 1, stop, -1):
            t = torch.full_like(y, i)
            eps = model(xt, t, y)
            x0 = process.predict_x0(xt, t, eps)
            mean, variance = process.posterior(x0.clamp(-1, 1) if clamp == "guess" else x0, xt, t)
            variance = process.betas[0] if noisy_end and i == 0 else variance
            z = {"fresh": draw, "again": lambda e=eps: e, "none": lambda: 0}[noise]()
            xt = mean + (variance.sqrt() if root else variance) * z
            xt = xt.clamp(-1, 1) if clamp == "steps" else xt
        return xt.clamp(-1, 1) if clamp == "end" else xt

    return ancestral


known = right(
    "ancestral",
    "every timestep once, a clamped guess, fresh noise at all steps but the last.",
    ancestral,
    by_frames,
    walked(),
)
known.mistake(
    "unchanged",
    "This is the printed code, with all three mistakes. Compare with algorithm 2 the timesteps it "
    "visits, the range of x̂₀ and the scale of the noise.",
)
known.mistake(
    "two_left",
    "One of the three mistakes is mended, two are left. Compare with algorithm 2 the timesteps "
    "visited, the range of x̂₀ and the scale of the noise.",
    walked(stop=0, clamp="none"),
    walked(stop=0, root=False),
    walked(clamp="none", root=False),
)
known.mistake(
    "noise_at_the_end",
    "Noise is added at the very last step, too. The step to the clean image has a variance of 0.",
    walked(noisy_end=True),
)
known.mistake(
    "stops_early",
    "The step from t = 0 is missing: your images are what stands at t = 0, not the clean ones.",
    walked(stop=0),
)
known.mistake(
    "not_clamped",
    "Your x̂₀ is not clamped to [-1, 1], so a wrong ε at a late timestep throws it out of the range "
    "of images.",
    walked(clamp="none"),
)
known.mistake(
    "clamped_at_the_end",
    "You clamp the finished images alone. By then an x̂₀ far outside [-1, 1] has misled every step: "
    "clamp the guess at each timestep.",
    walked(clamp="end"),
)
known.mistake(
    "steps_clamped",
    "You clamp x_t. Noise may lie outside [-1, 1]; what may not is the guess x̂₀.",
    walked(clamp="steps"),
)
known.mistake(
    "noise_again",
    "You add the network's ε as fresh noise. That noise is known already; draw() gives a new one.",
    walked(noise="again"),
)
known.mistake(
    "no_fresh_noise",
    "No noise is added at all: the images end too smooth. What is draw() for?",
    walked(noise="none"),
)
known.mistake(
    "variance",
    "You scale the noise by the variance; its standard deviation is the square root.",
    walked(root=False),
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


def in_one_ratio(process, frame, t_prev, draw):
    eps = implied(process, frame)
    if frame.before:
        eps = eps + (eps - implied(process, frame.before)) / 2
    now, then = process.alpha_bar[frame.t], process.alpha_bar[t_prev]
    ratio = (then / now).sqrt()
    return ratio * frame.xt + ((1 - then).sqrt() - ratio * (1 - now).sqrt()) * eps


def along(now=1.5, before=-0.5, *, guess="own", needs=False, own_time=True):
    """two_step with a mistake; `needs` forgets that there may be no frame before."""

    def two_step(process, frame, t_prev, draw):
        eps, last, kept = implied(process, frame), frame.before, process.alpha_bar[t_prev]
        if needs or last is not None:
            eps = now * eps + before * implied(process, last, None if own_time else frame.t)
        x0 = process.predict_x0(frame.xt, torch.full((len(eps),), frame.t), eps)
        x0 = {"own": x0, "clamped": x0.clamp(-1, 1), "old": frame.x0}[guess]
        return kept.sqrt() * x0 + (1 - kept).sqrt() * eps

    return two_step


known = right(
    "two_step",
    "Adams and Bashforth's rule on ε, then DDIM's step with the ε that the line foresees.",
    two_step,
    in_one_ratio,
    along(),
)
known.mistake(
    "minus",
    "You average this ε and the last one. That looks back; the line through both is followed "
    "*forward*, past this one: 3/2 and -1/2.",
    along(0.5, 0.5),
)
known.mistake(
    "swapped", "The last ε gets the larger share; the newest one deserves it.", along(-0.5, 1.5)
)
known.mistake(
    "not_halved", "3 and -1 sum to 2: twice the noise. The shares sum to 1.", along(3, -1)
)
known.mistake("memory_ignored", "frame.before is never used: this is DDIM's own step.", along(1, 0))
known.mistake(
    "old_guess",
    "Your ε' is right, but x̂₀ is still the frame's own. Take the one that x_t and ε' imply.",
    along(guess="old"),
)
known.mistake(
    "clamped",
    "You clamp the x̂₀ that ε' implies; then the two no longer make up x_t. Take it as it is.",
    along(guess="clamped"),
)
known.mistake(
    "one_timestep",
    "You compute the earlier ε with this frame's timestep; frame.before has its own t.",
    along(own_time=False),
)
known.mistake(
    "first_step",
    "Right, but for the first step: there is no frame before it, so take the one ε that there is.",
    along(needs=True),
)


def away_from(model, xt, t, y, other, w):
    """The noise for y, pushed away from the classes in `other` (B,)."""
    eps_y, eps_other = model(xt, t, y), model(xt, t, other)
    return eps_other + w * (eps_y - eps_other)


def at_once(model, xt, t, y, other, w):
    both = model(torch.cat([xt, xt]), torch.cat([t, t]), torch.cat([y, other]))
    return torch.lerp(*both.chunk(2)[::-1], w)


def asked(formula):
    """away_from by a formula of the network's noise for y, for the others, for none, and of w."""

    def away_from(model, xt, t, y, other, w):
        return formula(*(model(xt, t, 0 * y + c) for c in (y, other, model.null_class)), w)

    return away_from


known = right(
    "away_from",
    "guidance along the way from one class to the other; w = 1 is the plain model.",
    away_from,
    at_once,
    asked(lambda y, other, null, w: w * y + (1 - w) * other),
)
known.mistake(
    "from_the_middle",
    "You start from the class and add w times the difference: at w = 1 that is not the plain "
    "conditional prediction. Start from the other class.",
    asked(lambda y, other, null, w: y + w * (y - other)),
)
known.mistake(
    "swapped",
    "You push toward the class to be avoided: the two predictions have changed places.",
    asked(lambda y, other, null, w: y + w * (other - y)),
    asked(lambda y, other, null, w: other + w * (other - y)),
)
known.mistake(
    "null_as_well",
    "There is no null class in this formula: the other class stands where it stood.",
    asked(lambda y, other, null, w: null + w * (y - other)),
    asked(lambda y, other, null, w: y + w * (null - other)),
)
known.mistake(
    "other_ignored",
    "This is plain guidance, away from the null class. Put the other class in its place.",
    asked(lambda y, other, null, w: null + w * (y - null)),
)
known.mistake(
    "nothing_pushed",
    "w has no effect, or nothing of the other class's prediction is left in yours.",
    asked(lambda y, other, null, w: y),
)

known = right(
    "pictures_through_the_network",
    "an image in a guided step counts twice, in any other step once.",
    8 * 2 * 10 + 12 * 10,
    otherwise="Count guided and plain steps apart, then the images in each.",
)
known.mistake(
    "asked_once",
    "With guidance each image goes through the network twice: with its class and without.",
    200,
)
known.mistake(
    "calls_counted",
    "That is the number of calls. Each of them holds a whole batch, guided ones twice.",
    20,
)
known.mistake("one_image", "That is for a single image. There are ten.", 28)
known.mistake(
    "all_guided",
    "The interval guides at some of the steps only; elsewhere the scale is 1, and the network is "
    "asked once.",
    400,
)
known.mistake(
    "guided_alone",
    "Those are the guided steps alone. In the others the network is asked, too.",
    160,
)
known.mistake("swapped", "You guide the steps outside the interval, and only those.", 320)
known.mistake(
    "one_more_step",
    "There is one frame more than there are network calls: the last frame is already clean.",
    290,
    300,
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


def guidance(y, null, w):
    return null + w * (y - null)


def rescaling(ratio=lambda y, null, e: std(y) / std(e), guide=guidance, mix=None):
    """rescaled with another ratio, another guidance or another mixture of its parts."""

    def rescaled(y, null, w, phi):
        e = guide(y, null, w)
        factor = ratio(y, null, e)
        return mix(y, e, factor, phi) if mix else phi * factor * e + (1 - phi) * e

    return rescaled


known = right(
    "rescaled",
    "as loud as the conditional prediction, as far as φ says, each image on its own.",
    rescaled,
    image_by_image,
    lambda y, null, w, phi: torch.einsum(
        "bchw,b->bchw",
        e := torch.lerp(null, y, w),
        1 - phi + phi * y.flatten(1).std(1) / e.flatten(1).std(1),
    ),
)
known.mistake(
    "one_for_the_batch",
    "One standard deviation for the whole batch: an image's contrast would depend on its "
    "neighbors. Take it over each image alone.",
    rescaling(lambda y, null, e: y.std() / e.std()),
)
known.mistake(
    "per_channel",
    "You rescale each color channel on its own, which shifts colors. Take one standard deviation "
    "over an image's channels and pixels.",
    rescaling(lambda y, null, e: std(y, (2, 3)) / std(e, (2, 3))),
)
known.mistake(
    "columns",
    "Your factors have the shape (B,), so each *column* has a factor of its own, silently where "
    "B equals the width. Keep the dimensions: (B, 1, 1, 1).",
    rescaling(lambda y, null, e: y.std((1, 2, 3)) / e.std((1, 2, 3))),
)
known.mistake(
    "phi_turned",
    "φ = 0 is to leave the guided noise as it is; yours does so at φ = 1.",
    lambda y, null, w, phi: rescaled(y, null, w, 1 - phi),
)
known.mistake(
    "wrong_measure",
    "You bring it back to the standard deviation of the prediction without a class. The measure "
    "is the one with the class, eps_y.",
    rescaling(lambda y, null, e: std(null) / std(e)),
)
known.mistake(
    "variance",
    "You scale by the ratio of variances; sizes follow the ratio of standard deviations.",
    rescaling(lambda y, null, e: y.var((1, 2, 3), keepdim=True) / e.var((1, 2, 3), keepdim=True)),
)
known.mistake(
    "all_the_way",
    "φ has no effect: mix the rescaled noise with the guided noise that you began with.",
    lambda y, null, w, phi: rescaled(y, null, w, 1),
)
known.mistake(
    "turned_over",
    "Your ratio is upside down: large noise becomes larger.",
    rescaling(lambda y, null, e: std(e) / std(y)),
)
known.mistake(
    "mixed_with_plain",
    "Both parts of the mixture are *guided* noise, one rescaled and one not. One of yours is the "
    "plain ε_y.",
    rescaling(mix=lambda y, e, factor, phi: phi * factor * e + (1 - phi) * y),
    rescaling(mix=lambda y, e, factor, phi: phi * factor * y + (1 - phi) * e),
    rescaling(mix=lambda y, e, factor, phi: phi * factor * y + (1 - phi) * y),
    rescaling(mix=lambda y, e, factor, phi: phi * y + (1 - phi) * e),
)
known.mistake(
    "not_guided",
    "Guidance is left out: w has no effect. First compute the guided noise from both predictions.",
    lambda y, null, w, phi: y,
)
known.mistake(
    "off_by_one",
    "Your scale is the paper's w: at 1 yours is pushed already. Here 1 is the plain model.",
    rescaling(guide=lambda y, null, w: y + w * (y - null)),
)


def guided(formula):
    """guided_noise by a formula of the noise with a class and without, and of w."""
    return asked(lambda y, null, _, w: formula(y, null, w))


known = right(
    "guided_noise",
    "linear in the scale; 0 without the class, 1 with it.",
    sampling.guided_noise,
    guided(lambda y, null, w: w * y + (1 - w) * null),
)
known.mistake(
    "off_by_one",
    "Your scale is the paper's w: at 1 yours is pushed already. Here 1 is the plain model.",
    guided(lambda y, null, w: y + w * (y - null)),
)
known.mistake(
    "swapped",
    "You push away from the class: the two predictions have changed places.",
    guided(lambda y, null, w: y + w * (null - y)),
    guided(lambda y, null, w: null + w * (null - y)),
)
known.mistake(
    "from_the_class",
    "Your difference points away from the class: take eps_y minus the one without a class.",
    guided(lambda y, null, w: y + (w - 1) * (null - y)),
)
known.mistake(
    "no_null",
    "The class is in both predictions, or the scale has no effect. One of the two is asked for "
    "with null_class.",
    guided(lambda y, null, w: y),
)


def implicit(*, present=False, added=False, rooted=True, clean=None, fresh="balanced"):
    """DDIM's step, or one with a mistake; `clean` is the entry of ᾱ taken at t_prev = -1."""

    def step(process, frame, t_prev, draw, *, eta=0.0):
        now, kept = process.alpha_bar[frame.t], process.alpha_bar[t_prev]
        if t_prev < 0:
            kept = torch.tensor(1.0) if clean is None else process.alpha_bar[clean]
        sigma2 = eta**2 * (1 - kept) / (1 - now) * (1 - now / kept) * (fresh != "never")
        eps, kept = draw() if added else implied(process, frame), now if present else kept
        rest = (1 - kept - sigma2 * (fresh == "balanced")).clamp(min=0).sqrt()
        return (kept.sqrt() if rooted else kept) * frame.x0 + rest * eps + sigma2.sqrt() * draw()

    return step


known = right(
    "ddim_step",
    "along the noise that is implied, to the level of t_prev, with as much fresh noise as η asks.",
    sampling.ddim_step,
    implicit(),
)
known.mistake(
    "present_alpha_bar",
    "You step to the noise level where you are; ᾱ is that of t_prev.",
    implicit(present=True),
    implicit(present=True, fresh="never"),
)
known.mistake(
    "noise_added",
    "At η = 0 nothing random is added: the direction is the noise that x_t and x̂₀ imply.",
    implicit(added=True),
    implicit(added=True, fresh="never"),
)
known.mistake(
    "x0_not_scaled",
    "The factor of the guess is √ᾱ of t_prev, not ᾱ.",
    implicit(rooted=False),
    implicit(rooted=False, fresh="never"),
)
known.mistake(
    "last_not_clean",
    "Toward the clean image, t_prev = -1, ᾱ is 1: x̂₀ itself comes out.",
    implicit(clean=0),
    implicit(clean=0, fresh="never"),
    implicit(clean=-1),
    implicit(clean=-1, fresh="never"),
)
known.mistake(
    "eta_ignored", "Right for η = 0, but η has no effect: eq. 16.", implicit(fresh="never")
)
known.mistake(
    "too_much_noise",
    "Right for η = 0. Where fresh noise of variance σ² is added, less of ε is kept: eq. 12.",
    implicit(fresh="too much"),
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


known = right(
    "ddpm_step",
    "the posterior's mean, and fresh noise of its variance.",
    sampling.ddpm_step,
    ancestral_step(),
)
known.mistake(
    "noise_at_the_end",
    "Toward the clean image nothing is added; your step adds noise.",
    ancestral_step(noisy_end=("posterior", "beta")),
    ancestral_step(noisy_end=("beta",)),
)
known.mistake(
    "variance",
    "You scale the noise by the variance; its standard deviation is the square root.",
    ancestral_step(size=lambda sigma2: sigma2),
)
known.mistake(
    "no_noise", "Fresh noise is missing: draw() gives it.", ancestral_step(size=lambda sigma2: 0)
)
known.mistake(
    "beta",
    "You always take β for the variance; the posterior's is smaller, β̃.",
    ancestral_step(always="beta"),
)
known.mistake(
    "keyword_ignored",
    'Right for the posterior\'s variance, but variance="beta" has no effect.',
    ancestral_step(always="posterior"),
)
known.mistake(
    "always_one_step",
    "Your step goes to t - 1, whatever t_prev is: hand t_prev to the posterior.",
    ancestral_step(one=True),
    ancestral_step(one=True, always="posterior"),
)
