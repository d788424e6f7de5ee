"""The forward process, from its mathematics."""

import math

import pytest
import torch

from cdiff_helpers.diffusion import DiffusionProcess, cosine_alpha_bar, cosine_betas


def test_the_cosine_schedule_is_its_closed_form():
    T, s = 1000, 0.008
    for t in (0, 1, 250, 500, 998, 999):
        f = math.cos(((t + 1) / T + s) / (1 + s) * math.pi / 2) ** 2
        expected = f / math.cos(s / (1 + s) * math.pi / 2) ** 2
        assert abs(cosine_alpha_bar(T)[t].item() - expected) < 1e-12
        assert abs(DiffusionProcess(T).alpha_bar[t].item() - expected) < 1e-6


def test_one_jump_equals_many_small_steps(process):
    """x_t = √α x_{t-1} + √β ε, unrolled: the picture's factor and the noise's variance."""
    factor, variance = 1.0, 0.0
    for t, (alpha, beta) in enumerate(zip(process.alphas.double(), process.betas.double())):
        factor, variance = factor * alpha.sqrt(), variance * alpha + beta
        assert abs(factor - process.alpha_bar[t].sqrt()) < 1e-5
        assert abs(variance - (1 - process.alpha_bar[t])) < 1e-5


@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (4, 3, 4, 4)])  # B, C, H, W; and B == W
def test_every_picture_gets_its_own_time(shape, process, generator):
    x0 = torch.randn(shape, generator=generator)
    t = torch.tensor([999, 0, 500, 250][: shape[0]])
    xt, noise = process.add_noise(x0, t, generator=generator)
    for i in range(shape[0]):
        a = process.alpha_bar[t[i]]
        assert torch.allclose(xt[i], a.sqrt() * x0[i] + (1 - a).sqrt() * noise[i], atol=1e-6)


def test_noise_alone_has_the_variance_that_the_schedule_says(process, generator):
    x0 = torch.zeros(64, 3, 32, 32)
    xt, _ = process.add_noise(x0, torch.full((64,), 300), generator=generator)
    expected = 1 - process.alpha_bar[300]
    assert abs(xt.var() - expected) < 0.01 * expected + 4 * expected * (2 / xt.numel()) ** 0.5


def test_given_noise_is_used_and_a_seed_repeats(process):
    x0, t = torch.zeros(2, 3, 4, 4), torch.tensor([5, 900])
    noise = torch.ones_like(x0)
    assert process.add_noise(x0, t, noise)[1] is noise
    one, two = (process.add_noise(x0, t, generator=torch.Generator().manual_seed(1)) for _ in "ab")
    assert torch.equal(one[0], two[0])


def test_towards_the_clean_picture_the_posterior_is_that_picture(process, generator):
    x0, xt = torch.randn(2, 3, 3, 4, 4, generator=generator)
    for t in (0, 700):
        mean, variance = process.posterior(x0, xt, torch.full((3,), t), torch.full((3,), -1))
        assert torch.allclose(mean, x0, atol=1e-6) and mean.shape == x0.shape
        assert variance.shape == (3, 1, 1, 1) and not variance.any()


def test_other_betas_replace_the_cosine():
    betas = torch.linspace(1e-4, 0.02, 100)
    process = DiffusionProcess(100, betas=betas)
    assert torch.allclose(process.betas, betas)
    assert torch.allclose(process.alpha_bar, (1 - betas).cumprod(0), atol=1e-6)


@pytest.mark.parametrize("skip", [1, 7, 300])
@pytest.mark.parametrize("T", [10, 1000, 4000])
def test_the_posterior_agrees_with_float64_at_every_timestep(T, skip):
    """At t = 1 the mean was off by 1.7e-4 when 1 - ᾱ was formed from float32."""
    process, x0, xt = DiffusionProcess(T), 0.3, -0.7
    alpha_bar = (1 - cosine_betas(T)).cumprod(0)  # float64
    t = torch.arange(T)
    t_prev = (t - skip).clamp(min=-1)
    before = torch.where(t_prev >= 0, alpha_bar[t_prev.clamp(min=0)], 1.0)
    alpha = alpha_bar / before
    expected = before.sqrt() * (1 - alpha) / (1 - alpha_bar) * x0
    expected += alpha.sqrt() * (1 - before) / (1 - alpha_bar) * xt
    images = torch.full((2, T, 1, 1, 1), x0)
    images[1] = xt
    mean, variance = process.posterior(*images, t, t_prev)
    assert (mean.flatten() - expected).abs().max() < 1e-5
    exact = (1 - before) / (1 - alpha_bar) * (1 - alpha)
    assert (variance.flatten() - exact).abs().max() < 1e-5


def test_a_table_that_is_replaced_is_the_one_that_counts():
    """By a subclass, in place, or with a state dict: no other table of the old schedule is used."""
    linear = DiffusionProcess(20, betas=torch.linspace(0.001, 0.3, 20))
    loaded, own, changed = DiffusionProcess(20), DiffusionProcess(20), DiffusionProcess(20)
    loaded.load_state_dict(linear.state_dict())
    own.alpha_bar = linear.alpha_bar
    changed.alpha_bar.copy_(linear.alpha_bar)
    x0, t = torch.full((20, 1, 1, 1), 0.3), torch.arange(20)
    expected = linear.posterior(x0, -x0, t)
    for process in (loaded, own, changed):
        for value, right in zip(process.posterior(x0, -x0, t), expected):
            assert torch.allclose(value, right, atol=1e-5)
        assert torch.equal(process.add_noise(x0, t, x0)[0], linear.add_noise(x0, t, x0)[0])


@pytest.mark.peer
@pytest.mark.parametrize("T", [10, 1000])
def test_the_schedule_is_diffusers_squared_cosine(T):
    from diffusers import DDPMScheduler

    peer = DDPMScheduler(T, beta_schedule="squaredcos_cap_v2")
    process = DiffusionProcess(T)
    assert torch.allclose(process.betas, peer.betas, atol=1e-6)
    assert torch.allclose(process.alpha_bar, peer.alphas_cumprod, atol=1e-6)
