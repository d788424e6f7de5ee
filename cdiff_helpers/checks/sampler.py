"""Checks of notebook 06's exercises: sampling."""

from collections.abc import Callable

import torch
from torch import Tensor

from cdiff_helpers.checks.verdict import (
    Misconception,
    Wrong,
    call,
    call_tensor,
    close,
    diagnose,
    exercise,
    number,
    untouched,
)
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.sampling import Frame


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers of that shape, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def by_class(xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """A network whose answer is a different picture for each class, scaled by x_t."""
    return xt * (1 + y.view(-1, 1, 1, 1)) + y.view(-1, 1, 1, 1) ** 2


@exercise(
    notebook="06",
    kind="build",
    points=3,
    minutes=12,
    signature="mixed_variance(process, t: int, v: float) -> number",
    misconceptions={
        "mixed_plainly": (
            "You mix the variances themselves. The two lie powers of ten apart at low times: the "
            "paper mixes their logarithms."
        ),
        "ends_swapped": "v = 1 is to give the upper bound β, v = 0 the lower one β̃; yours swap.",
        "spread": "You return the standard deviation; the variance was asked for.",
        "alpha_bar_not_shifted": (
            "The β̃ in it uses ᾱ_t where ᾱ_{t-1} belongs: it is the noise that is left one step "
            "earlier."
        ),
        "logarithm_told": "You return the logarithm. Take exp of it at the end.",
    },
    praise="Right: between β̃ and β on a logarithmic scale, and 0 at the last step, t = 0.",
)
def mixed_variance(answer) -> None:
    """exp(v log β + (1 - v) log β̃), Improved DDPM eq. 15; 0 at t = 0, whatever v."""
    for num_steps, t, v in ((20, 3, 0.5), (100, 60, 0.25), (100, 1, 0.8)):
        process = DiffusionProcess(num_steps)
        beta, before = process.betas[t].double(), process.alpha_bar[t - 1].double()
        now = process.alpha_bar[t].double()
        low = (1 - before) / (1 - now) * beta
        log = v * beta.log() + (1 - v) * low.log()
        value = torch.tensor(number(call(answer, process, t, v))).double()
        mistakes = {
            "mixed_plainly": v * beta + (1 - v) * low,
            "ends_swapped": (v * low.log() + (1 - v) * beta.log()).exp(),
            "spread": (log / 2).exp(),
            "alpha_bar_not_shifted": beta,
            "logarithm_told": log,
        }
        if not torch.isclose(value, log.exp(), rtol=1e-3, atol=0):
            for key, mistaken in mistakes.items():
                if torch.isclose(value, mistaken, rtol=1e-3, atol=0):
                    raise Misconception(key)
            raise Wrong(f"at T = {num_steps}, t = {t}, v = {v}: {value:.4g}, not {log.exp():.4g}.")
    for v in (0.0, 0.7):
        last = number(call(answer, DiffusionProcess(20), 0, v))
        if last != 0:
            raise Wrong(
                f"at t = 0 your variance is {last:.3g} for v = {v}; the step to the clean picture "
                "adds no noise. There β̃ is 0, and has no logarithm: treat it apart."
            )


@exercise(
    notebook="06",
    kind="build",
    points=4,
    minutes=15,
    signature="rescaled(eps_y, eps_null: (B, 3, H, W), w: float, phi: float) -> (B, 3, H, W)",
    misconceptions={
        "one_for_the_batch": (
            "One spread for the whole batch: a picture's contrast would depend on its neighbours. "
            "Take it over each picture alone."
        ),
        "phi_turned": "φ = 0 is to leave the guided noise as it is; yours does so at φ = 1.",
        "wrong_measure": (
            "You bring it back to the spread of the answer without a class. The measure is the one "
            "with the class, eps_y."
        ),
        "variance": "You scale by the ratio of variances; sizes follow the ratio of spreads.",
        "all_the_way": "φ has no effect: mix the rescaled noise with the one you began with.",
        "turned_over": "Your ratio is upside down: large noise becomes larger.",
    },
    praise="Right: as loud as the conditional answer, where φ says so, each picture on its own.",
)
def rescaled(answer) -> None:
    """Lin et al. 2024 (arXiv:2305.08891), eq. 15-16: φ · ε̃ std(ε_y) / std(ε̃) + (1 - φ) ε̃."""
    for b, h, w in ((3, 4, 5), (4, 4, 4)):
        eps_y = noise(b, 3, h, w) * torch.tensor([1.0, 2.0, 0.5, 3.0])[:b].view(-1, 1, 1, 1)
        eps_null = noise(b, 3, h, w, seed=1)
        for scale, phi in ((3.0, 0.7), (5.0, 0.25)):
            guided = eps_null + scale * (eps_y - eps_null)
            own = {
                name: each.flatten(1).std(1).view(-1, 1, 1, 1)
                for name, each in (("y", eps_y), ("null", eps_null), ("guided", guided))
            }
            ratio = own["y"] / own["guided"]
            mix = lambda factor, phi=phi, guided=guided: (phi * factor + 1 - phi) * guided  # noqa: E731
            mistakes = {
                "one_for_the_batch": mix(eps_y.std() / guided.std()),
                "phi_turned": mix(ratio, phi=1 - phi),
                "wrong_measure": mix(own["null"] / own["guided"]),
                "variance": mix(ratio**2),
                "all_the_way": ratio * guided,
                "turned_over": mix(1 / ratio),
            }
            with untouched(eps_y, eps_null):
                value = call_tensor(answer, eps_y, eps_null, scale, phi, shape=tuple(eps_y.shape))
            diagnose(value, mix(ratio), mistakes, tolerance=1e-3)


@exercise(
    notebook="06",
    kind="build",
    points=3,
    minutes=10,
    signature="away_from(model, xt, t, y, other: int64 (B,), w: float) -> (B, 3, H, W)",
    misconceptions={
        "from_the_middle": (
            "You start from the class and add the whole difference once more: at w = 1 that is not "
            "the plain conditional answer. Start from the other class."
        ),
        "swapped": "You push towards the class to be avoided: the two answers change places.",
        "null_as_well": (
            "There is no null class in this formula: the other class stands where it stood."
        ),
        "nothing_pushed": "w has no effect, or none of the other class's answer is left in yours.",
    },
    praise="Right: guidance along the way from one class to the other; w = 1 is the plain model.",
)
def away_from(answer) -> None:
    """eps_other + w (eps_y - eps_other), eq. 6 with a class in the null class's place."""
    by_class.null_class = 10  # type: ignore[attr-defined]
    for b, h in ((3, 4), (4, 3)):
        xt, t = noise(b, 3, h, 5), torch.full((b,), 7)
        y, other = torch.arange(b) + 1, torch.arange(b) * 2 % 5
        eps_y, eps_other = by_class(xt, t, y), by_class(xt, t, other)
        eps_null = by_class(xt, t, torch.full((b,), 10))
        for w in (1.0, 3.0):
            with untouched(xt, y, other):
                value = call_tensor(answer, by_class, xt, t, y, other, w, shape=tuple(xt.shape))
            mistakes = {
                "from_the_middle": eps_y + w * (eps_y - eps_other),
                "swapped": eps_y + w * (eps_other - eps_y),
                "null_as_well": eps_null + w * (eps_y - eps_other),
                "nothing_pushed": eps_y,
            }
            diagnose(value, eps_other + w * (eps_y - eps_other), mistakes)


@exercise(
    notebook="06",
    kind="bug",
    points=2,
    minutes=8,
    signature="times(num_steps: int, count: int) -> falling whole numbers, count of them",
    misconceptions={
        "starts_low": (
            "The first time is below T-1: the walk starts at pure noise, but the network is told "
            "that there is still a picture in it."
        ),
        "ends_early": (
            "The last time is above 0: what comes out is a guess made while noise still hides the "
            "finest details."
        ),
        "rising": "Your times rise; a sampler goes from noise to picture.",
        "twice": "A time comes twice: that step would go nowhere.",
        "one_too_many": "You return one time more than asked, or one less.",
    },
    praise="Right: from T-1 down to 0, all of them different.",
)
def times(answer) -> None:
    """Distinct, falling from T-1 to 0, evenly spaced to within rounding."""
    for num_steps, count in ((1000, 50), (1000, 7), (12, 9), (10, 10)):
        value = call(answer, num_steps, count)
        try:
            value = [int(t) for t in value]
        except (TypeError, ValueError) as error:
            raise Wrong(f"you return {value!r}; expected a list of times.") from error
        if value == sorted(value) and len(set(value)) > 1:
            raise Misconception("rising")
        if len(set(value)) < len(value):
            raise Misconception("twice")
        if len(value) != count:
            raise Misconception("one_too_many")
        if value[0] != num_steps - 1:
            raise Misconception("starts_low")
        if value[-1] != 0:
            raise Misconception("ends_early")
        even = torch.linspace(num_steps - 1, 0, count)
        if not (torch.tensor(value) - even).abs().max() <= 1 or value != sorted(value)[::-1]:
            raise Wrong(f"for T = {num_steps} your times are {value}: not evenly spaced.")


@exercise(
    notebook="06",
    kind="bug",
    points=4,
    minutes=15,
    signature="ancestral(model, process, xt, y, draw) -> clean pictures (B, 3, H, W)",
    misconceptions={
        "noise_at_the_end": (
            "Noise is added at the very last step, too. The step to the clean image has a variance "
            "of 0."
        ),
        "stops_early": (
            "The step from t = 0 is missing: your pictures are what stands at t = 0, not the "
            "clean ones."
        ),
        "not_clamped": (
            "The guess x̂₀ is not clamped to [-1, 1], so a wrong ε at a late time throws it out of "
            "the range of pictures."
        ),
        "noise_again": (
            "You add the network's ε as fresh noise. That noise is known already; draw() gives a "
            "new one."
        ),
        "no_fresh_noise": "No noise is added at all: the walk ends too smooth. What is draw() for?",
        "variance": "You add the noise times the variance; its size is the square root.",
    },
    praise="Right: every time once, a clamped guess, fresh noise but at the last step.",
)
def ancestral(answer) -> None:
    """DDPM, algorithm 2, with a clamped guess; compared with it walk by walk."""
    process = DiffusionProcess(8)
    process.betas, process.alphas = process.betas.double(), process.alphas.double()
    process.alpha_bar = process.alpha_bar.double()
    start, y = noise(3, 3, 4, 5), torch.tensor([0, 1, 2])

    def walked(**mistake) -> Tensor:
        return walk_back(process, start, y, drawing(), **mistake)

    value = call_tensor(answer, guessing, process, start.clone(), y, drawing(), shape=(3, 3, 4, 5))
    names = (
        "noise_at_the_end", "stops_early", "not_clamped", "noise_again", "no_fresh_noise",
        "variance",
    )  # fmt: skip
    diagnose(value, walked(), {name: walked(**{name: True}) for name in names}, tolerance=1e-3)


def guessing(xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """A network that sees the noise, but not quite."""
    return 0.9 * xt + 0.1 * y.view(-1, 1, 1, 1)


def drawing() -> Callable[[], Tensor]:
    """A function that draws the same noises whenever it is made anew."""
    generator = torch.Generator().manual_seed(5)
    return lambda: torch.randn((3, 3, 4, 5), generator=generator, dtype=torch.float64)


def walk_back(
    process: DiffusionProcess,
    xt: Tensor,
    y: Tensor,
    draw: Callable,
    *,
    noise_at_the_end: bool = False,
    stops_early: bool = False,
    not_clamped: bool = False,
    noise_again: bool = False,
    no_fresh_noise: bool = False,
    variance: bool = False,
) -> Tensor:
    """DDPM, algorithm 2 with a clamped guess, or with one of the mistakes."""
    for i in reversed(range(1 if stops_early else 0, process.num_steps)):
        t = torch.full((len(xt),), i)
        eps = guessing(xt, t, y)
        x0 = process.predict_x0(xt, t, eps)
        mean, sigma2 = process.posterior(x0 if not_clamped else x0.clamp(-1, 1), xt, t)
        if noise_at_the_end and i == 0:
            sigma2 = process.betas[0]
        fresh = eps if noise_again else 0 * xt if no_fresh_noise else draw()
        xt = mean + (sigma2 if variance else sigma2.sqrt()) * fresh
    return xt


@exercise(
    notebook="06",
    kind="build",
    points=4,
    minutes=18,
    signature="two_step(process, frame, t_prev: int, draw) -> x at t_prev",
    misconceptions={
        "minus": (
            "You average this guess and the last one. That looks back; the line through both is "
            "followed *forwards*, past this one: 3/2 and -1/2."
        ),
        "swapped": "The last ε gets the larger share; the newest one deserves it.",
        "not_halved": "3 and -1 sum to 2: twice the noise. The shares sum to 1.",
        "memory_ignored": "frame.before is never used: this is DDIM's own step.",
        "first_step": ("At the first step there is no frame before: take the one ε that there is."),
    },
    praise="Right: Adams and Bashforth's rule on ε, DDIM's step with what the line foresees.",
)
def two_step(answer) -> None:
    """ε' = 3/2 ε - 1/2 ε_before, then DDIM's step with ε' and its own x̂₀ (PLMS, order 2)."""
    process = DiffusionProcess(50)
    xt, x0, x_before, x0_before = noise(4, 2, 3, 4, 5).float().clamp(-1, 1)
    before, t_prev = Frame(40, x_before, x0_before), 18
    eps = of_frame(process, Frame(30, xt, x0))
    eps_before = of_frame(process, before)

    def moved(eps: Tensor, t_prev: int) -> Tensor:
        t = torch.full((len(xt),), 30)
        guess = process.predict_x0(xt, t, eps)
        kept = process.alpha_bar[t_prev]
        return kept.sqrt() * guess + (1 - kept).sqrt() * eps

    def asked(frame: Frame) -> Tensor:
        return call_tensor(answer, process, frame, t_prev, None, shape=tuple(xt.shape))

    try:
        alone = asked(Frame(30, xt, x0))
    except Wrong as error:
        if "NoneType" in str(error):
            raise Misconception("first_step") from error
        raise
    diagnose(alone, moved(eps, t_prev), {}, tolerance=1e-3)
    mistakes = {
        "minus": moved((eps + eps_before) / 2, t_prev),
        "swapped": moved((3 * eps_before - eps) / 2, t_prev),
        "not_halved": moved(3 * eps - eps_before, t_prev),
        "memory_ignored": moved(eps, t_prev),
    }
    value = asked(Frame(30, xt, x0, before))
    diagnose(value, moved((3 * eps - eps_before) / 2, t_prev), mistakes, tolerance=1e-3)


def of_frame(process: DiffusionProcess, frame: Frame) -> Tensor:
    """The noise that a frame's x_t and guess imply."""
    return process.predict_noise(frame.xt, torch.full((len(frame.xt),), frame.t), frame.x0)


@exercise(
    notebook="06",
    kind="predict",
    points=1,
    minutes=5,
    signature="pictures_through_the_network = whole number",
    misconceptions={
        "asked_once": (
            "With guidance each picture goes through the network twice: with its class and without."
        ),
        "calls_counted": (
            "That is the number of calls. Each of them holds a whole batch, guided ones twice."
        ),
        "all_guided": (
            "The interval guides at some of the steps only; elsewhere the scale is 1, and the "
            "network is asked once."
        ),
        "one_more_step": "21 frames, but 20 network calls: the last frame is already clean.",
    },
    praise="Right: 8 guided steps of 20 pictures and 12 plain ones of 10.",
)
def pictures_through_the_network(answer) -> None:
    """Ten pictures, 20 steps, guided in 8 of them: 8 · 20 + 12 · 10."""
    value, wanted = number(answer), 8 * 20 + 12 * 10
    mistakes = {
        "asked_once": 200, "calls_counted": 20, "all_guided": 400, "one_more_step": wanted + 10,
    }  # fmt: skip
    for key, mistaken in mistakes.items():
        if value == mistaken:
            raise Misconception(key)
    if value != wanted:
        raise Wrong(f"Not {value:g}. Count guided and plain steps apart, then pictures in each.")


@exercise(
    notebook="06",
    kind="taught",
    points=2,
    minutes=8,
    signature="guided_noise(model, xt, t, y, null_class, guidance_scale) -> (B, 3, H, W)",
    misconceptions={
        "off_by_one": (
            "Your scale is the paper's w: at 1 yours is pushed already. Here 1 is the plain model."
        ),
        "swapped": "You push away from the class: the two answers change places.",
        "from_the_class": "Start from the answer without a class, not from the one with it.",
        "no_null": "The class is in both answers. One of them is asked with null_class.",
    },
    praise="Right: linear in the scale; 0 without the class, 1 with it.",
)
def guided_noise(answer) -> None:
    """eps_null + w (eps_y - eps_null)."""
    for b in (3, 4):
        xt, t, y = noise(b, 3, 4, 5), torch.full((b,), 7), torch.arange(b)
        eps_y = by_class(xt, t, y)
        eps_null = by_class(xt, t, torch.full((b,), 10))
        for w in (3.0, 0.5, 1.0):
            value = call_tensor(answer, by_class, xt, t, y, 10, w, shape=tuple(xt.shape))
            mistakes = {
                "off_by_one": eps_y + w * (eps_y - eps_null),
                "swapped": eps_y + w * (eps_null - eps_y),
                "from_the_class": eps_y + (w - 1) * (eps_null - eps_y),
                "no_null": eps_y,
            }
            diagnose(value, eps_null + w * (eps_y - eps_null), mistakes)


@exercise(
    notebook="06",
    kind="taught",
    points=3,
    minutes=12,
    signature="ddim_step(process, frame, t_prev: int, draw, *, eta=0.0) -> x at t_prev",
    misconceptions={
        "present_alpha_bar": "You move to the noise level where you are; ᾱ is that of t_prev.",
        "noise_added": "At η = 0 nothing random is added.",
        "x0_not_scaled": "The guess counts √ᾱ of t_prev, not ᾱ.",
        "last_not_clean": "Towards the clean picture, t_prev = -1, ᾱ is 1: x̂₀ itself comes out.",
    },
    praise="Right: along the noise that is implied, to the level of t_prev.",
)
def ddim_step(answer) -> None:
    """DDIM, eq. 12 with η = 0; t_prev = -1 gives x̂₀."""
    process = DiffusionProcess(50)
    xt, x0 = noise(2, 3, 3, 4, 5).float()
    frame = Frame(30, xt, x0.clamp(-1, 1))
    eps, kept, now = of_frame(process, frame), process.alpha_bar[18], process.alpha_bar[30]
    made_up = noise(3, 3, 4, 5, seed=9).float()

    def step(t_prev: int) -> Tensor:
        return call_tensor(answer, process, frame, t_prev, lambda: made_up, shape=(3, 3, 4, 5))

    wanted = kept.sqrt() * frame.x0 + (1 - kept).sqrt() * eps
    mistakes = {
        "present_alpha_bar": now.sqrt() * frame.x0 + (1 - now).sqrt() * eps,
        "noise_added": kept.sqrt() * frame.x0 + (1 - kept).sqrt() * made_up,
        "x0_not_scaled": kept * frame.x0 + (1 - kept).sqrt() * eps,
    }
    diagnose(step(18), wanted, mistakes, tolerance=1e-3)
    if not close(step(-1), frame.x0, 1e-3):
        raise Misconception("last_not_clean")


@exercise(
    notebook="06",
    kind="taught",
    points=3,
    minutes=12,
    signature="ddpm_step(process, frame, t_prev: int, draw) -> x at t_prev",
    misconceptions={
        "noise_at_the_end": "Towards the clean image nothing is added; your step adds noise.",
        "variance": "The noise is scaled by the variance; its size is the square root.",
        "no_noise": "Fresh noise is missing: draw() gives it.",
        "beta": "You took β for the variance; the posterior's is smaller, β̃.",
    },
    praise="Right: the posterior's mean, and as much fresh noise as it has spread.",
)
def ddpm_step(answer) -> None:
    """DDPM, algorithm 2: mean + sqrt(β̃) z; no noise towards -1."""
    process = DiffusionProcess(50)
    xt, x0 = noise(2, 3, 3, 4, 5).float()
    frame, z = Frame(30, xt, x0.clamp(-1, 1)), noise(3, 3, 4, 5, seed=9).float()
    t = torch.full((3,), 30)

    def step(frame: Frame, t_prev: int) -> Tensor:
        return call_tensor(answer, process, frame, t_prev, lambda: z, shape=(3, 3, 4, 5))

    mean, sigma2 = process.posterior(frame.x0, xt, t)
    mistakes = {
        "variance": mean + sigma2 * z,
        "no_noise": mean,
        "beta": mean + process.betas[30].sqrt() * z,
    }
    diagnose(step(frame, 29), mean + sigma2.sqrt() * z, mistakes, tolerance=1e-3)
    if not close(step(Frame(0, xt, frame.x0), -1), frame.x0, 1e-3):
        raise Misconception("noise_at_the_end")
