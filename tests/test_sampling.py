"""The samplers, by oracles that know the answer."""

import itertools
from functools import partial

import pytest
import torch

from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.sampling import (
    DEFAULT_STEPS,
    ddim_step,
    ddpm_step,
    denoise,
    guided_noise,
    half_log_snr,
    log_snr_times,
    respaced_times,
    sample_conditional_images,
    seeded_noise,
)

SOLVERS = {
    "ddpm": "ddpm",
    "ddpm, variance beta": partial(ddpm_step, variance="beta"),
    "ddim": "ddim",
    "ddim, eta 1": partial(ddim_step, eta=1.0),
    "dpm++2m": "dpm++2m",
}
each_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


def oracle(process, x0):
    """A perfect denoiser of the pictures x0: it says exactly the noise that is in x_t."""
    return lambda xt, t, y: process.predict_noise(xt, t, x0)


@each_solver
@pytest.mark.parametrize("num_steps", [2, 10, 20, 50, 200, 1000])
def test_an_oracle_gets_its_pictures_back(solver, num_steps, process, generator):
    x0 = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
    images = sample_conditional_images(
        oracle(process, x0), process, [0, 1], solver=solver, num_steps=num_steps
    )
    assert (images - (x0 + 1) / 2).abs().max() < 1e-4


@each_solver
def test_the_network_is_asked_once_a_step_at_falling_times(solver, short_process):
    asked = []

    def model(xt, t, y):
        asked.append(t.tolist())
        return torch.zeros_like(xt)

    frames = list(denoise(model, short_process, [3, 5], solver=solver, num_steps=7))
    times = [19, 16, 13, 10, 6, 3, 0]
    if solver == "dpm++2m":
        times = log_snr_times(short_process, 7)
    assert asked == [[t, t] for t in times]
    assert [frame.t for frame in frames] == [*times, -1]
    assert frames[-1].xt is frames[-1].x0 and frames[-1].x0.shape == (2, 3, 32, 32)
    assert all(frame.x0.abs().max() <= 1 for frame in frames)


def blank(xt, t, y):
    return torch.zeros_like(xt)


def test_each_solver_has_its_own_number_of_steps(process):
    def calls(**options):
        return sum(1 for _ in denoise(blank, process, [0], **options)) - 1

    assert calls(solver="ddpm") == 1000 and calls(solver="ddim") == 50
    assert calls() == calls(solver="dpm++2m") == DEFAULT_STEPS["dpm++2m"]
    assert sum(1 for _ in denoise(blank, DiffusionProcess(5), [0], solver="ddim")) == 6


def test_a_list_of_times_is_visited_as_it_is(process):
    times = [999, 998, 500, 7]
    assert [f.t for f in denoise(blank, process, [0], num_steps=times)] == [*times, -1]


def gaussian_model(process, mean, spread):
    """The best possible network where pixels are normal with this mean and spread."""

    def model(xt, t, y):
        alpha_bar = process.alpha_bar[t].view(-1, 1, 1, 1)
        gain = alpha_bar.sqrt() * spread**2 / (alpha_bar * spread**2 + 1 - alpha_bar)
        return process.predict_noise(xt, t, mean + gain * (xt - alpha_bar.sqrt() * mean))

    return model


def test_a_second_order_step_is_nearer_to_the_exact_path(process):
    """For normal pixels the path from noise has a closed form: a shift and a scaling."""
    mean, spread = 0.3, 0.2
    start = seeded_noise(0, 1, "cpu")()
    last = process.alpha_bar[-1]
    scale = (last * spread**2 + 1 - last).sqrt()
    exact = mean + spread * (start - last.sqrt() * mean) / scale

    def error(solver, num_steps):
        options = {"solver": solver, "num_steps": num_steps, "clamp": False}
        *_, end = denoise(gaussian_model(process, mean, spread), process, [0], **options)
        return (end.xt - exact).square().mean().sqrt().item()

    errors = {n: error("ddim", log_snr_times(process, n)) for n in (20, 40, 80)}
    assert errors[20] / errors[40] == pytest.approx(2, abs=0.1)  # first order: half the step,
    assert errors[40] / errors[80] == pytest.approx(2, abs=0.1)  # half the error
    assert error("dpm++2m", 20) < errors[20] / 8
    assert error("dpm++2m", 20) / error("dpm++2m", 40) > 4  # second order, or better


def test_frames_remember_one_step_back_and_no_more(short_process):
    frames = list(denoise(blank, short_process, [0], num_steps=5))
    for before, frame in itertools.pairwise(frames[:-1]):
        assert frame.before.t == before.t and frame.before.before is None
        assert torch.equal(frame.before.x0, before.x0)
    assert frames[0].before is None


def test_guidance_can_be_kept_to_an_interval_of_times(short_process):
    model = Recorder()
    options = {"guidance_scale": 2.0, "guidance_interval": (5, 12), "num_steps": 20}
    frames = list(denoise(model, short_process, [3], **options))
    asked = {frame.t: len(call) for frame, call in zip(frames, model.calls)}
    assert asked == {t: 2 if 5 <= t <= 12 else 1 for t in range(20)}


@pytest.mark.parametrize("T", [1, 2, 20, 1000])
@pytest.mark.parametrize("spaced", ["evenly", "in log-SNR"])
def test_respaced_times_are_distinct_and_reach_both_ends(spaced, T):
    process = DiffusionProcess(T)
    for count in {*range(1, min(T, 60) + 1), T}:
        even = spaced == "evenly"
        times = respaced_times(T, count) if even else log_snr_times(process, count)
        assert len(times) == len(set(times)) == count
        assert times == sorted(times, reverse=True) and times[0] == T - 1
        assert times[-1] == 0 or count == 1
    assert times == list(reversed(range(T)))


def test_log_snr_times_are_even_in_the_signal_to_noise_ratio(process):
    times = log_snr_times(process, 20)
    lambdas = half_log_snr(process.alpha_bar)[times[1:-4]]  # the table is coarse near t = 0
    steps = lambdas.diff()
    assert (steps / steps.mean() - 1).abs().max() < 0.12
    assert (-lambdas[0]).exp() == pytest.approx(80, rel=0.1)


def test_ancestral_noise_has_the_asked_variance(process):
    """From a step that sees x0 = xt = 0 only the added noise is left."""
    from cdiff_helpers.sampling import Frame

    zero = torch.zeros(1, 3, 32, 32)
    frame = Frame(600, zero, zero)
    _, posterior = process.posterior(zero, zero, torch.tensor([600]), torch.tensor([300]))
    one = torch.ones_like
    added = ddpm_step(process, frame, 300, lambda: one(zero))
    assert torch.allclose(added**2, posterior.expand_as(zero))
    added = ddpm_step(process, frame, 300, lambda: one(zero), variance="beta")
    beta = 1 - process.alpha_bar[600] / process.alpha_bar[300]
    assert torch.allclose(added**2, beta.expand_as(zero))
    added = ddim_step(process, frame, 300, lambda: one(zero), eta=1.0)
    assert torch.allclose(added**2, posterior.expand_as(zero), atol=1e-6)
    for step in (ddpm_step, partial(ddpm_step, variance="beta"), partial(ddim_step, eta=1.0)):
        assert not step(process, Frame(0, zero, zero), -1, lambda: one(zero)).any()


def test_ddim_without_eta_depends_on_the_start_alone(small_model, short_process):
    draws = [
        sample_conditional_images(small_model, short_process, [1], solver=s, num_steps=5)
        for s in ("ddim", partial(ddim_step, eta=0.0), partial(ddim_step, eta=1.0))
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.allclose(draws[0], draws[2], atol=1e-2)


@each_solver
def test_a_picture_is_the_same_in_any_batch(solver, small_model, short_process):
    options = {"solver": solver, "num_steps": 5, "guidance_scale": 2.0}
    many = sample_conditional_images(small_model, short_process, [1, 2, 3, 4], seed=7, **options)
    alone = sample_conditional_images(small_model, short_process, [3], seed=9, **options)
    assert torch.allclose(many[2], alone[0], atol=1e-4)
    cut = sample_conditional_images(
        small_model, short_process, [1, 2, 3, 4], seed=7, batch_size=3, **options
    )
    assert torch.allclose(many, cut, atol=1e-4)
    assert not torch.allclose(many[2], many[3], atol=1e-2)


def test_pictures_come_back_for_eyes(small_model, short_process):
    images = sample_conditional_images(small_model, short_process, torch.tensor([0, 9, 10]))
    assert images.shape == (3, 3, 32, 32) and images.dtype == torch.float32
    assert 0 <= images.min() <= images.max() <= 1


class Recorder:
    """A model whose noise is the class itself, and which counts its calls."""

    null_class = 10

    def __init__(self):
        self.calls = []

    def __call__(self, xt, t, y):
        self.calls.append(y.tolist())
        return y.view(-1, 1, 1, 1).float().expand_as(xt)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0, -1.0])
def test_guidance_is_linear_from_the_null_class_through_the_class(scale):
    model, xt, t = Recorder(), torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)
    eps = guided_noise(model, xt, t, torch.tensor([3, 5]), 10, scale)
    for i, y in enumerate((3, 5)):
        assert torch.allclose(eps[i], torch.tensor(10 + scale * (y - 10)))


def test_guidance_scale_one_is_the_conditional_model_asked_once():
    model, xt, t = Recorder(), torch.randn(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)
    y = torch.tensor([3, 5])
    assert torch.equal(guided_noise(model, xt, t, y, None, 1.0), Recorder()(xt, t, y))
    assert model.calls == [[3, 5]]
    guided_noise(model, xt, t, y, 10, 2.0)
    assert model.calls[1:] == [[3, 5, 10, 10]]


def test_sampling_leaves_the_model_as_it_was(small_model, short_process):
    small_model.train()
    before = {k: v.clone() for k, v in small_model.state_dict().items()}
    state = torch.get_rng_state()
    sample_conditional_images(small_model, short_process, [0], num_steps=2, solver="ddim")
    assert small_model.training and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in small_model.state_dict().items())


@pytest.mark.peer
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_is_diffusers_ddim(eta, generator):
    """Same predictions, same times, clamping off: every step's x_t agrees."""
    from diffusers import DDIMScheduler

    T = 50
    process = DiffusionProcess(T)
    predictions = torch.randn(T, 3, 32, 32, generator=generator)

    def model(xt, t, y):  # a made-up network, tame where 1/√ᾱ is huge
        return 0.05 * predictions[t] + xt * (1 - process.alpha_bar[t]).sqrt()

    peer = DDIMScheduler(T, beta_schedule="squaredcos_cap_v2", clip_sample=False)
    peer.set_timesteps(T)
    frames = list(
        denoise(model, process, [0], solver=partial(ddim_step, eta=eta), num_steps=T, clamp=False)
    )
    draws = torch.Generator().manual_seed(0)
    xt = torch.randn(1, 3, 32, 32, generator=draws)
    assert peer.timesteps.tolist() == [frame.t for frame in frames[:-1]]
    for t, frame in zip(peer.timesteps, frames[1:]):
        eps = model(xt, t.expand(1), None)
        noise = torch.randn(xt.shape, generator=draws)
        # its own draw is taken after the step's, so it is handed ours
        xt = peer.step(eps, t, xt, eta=eta, variance_noise=noise if eta else None).prev_sample
        assert torch.allclose(frame.xt, xt, atol=1e-4), int(t)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("num_steps", [5, 20, 50])
def test_dpm_solver_is_diffusers_dpm_solver(num_steps, process, generator):
    """Same predictions, same times, clamping off: every step's x_t agrees."""
    from diffusers import DPMSolverMultistepScheduler

    target = 0.4 * torch.randn(1, 3, 32, 32, generator=generator)

    def model(xt, t, y):  # a made-up guess in [-1, 1], and the noise that it implies
        return process.predict_noise(xt, t, (0.5 * xt + target).tanh())

    peer = DPMSolverMultistepScheduler(
        trained_betas=process.betas.numpy(), final_sigmas_type="zero", lower_order_final=True
    )
    peer.set_timesteps(num_steps)
    times = log_snr_times(process, num_steps)
    peer.timesteps = torch.tensor(times)  # its own spacings begin or end elsewhere
    alpha_bar = process.alpha_bar[times]
    peer.sigmas = torch.cat([((1 - alpha_bar) / alpha_bar).sqrt(), torch.zeros(1)])
    options = {"solver": "dpm++2m", "num_steps": num_steps, "clamp": False}
    frames = list(denoise(model, process, [0], **options))
    xt = frames[0].xt
    for t, frame in zip(times, frames[1:]):
        xt = peer.step(model(xt, torch.tensor([t]), None), t, xt).prev_sample
        assert torch.allclose(frame.xt, xt, atol=1e-4), t
