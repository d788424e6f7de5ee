"""Training: the loss by models that know, the loop by what it must repeat."""

import dataclasses
import math
import re

import pytest
import torch
from torch import nn

from cdiff_helpers.data import ResidentLoader, make_loader
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.runtime import PRESETS
from cdiff_helpers.training import (
    EMA,
    TrainConfig,
    TrainState,
    diffusion_loss,
    draw_times,
    drop_labels,
    loss_weights,
    train,
)
from cdiff_helpers.unet import ConditionalUNet
from tests.support.runs import fresh


def test_a_model_that_knows_the_noise_has_no_loss_and_a_silent_one_has_loss_one(generator):
    process, x0 = DiffusionProcess(), torch.zeros(256, 3, 8, 8)
    y = torch.zeros(256, dtype=torch.int64)

    def knows(xt, t, y):
        return process.predict_noise(xt, t, x0)

    def silent(xt, t, y):
        return torch.zeros_like(xt)

    assert diffusion_loss(knows, process, x0, y, generator) < 1e-6
    assert abs(diffusion_loss(silent, process, x0, y, generator) - 1) < 0.02


def test_labels_reach_the_model_as_given_and_each_picture_has_its_own_time(generator):
    seen = {}

    def model(xt, t, y):
        seen.update(t=t, y=y)
        return xt

    y = torch.arange(64) % 11
    diffusion_loss(model, DiffusionProcess(), torch.zeros(64, 3, 4, 4), y, generator)
    assert torch.equal(seen["y"], y) and len(seen["t"].unique()) > 48


@pytest.mark.parametrize("distribution", ["uniform", "logit-normal"])
def test_every_time_has_a_chance_and_none_is_outside(distribution, generator):
    t = draw_times(20_000, 20, distribution, generator)
    assert t.dtype == torch.int64 and t.bincount(minlength=20).min() > 0 and t.max() == 19
    if distribution == "uniform":
        assert (t.bincount() / 20_000 - 0.05).abs().max() < 0.008


def test_the_ends_of_logit_normal_times_are_seen_and_the_middle_more(generator):
    t = draw_times(200_000, 1000, "logit-normal", generator)
    assert t.bincount(minlength=1000).min() >= 5  # one in ten is uniform: 20 draws of each
    assert (t >= 950).float().mean() == pytest.approx(0.1 * 0.05 + 0.9 * 0.0016, abs=1e-3)
    assert ((t >= 250) & (t < 750)).float().mean() == pytest.approx(0.1 / 2 + 0.9 * 0.728, abs=0.01)


def test_velocity_weighting_measures_the_velocity(generator):
    """A model whose v is off by d everywhere has the loss d², whatever the time."""
    process = DiffusionProcess(10)
    x0 = torch.zeros(512, 1, 2, 2)
    y = torch.zeros(512, dtype=torch.int64)

    def off(xt, t, y):
        alpha_bar = process.alpha_bar[t].view(-1, 1, 1, 1)
        return process.predict_noise(xt, t, x0) + alpha_bar.sqrt() * 0.3

    loss = diffusion_loss(off, process, x0, y, generator, weighting="velocity").item()
    seen = (process.alpha_bar * 1000).clamp(max=1).mean().item()  # the last ᾱ is below 1 / 1000
    assert loss == pytest.approx(0.09 * seen, rel=0.02) and seen > 0.85
    plain = diffusion_loss(off, process, x0, y, generator).item()
    assert plain == pytest.approx(0.09 * process.alpha_bar.mean().item(), rel=0.1)
    weights = loss_weights(process.alpha_bar, "velocity")
    assert weights.max() == 1000 and torch.equal(loss_weights(weights), torch.ones(10))


def test_min_snr_counts_nearly_clean_pictures_less():
    alpha_bar = torch.tensor([0.999, 5 / 6, 0.5, 0.01])  # SNR 999, 5, 1, 0.0101
    weights = loss_weights(alpha_bar, "min-snr")
    assert torch.allclose(weights, torch.tensor([5 / 999, 1.0, 1.0, 1.0]), rtol=1e-3)


def test_labels_are_dropped_at_their_rate_one_coin_a_picture(generator):
    y = torch.arange(10_000) % 10
    dropped = drop_labels(y, 0.1, null_class=10, generator=generator)
    gone = dropped == 10
    assert abs(gone.float().mean() - 0.1) < 0.01
    assert torch.equal(dropped[~gone], y[~gone])
    rates = gone.view(100, 100).float().mean(1)
    assert 0.015 < rates.std() < 0.05  # binomial: 0.03; one coin a batch would give 0.3
    assert torch.equal(drop_labels(y, 0.0, null_class=10), y)
    assert (drop_labels(y, 1.0, null_class=10) == 10).all()
    with pytest.raises(ValueError, match=r"p is 1.5"):
        drop_labels(y, 1.5, null_class=10)


def test_ema_equals_its_closed_form():
    model = nn.Linear(1, 1, bias=False)
    model.register_buffer("seen", torch.zeros(1))
    model.register_buffer("count", torch.zeros((), dtype=torch.int64))
    nn.init.constant_(model.weight, 5.0)
    ema, values = EMA(model, decay=0.3), [1.0, -2.0, 4.0, 0.5, 3.0]
    for i, value in enumerate(values):
        nn.init.constant_(model.weight, value)
        model.seen.fill_(value + 1)
        model.count.fill_(i)
        ema.update(model)
    kept = [min(0.3, (1 + n) / (10 + n)) for n in range(5)]
    shares = [
        (1 - kept[n]) * torch.tensor(kept[n + 1 :], dtype=torch.float64).prod().item()
        for n in range(5)
    ]
    start = torch.tensor(kept, dtype=torch.float64).prod().item()
    expected = start * 5.0 + sum(s * v for s, v in zip(shares, values))
    assert ema.model.weight.item() == pytest.approx(expected, rel=1e-5)
    expected = start * 0.0 + sum(s * (v + 1) for s, v in zip(shares, values))
    assert ema.model.seen.item() == pytest.approx(expected, rel=1e-5)
    assert ema.model.count.item() == 4


def test_ema_is_a_copy_in_eval_mode_without_gradients(small_model):
    ema = EMA(small_model.train())
    assert not ema.model.training and small_model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    ema.update(small_model)
    for average, value in zip(ema.model.parameters(), small_model.parameters()):
        assert torch.allclose(average, value, atol=1e-6) and average is not value
    with pytest.raises(ValueError, match="decay is 1"):
        EMA(small_model, decay=1.0)


def test_early_averages_forget_the_random_start():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 100.0)
    ema = EMA(model, decay=0.9999)
    nn.init.constant_(model.weight, 1.0)
    for _ in range(100):
        ema.update(model)
    assert abs(ema.model.weight.item() - 1) < 0.01


def test_training_makes_the_asked_updates_over_as_many_epochs_as_needed(batches, short_process):
    state = fresh(TrainConfig(num_updates=8, precision="float32"))
    before = {n: p.clone() for n, p in state.model.named_parameters()}
    steps = list(train(state, short_process, batches))
    assert [step.index for step in steps] == list(range(8)) and state.index == 8
    assert all(step.loss.ndim == 0 and not step.loss.requires_grad for step in steps)
    assert len(state.losses) == 8 and state.ema.num_updates == 8
    moved = [n for n, p in state.model.named_parameters() if not torch.equal(p, before[n])]
    assert len(moved) == len(before) and list(train(state, short_process, batches)) == []


@pytest.mark.parametrize("num_updates", [1, 2, 3, 20, 40, 101])
def test_the_learning_rate_is_one_cycle_over_the_updates(num_updates):
    config = TrainConfig(num_updates=num_updates, learning_rate=1e-2)
    process, batch = DiffusionProcess(4), (torch.zeros(1, 3, 4, 4), torch.zeros(1).long())
    state = fresh(config, num_steps=4, channels=(4,), emb_dim=2)
    rates = [step.learning_rate for step in train(state, process, [batch])]
    assert len(rates) == num_updates
    assert state.scheduler.get_last_lr()[0] == rates[-1] or num_updates < 4  # no step past the end
    if num_updates >= 20:
        peak = rates.index(max(rates))
        assert max(rates) == pytest.approx(1e-2, rel=1e-2) and peak <= 0.1 * num_updates
        assert rates[:peak] == sorted(rates[:peak]) and rates[-1] < 1e-6
        assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_gradients_are_clipped(batches, short_process):
    state = fresh(TrainConfig(num_updates=1, max_grad_norm=1e-3, precision="float32"))
    list(train(state, short_process, batches))
    norms = torch.stack([p.grad.norm() for p in state.model.parameters()])
    assert norms.norm() <= 1.001e-3


def test_the_same_seed_trains_the_same_weights(batches, short_process):
    config = TrainConfig(num_updates=3, precision="float32")
    torch.manual_seed(5)
    one = fresh(config)
    first = [step.loss.item() for step in train(one, short_process, batches)]
    torch.manual_seed(6)  # the global generator plays no part
    two = fresh(config)
    assert first == [step.loss.item() for step in train(two, short_process, batches)]
    for a, b in zip(one.model.parameters(), two.model.parameters()):
        assert torch.equal(a, b)
    other = fresh(dataclasses.replace(config, seed=1))
    assert first != [step.loss.item() for step in train(other, short_process, batches)]


IMPOSSIBLE = [
    *(("num_updates", v, "from 1 to 10") for v in (0, -3, 2.5, "9", None, True, math.nan, 10**12)),
    *(("batch_size", v, "at least 1, such as 128") for v in (0, -1, 12.0, "64", None)),
    *(("seed", v, "a whole number from 0 to 9223372036854775807") for v in (-1, 2**63, 0.5, "0")),
    *(("learning_rate", v, "such as 2e-3") for v in (0, -1e-3, math.inf, math.nan, "1e-3")),
    *(("warmup", v, "from 0 to 1, a share of the updates") for v in (-0.1, 1.1, math.nan, None)),
    *(("betas", v, "two numbers from 0") for v in ((0.9,), (0.9, 1.0), 0.9, ("a", "b"), (1, 2, 3))),
    *(("weight_decay", v, "number of at least 0") for v in (-1, math.inf, "0")),
    *(("max_grad_norm", v, "such as 1.0") for v in (0, -1, math.nan)),
    *(("label_drop", v, "from 0 to 1, a probability") for v in (-0.1, 10, math.nan, "0.1", None)),
    *(("ema_decay", v, "from 0 to 0.999999, such as") for v in (1.0, 1, -0.5, math.nan)),
    *(("time_distribution", v, "one of uniform, logit-normal") for v in ("normal", None, 1)),
    *(("loss_weighting", v, "one of none, velocity, min-snr") for v in ("snr", None)),
    *(("precision", v, "one of auto, float32") for v in ("half", "bf16", 32)),
    *(("cuda_graphs", v, "True or False") for v in (1, "yes", None)),
    *(("cycle_start", v, "below num_updates") for v in (-1, 0.5, "0", 5_000)),
]


@pytest.mark.parametrize(("name", "value", "words"), IMPOSSIBLE)
def test_settings_that_cannot_be_are_refused(name, value, words):
    with pytest.raises(ValueError, match=re.escape(f"{name} is {value!r}; expected ")) as told:
        TrainConfig(**{name: value})
    assert words in str(told.value)


def test_a_presets_sizes_become_settings():
    config = TrainConfig.for_preset(PRESETS["cpu"], seed=4)
    assert (config.num_updates, config.batch_size, config.seed) == (200, 128, 4)
    assert TrainConfig.for_preset(PRESETS["cpu"], num_updates=7).num_updates == 7


def test_an_empty_loader_is_refused(short_process):
    with pytest.raises(ValueError, match="no batches"):
        next(train(fresh(TrainConfig(num_updates=1)), short_process, []))


LABELS = {  # that a network of two classes has no class for, and what makes a loader of them
    "1 and 2 in a plain list": lambda data: [(torch.zeros(2, 3, 32, 32), torch.tensor([1, 2]))],
    "1 and 2 in make_loader": lambda data: make_loader(data, 8),
    "1 and 2 in ResidentLoader": lambda data: ResidentLoader(data, 8),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_that_the_network_has_no_class_for_are_refused(kind, bundle, short_process):
    """2 is the null class, which the loop alone writes: it would train "no class" with birds."""
    data = type(bundle)(bundle.images[:40], bundle.labels[:40] % 2 + 1, ("a", "b"), "bundled")
    state = fresh(TrainConfig(num_updates=2), num_classes=2)
    message = r"from 1 to 2; expected 0 … 1, .*relabel=True.*subtract 1"
    with pytest.raises(ValueError, match=message):
        list(train(state, short_process, LABELS[kind](data)))
    assert state.index == 0 and state.whole


def test_a_network_without_a_null_class_and_a_loader_without_length_are_named(short_process):
    batch = (torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]))
    state = TrainState(nn.Conv2d(3, 3, 1), TrainConfig(num_updates=1))
    with pytest.raises(ValueError, match="has no null_class; expected one"):
        next(train(state, short_process, [batch]))
    with pytest.raises(ValueError, match=r"has no length.*expected at least one batch"):
        next(train(fresh(TrainConfig(num_updates=1)), short_process, iter([batch])))


def test_process_and_network_of_different_lengths_refuse_each_other(small_model, process):
    with pytest.raises(ValueError, match="num_steps=20, the process has 1000"):
        diffusion_loss(small_model, process, torch.zeros(1, 3, 32, 32), torch.tensor([0]))


def overfit(bundle, model, process, updates):
    """The noise error, over many draws, of a network that saw 16 pictures again and again."""
    x0, y = torch.stack([bundle[i][0] for i in range(16)]), bundle.labels[:16]
    config = TrainConfig(num_updates=updates, batch_size=16)
    state = TrainState(model, config)
    for _ in train(state, process, [(x0, y)]):
        pass
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        losses = [diffusion_loss(state.model, process, x0, y, generator) for _ in range(50)]
    return torch.stack(losses).mean().item()


def test_a_small_network_learns_a_batch(bundle):
    """The quick form of the next test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ConditionalUNet(channels=(32, 48), emb_dim=64)
    assert overfit(bundle, model, DiffusionProcess(), 150) < 0.20  # it starts near 0.45


@pytest.mark.slow
def test_one_batch_is_overfitted(bundle):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ConditionalUNet()
    assert overfit(bundle, model, DiffusionProcess(), 450) < 0.10
