"""Claims that hold for every size, type and number of steps, tried on examples that vary."""

import itertools
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdiff_helpers.data import (
    ImageSet,
    ResidentLoader,
    make_loader,
    to_image_range,
    to_model_range,
)
from cdiff_helpers.diffusion import MAX_BETA, DiffusionProcess, cosine_alpha_bar
from cdiff_helpers.sampling import (
    SOLVERS,
    ddim_step,
    ddpm_step,
    denoise,
    log_snr_times,
    respaced_times,
    solver_and_times,
)
from cdiff_helpers.training import draw_times, drop_labels

settings.register_profile("course", deadline=None, database=None, derandomize=True)
settings.load_profile("course")
some = partial(settings, max_examples=100)
steps = st.integers(1, 4000)
seeds = st.integers(0, 2**32)
sizes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
floats = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])


def generator(seed):
    return torch.Generator().manual_seed(seed)


@some()
@given(steps)
def test_a_schedule_falls_and_its_tables_agree(T):
    exact, process = cosine_alpha_bar(T), DiffusionProcess(T)
    assert exact.shape == (T,) and exact.dtype == torch.float64
    assert (exact.diff() < 0).all() and 0 <= exact[-1] < 1e-16 and exact[0] < 1
    assert process.betas.shape == process.alphas.shape == process.alpha_bar.shape == (T,)
    assert process.alpha_bar.dtype == torch.float32 and process.alpha_bar[-1] < 1e-2
    assert (process.betas > 0).all() and process.betas.max() <= MAX_BETA
    assert torch.equal(process.alphas, (1 - process.betas.double()).float()) or torch.allclose(
        process.alphas, 1 - process.betas, atol=1e-7
    )
    assert (process.alpha_bar > 0).all() and (process.alpha_bar.diff() < 0).all()
    product = process.alphas.double().cumprod(0)
    assert torch.allclose(process.alpha_bar.double(), product, rtol=2e-7 * T + 1e-6)
    early = slice(0, max(T - 1, 0))  # the last β is cut at MAX_BETA
    assert torch.allclose(process.alpha_bar[early].double(), exact[early], rtol=1e-6)


@some()
@given(sizes, floats, steps, seeds)
def test_noise_goes_on_and_comes_off_for_every_shape_and_type(size, dtype, T, seed):
    process, drawn = DiffusionProcess(T), generator(seed)
    x0 = (torch.rand(size, generator=drawn) * 2 - 1).to(dtype)
    t = torch.randint(0, T, size[:1], generator=drawn)
    xt, noise = process.add_noise(x0, t, generator=drawn)
    assert xt.shape == noise.shape == x0.shape and noise.dtype == dtype
    alpha_bar = process.alpha_bar[t].double().view(-1, 1, 1, 1)
    by_hand = alpha_bar.sqrt() * x0.double() + (1 - alpha_bar).sqrt() * noise.double()
    assert (xt.double() - by_hand).abs().max() < (1e-5 if dtype.itemsize >= 4 else 0.05)
    if dtype.itemsize >= 4:
        back = process.predict_x0(xt, t, noise)
        room = 1e-5 / alpha_bar.sqrt()  # float32's rounding, enlarged by 1 / √ᾱ
        assert ((back.double() - x0.double()).abs() < room).all()
        again = process.predict_noise(xt, t, x0)
        room = 1e-5 / (1 - alpha_bar).sqrt()
        assert ((again.double() - noise.double()).abs() < room).all()


@some()
@given(steps, seeds, st.data())
def test_the_posterior_is_the_product_of_two_gaussians(T, seed, data):
    """q(x_s | x_t, x_0) ∝ q(x_t | x_s) q(x_s | x_0): precisions add, means are weighed by them."""
    process = DiffusionProcess(T)
    t = data.draw(st.integers(0, T - 1))
    s = data.draw(st.integers(-1, t - 1))
    drawn = generator(seed)
    x0, xt = torch.randn(2, 1, 1, 1, 1, generator=drawn, dtype=torch.float64)
    mean, variance = process.posterior(x0, xt, torch.tensor([t]), torch.tensor([s]))
    if s == t - 1:
        assert process.posterior(x0, xt, torch.tensor([t]))[0] == mean
    alpha_bar_t = process.alpha_bar[t].double()
    alpha_bar_s = process.alpha_bar[s].double() if s >= 0 else torch.ones((), dtype=torch.float64)
    alpha, share = alpha_bar_t / alpha_bar_s, 1 - alpha_bar_s
    if s < 0:
        assert variance == 0 and torch.allclose(mean, x0, atol=1e-6)
        return
    precision = alpha / (1 - alpha) + 1 / share
    weighed = alpha.sqrt() * xt / (1 - alpha) + alpha_bar_s.sqrt() * x0 / share
    # 1 - α of float32 tables loses digits where two times lie close together
    room = 1e-5 + 4e-7 / (1 - alpha).item() + 4e-7 / share.item()
    assert variance.item() == pytest.approx((1 / precision).item(), rel=room)
    assert mean.item() == pytest.approx((weighed / precision).item(), rel=room, abs=room)


class Oracle:
    """A network that knows the picture that is to come out."""

    def __init__(self, process, x0):
        self.process, self.x0, self.seen = process, x0, []

    def __call__(self, xt, t, y):
        self.seen.append(int(t[0]))
        return self.process.predict_noise(xt, t, self.x0.expand_as(xt))


@some(max_examples=100)
@given(st.sampled_from(sorted(SOLVERS)), steps, st.integers(1, 25), seeds)
def test_an_oracles_picture_comes_out_of_every_solver(solver, T, count, seed):
    process, count = DiffusionProcess(T), min(count, T)
    x0 = torch.rand(1, 3, 32, 32, generator=generator(seed)) * 2 - 1
    oracle = Oracle(process, x0)
    frames = list(denoise(oracle, process, [0, 0], solver=solver, num_steps=count, seed=seed))
    assert len(frames) == count + 1 and frames[-1].t == -1
    # the last guess is made of float32 numbers whose rounding is enlarged by 1 / √ᾱ
    room = 1e-5 + 2e-6 / process.alpha_bar[frames[-2].t].sqrt()
    assert (frames[-1].xt - x0).abs().max() < room
    assert oracle.seen == [frame.t for frame in frames[:-1]]


@some(max_examples=100)
@given(steps, st.data())
def test_the_times_of_a_solver_are_distinct_and_fall_from_the_last(T, data):
    count = data.draw(st.integers(1, min(T, 300)))
    process = DiffusionProcess(T)
    for times in (respaced_times(T, count), log_snr_times(process, count)):
        assert len(times) == count and times[0] == T - 1 and times[-1] >= 0
        assert all(a > b for a, b in itertools.pairwise(times))
    if count > 1:
        even = respaced_times(T, count)
        gaps = {a - b for a, b in itertools.pairwise(even)}
        assert even[-1] == 0 and max(gaps) - min(gaps) <= 1


@some(max_examples=20)
@given(st.integers(2, 200), st.sampled_from([ddim_step, ddpm_step]), seeds)
def test_a_step_function_is_a_solver_too(T, step, seed):
    process = DiffusionProcess(T)
    found, times = solver_and_times(process, step, None)
    assert found is step and times == list(range(T - 1, -1, -1))


@some()
@given(st.integers(0, 3000), st.floats(0, 1), st.integers(1, 50), seeds)
def test_labels_are_dropped_one_coin_each_and_the_others_kept(count, p, null_class, seed):
    y = torch.randint(0, null_class, (count,), generator=generator(seed))
    dropped = drop_labels(y, p, null_class=null_class, generator=generator(seed + 1))
    again = drop_labels(y, p, null_class=null_class, generator=generator(seed + 1))
    gone = dropped == null_class
    assert dropped.dtype == y.dtype and dropped.shape == y.shape and torch.equal(dropped, again)
    assert torch.equal(dropped[~gone], y[~gone])
    spread = 5 * math.sqrt(count * p * (1 - p)) + 1e-9  # of a binomial
    assert abs(int(gone.sum()) - count * p) <= spread + (0 < p < 1)


@some()
@given(st.integers(1, 500), steps, st.sampled_from(["uniform", "logit-normal"]), seeds)
def test_training_times_lie_in_the_process_and_repeat(count, T, distribution, seed):
    t = draw_times(count, T, distribution, generator(seed))
    assert t.shape == (count,) and t.dtype == torch.int64 and 0 <= t.min() <= t.max() < T
    assert torch.equal(t, draw_times(count, T, distribution, generator(seed)))


@some()
@given(sizes, seeds)
def test_pictures_go_to_the_networks_range_and_back(size, seed):
    raw = torch.randint(0, 256, size, generator=generator(seed), dtype=torch.uint8)
    x = to_model_range(raw)
    assert x.dtype == torch.float32 and -1 <= x.min() <= x.max() <= 1
    assert torch.equal((to_image_range(x) * 255).round().to(torch.uint8), raw)
    assert torch.allclose(to_model_range(raw / 255), x, atol=1e-6)
    assert torch.equal(to_image_range(x * 3), (x * 3).clamp(-1, 1).add(1).div(2))


@some(max_examples=25)
@given(st.integers(1, 70), st.integers(1, 80), st.integers(0, 1000), st.integers(0, 9))
def test_an_epoch_has_every_picture_once_in_an_order_that_the_seed_gives(count, size, seed, epoch):
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    data = ImageSet(images, torch.arange(count), ("one",), "made up")
    for make in (make_loader, partial(ResidentLoader, flip=False)):
        loader, again = make(data, size, seed), make(data, size, seed)
        for one in (loader, again):
            getattr(one, "set_epoch", getattr(getattr(one, "sampler", 0), "set_epoch", 0))(epoch)
        batches = list(loader)
        assert len(batches) == len(loader) == -(-count // size)
        labels = torch.cat([y for _, y in batches])
        assert sorted(labels.tolist()) == list(range(count))
        assert torch.equal(labels, torch.cat([y for _, y in again]))
        for x0, y in batches:
            assert torch.equal(((x0[:, 0, 0, 0] + 1) / 2 * 255).round().long(), y)
