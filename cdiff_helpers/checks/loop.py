"""Checks of notebook 05's exercises: the training loop."""

import math

import torch
from torch import Tensor, nn

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


class Recorder:
    """A model that remembers what it was asked, and answers by half its input plus the class."""

    def __init__(self):
        self.asked = []

    def __call__(self, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.asked.append((xt, t, y))
        return 0.5 * xt + y.view(-1, 1, 1, 1)


@exercise(
    notebook="05",
    kind="build",
    points=3,
    minutes=12,
    signature="x0_loss(model, process, x0: (B, C, H, W), y: (B,), t: (B,), noise) -> scalar",
    misconceptions={
        "noise_as_target": (
            "You compare with the noise. This network says the clean picture, so the target is x₀."
        ),
        "noisy_as_target": "You compare with x_t. What should the network have said?",
        "sees_the_clean_one": (
            "The network sees x₀ itself, so it only has to copy. It is to see x_t, the noisy one."
        ),
        "summed": "You sum the squared errors. Their mean does not depend on the batch's size.",
        "not_squared": "You average distances, not their squares.",
    },
    praise="Right: look at x_t, say x₀, and be measured by the mean squared error.",
)
def x0_loss(answer) -> None:
    """mean((model(x_t, t, y) - x_0)²)."""
    process, generator = DiffusionProcess(40), torch.Generator().manual_seed(0)
    for b, c, h, w in ((4, 3, 4, 4), (3, 2, 4, 5)):
        x0, noise = torch.randn(2, b, c, h, w, generator=generator)
        t, y = torch.tensor([3, 12, 25, 38])[:b], torch.tensor([1, 0, 2, 3])[:b]
        model = Recorder()
        xt, _ = process.add_noise(x0, t, noise)
        said, seen_clean = 0.5 * xt + y.view(-1, 1, 1, 1), 0.5 * x0 + y.view(-1, 1, 1, 1)
        with untouched(x0, noise, t, y):
            value = call_tensor(answer, model, process, x0, y, t, noise, shape=())
        if not model.asked:
            raise Wrong("your loss never asks the model.")
        wanted = (said - x0).square().mean()
        mistakes = {
            "noise_as_target": (said - noise).square().mean(),
            "noisy_as_target": (said - xt).square().mean(),
            "sees_the_clean_one": (seen_clean - x0).square().mean(),
            "summed": (said - x0).square().sum(),
            "not_squared": (said - x0).abs().mean(),
        }
        diagnose(value, wanted, mistakes)


@exercise(
    notebook="05",
    kind="bug",
    points=2,
    minutes=8,
    signature="dropped(y: int64 (B,), coins: (B,), p: (C,), null_class: int) -> int64 (B,)",
    misconceptions={
        "inverted": (
            "The wrong labels are lost: a coin *below* its share drops the label, the others stay."
        ),
        "one_coin": (
            "One coin decides for the whole batch, so a network sees batches with classes and "
            "batches without, never both in one. Each label has its own coin."
        ),
        "class_zero": (
            "Dropped labels become 0, and 0 is a class: airplanes would stand for nothing. Use "
            "null_class."
        ),
        "removed": "The dropped labels are gone, and the batch no longer fits its pictures.",
        "by_place": (
            "Label number i is compared with share number i. The share is that of its *class*: "
            "p[y]."
        ),
        "typed_ten": (
            "Dropped labels become 10 whatever null_class is. Ten is right for CIFAR-10 alone: use "
            "the argument."
        ),
    },
    praise="Right: one coin a label, its own class's share, and the null class where it falls.",
)
def dropped(answer) -> None:
    """where(coins < p[y], null_class, y)."""
    y, coins = torch.tensor([3, 0, 4, 2, 1]), torch.tensor([0.05, 0.5, 0.95, 0.35, 0.2])
    zero, ten = torch.tensor(0), torch.tensor(10)
    for shares, null_class in (([0.3, 0.1, 0.4, 0.2, 0.9], 12), ([0.6, 0.9, 0.1, 0.0, 0.2], 5)):
        p = torch.tensor(shares)
        low = coins < p[y]
        with untouched(y, coins, p):
            value = torch.as_tensor(call(answer, y, coins, p, null_class))
        if value.shape != y.shape:
            raise Misconception("removed")
        mistakes = {
            "inverted": torch.where(low, y, null_class),
            "class_zero": y.where(~low, zero),
            "typed_ten": y.where(~low, ten),
            "by_place": torch.where(coins < p, null_class, y),
            "one_coin": torch.full_like(y, null_class) if low[0] else y,
        }
        if torch.equal(value, y.where(low, zero)):
            raise Misconception("inverted")
        diagnose(value, torch.where(low, null_class, y), mistakes, tolerance=0)


@exercise(
    notebook="05",
    kind="predict",
    points=2,
    minutes=8,
    signature="half_life = number of updates",
    misconceptions={
        "memory_length": (
            "1 / (1 - decay) = 1,000 updates is how far back the average reaches; after them a "
            "weight still counts 37 %, not half."
        ),
        "linear": (
            "You let a weight lose a thousandth of its *first* share each time. It loses a "
            "thousandth of what is left: a power."
        ),
        "logarithm_to_ten": "That is log₁₀ for the half, with ln below it. Use one logarithm.",
        "upside_down": "You divided the two logarithms the wrong way round.",
        "per_cent": "That would be right for a decay of 0.99; this one is 0.999.",
    },
    praise="Right: 0.999 to the 693rd is one half. So a short run needs the warm-up.",
)
def half_life(answer) -> None:
    """ln ½ / ln 0.999 = 692.8."""
    value, wanted = number(answer), math.log(0.5) / math.log(0.999)
    mistakes = {
        "memory_length": 1000,
        "linear": 500,
        "logarithm_to_ten": math.log10(0.5) / math.log(0.999),
        "per_cent": math.log(0.5) / math.log(0.99),
    }
    for key, mistaken in mistakes.items():
        if abs(value - mistaken) <= 1:
            raise Misconception(key)
    if abs(value - 1 / wanted) < 1e-3:
        raise Misconception("upside_down")
    if abs(value - wanted) > 1:
        raise Wrong(f"Not {value:g}. After n updates an old weight counts 0.999ⁿ: when is that ½?")


@exercise(
    notebook="05",
    kind="build",
    points=4,
    minutes=15,
    signature="accumulate(model, loss, batches) -> None; the gradient lies in the parameters",
    misconceptions={
        "summed": (
            "Your gradient grows with the number of parts: the loss is a mean, so the parts' "
            "gradients have to be averaged."
        ),
        "parts_equal": (
            "You count each part alike. The last part is smaller: a picture there counts too much. "
            "Weigh each part by its share of the pictures."
        ),
        "last_only": "Only the last part's gradient is left: something empties the others.",
        "first_only": "Only the first part was used. Is there a return inside the loop?",
        "old_gradient": (
            "What lay in .grad before is still in it. Empty the gradients once, before the first "
            "part."
        ),
    },
    praise="Right: the gradient of the whole batch, with the memory of one part.",
)
def accumulate(answer) -> None:
    """Gradients of parts, weighted by their share, equal the whole batch's."""
    x, y = torch.linspace(-1, 2, 10, dtype=torch.float64).view(10, 1), torch.arange(10.0).double()
    sizes = [4, 4, 2]
    parts = list(zip(x.split(sizes), y.split(sizes)))

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return (model(x)[:, 0] - y).square().mean()

    def gradient(*weighted) -> Tensor:
        model = line()
        sum(share * loss(model, *part) for share, part in weighted).backward()
        assert model.weight.grad is not None
        return model.weight.grad.clone()

    model = line()
    model.weight.grad = torch.full_like(model.weight, 100.0)  # of an update before
    try:
        answer(model, loss, parts)
    except NotImplementedError:
        call(answer, model, loss, parts)  # says that there is a gap
    except Exception as error:
        raise Wrong(f"your function raised {type(error).__name__}: {error}") from error
    if model.weight.grad is None:
        raise Wrong("there is no gradient in the parameters. Did you call backward()?")
    wanted = gradient((1, (x, y)))
    mistakes = {
        "summed": gradient(*((1, part) for part in parts)),
        "parts_equal": gradient(*((1 / 3, part) for part in parts)),
    }
    for share in (1, 1 / 3, 0.2, 0.4):
        for key, part in (("last_only", parts[-1]), ("first_only", parts[0])):
            if close(model.weight.grad, gradient((share, part))):
                raise Misconception(key)
    for value in (wanted, *mistakes.values()):
        if close(model.weight.grad, value + 100):
            raise Misconception("old_gradient")
    diagnose(model.weight.grad, wanted, mistakes)


def line() -> nn.Linear:
    """A network with one weight of 0.5, in float64."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(model.weight, 0.5)
    return model


CALLS = ("zero_grad", "backward", "clip", "step", "schedule")


@exercise(
    notebook="05",
    kind="bug",
    points=3,
    minutes=10,
    signature="update_order(zero_grad, backward, clip, step, schedule) -> None; calls each once",
    misconceptions={
        "clip_before_backward": (
            "You clip before there is a gradient: backward() makes it, so clip after it."
        ),
        "clip_after_step": "You clip after the weights have moved; the step uses the gradient.",
        "erased": (
            "You empty the gradient between backward() and the step: the optimiser finds nothing."
        ),
        "never_emptied": "The gradients are never emptied: each update adds to all before it.",
        "schedule_first": (
            "The schedule moves on before the optimiser's step, so its first learning rate is "
            "never used. PyTorch warns of it."
        ),
    },
    praise="Right: empty, backward, clip, step, and only then the next learning rate.",
)
def update_order(answer) -> None:
    """zero_grad … backward, clip, step, schedule; zero_grad may also come last of all."""
    calls = []
    steps = [lambda name=name: calls.append(name) for name in CALLS]
    try:
        answer(*steps)
        answer(*steps)
    except NotImplementedError:
        call(answer, *steps)
    except Exception as error:
        raise Wrong(f"your function raised {type(error).__name__}: {error}") from error
    if "zero_grad" not in calls:
        raise Misconception("never_emptied")
    half = calls[: len(calls) // 2]
    if sorted(half) != sorted(CALLS):
        raise Wrong(f"you call {', '.join(half) or 'nothing'}; each of the five is called once.")
    at = {name: half.index(name) for name in CALLS}
    for key, first, second in (
        ("clip_before_backward", "backward", "clip"),
        ("clip_after_step", "clip", "step"),
        ("schedule_first", "step", "schedule"),
    ):
        if at[first] > at[second]:
            raise Misconception(key)
    if at["backward"] < at["zero_grad"] < at["step"]:
        raise Misconception("erased")


@exercise(
    notebook="05",
    kind="taught",
    points=2,
    minutes=8,
    signature="drop_labels(y, p, *, null_class, generator=None) -> int64 (B,)",
    misconceptions={
        "inverted": "Most labels are lost, a few are kept: the mask is the wrong way round.",
        "one_coin": "All labels of a batch share one fate. Draw one coin for each.",
        "class_zero": "Dropped labels became 0, which is a class. Use null_class.",
        "never": "No label is dropped.",
    },
    praise="Right: about p of the labels, each by its own coin.",
)
def drop_labels(answer) -> None:
    """Of 20,000 labels a share p becomes the null class, independently."""
    y = torch.arange(20_000) % 9 + 1
    shares = []
    for seed in (0, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        with untouched(y):
            value = call(answer, y, 0.1, null_class=10, generator=generator)
        if (value == 0).any():
            raise Misconception("class_zero")
        gone = value == 10
        if not torch.equal(value[~gone], y[~gone]):
            raise Wrong("some of the labels that are kept are not what they were.")
        shares.append(gone.double().mean().item())
    if all(share in (0.0, 1.0) for share in shares):
        raise Misconception("never" if lasting(answer) else "one_coin")
    if all(abs(share - 0.9) < 0.02 for share in shares):
        raise Misconception("inverted")
    if not all(abs(share - 0.1) < 0.02 for share in shares):
        raise Wrong(f"of 20,000 labels at p = 0.1 you drop {shares[0]:.3f}.")


def lasting(answer) -> bool:
    """Whether labels survive even p = 1."""
    return bool((call(answer, torch.ones(9).long(), 1.0, null_class=10) == 1).any())


@exercise(
    notebook="05",
    kind="taught",
    points=3,
    minutes=12,
    signature="diffusion_loss(model, process, x0, y, generator=None) -> scalar",
    misconceptions={
        "fresh_target": (
            "You compare with noise drawn anew, which the network cannot know. The target is the "
            "noise that went into x_t."
        ),
        "one_time": "The whole batch has one time. Draw one for each picture.",
        "no_last": "The last time T-1 is never drawn: randint's upper end does not count.",
        "no_first": "The time 0 is never drawn; times run over 0 … T-1.",
        "summed": "You sum the squared errors; the mean does not depend on the batch's size.",
    },
    praise="Right: a time for each picture, and the noise itself as the target.",
)
def diffusion_loss(answer) -> None:
    """A network that knows the noise has loss 0, a silent one 1; every time has its chance."""
    process, x0 = DiffusionProcess(4), torch.zeros(2_000, 1, 2, 2)
    y, times = torch.zeros(2_000).long(), []

    def knowing(xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        times.append(t)
        return xt / (1 - process.alpha_bar[t]).sqrt().view(-1, 1, 1, 1)  # x0 is 0

    exact, silent = (
        float(
            call_tensor(answer, model, process, x0, y, torch.Generator().manual_seed(0), shape=())
        )
        for model in (knowing, lambda xt, t, y: 0 * xt)
    )
    drawn = times[0].unique().tolist()
    if abs(exact) > 1e-3:
        raise Misconception("fresh_target")
    if silent > 100:
        raise Misconception("summed")
    if len(drawn) == 1:
        raise Misconception("one_time")
    if 3 not in drawn:
        raise Misconception("no_last")
    if 0 not in drawn:
        raise Misconception("no_first")
    if abs(silent - 1) > 0.1:
        raise Wrong(f"a silent network has the loss {silent:.2f}; the noise's variance is 1.")


@exercise(
    notebook="05",
    kind="taught",
    points=3,
    minutes=12,
    signature="EMA(model, decay); .update(model); .model",
    misconceptions={
        "no_warm_up": (
            "The random start keeps 0.999 of the average at once. Early updates keep only "
            "(1 + n) / (10 + n)."
        ),
        "swapped": "You keep 1 - decay of the average; the newest weights are to count little.",
        "same_network": "The average is the model itself, not a copy: both move together.",
        "buffers_forgotten": "The buffers keep their first values; average or copy them, too.",
    },
    praise="Right: with its warm-up, on a copy, buffers included.",
)
def EMA(answer) -> None:
    """The closed form of the warm-up's first updates, on a weight and a buffer."""
    model = nn.BatchNorm1d(1)
    average, wanted, plain, turned = call(answer, model, decay=0.999), 1.0, 1.0, 1.0
    for n, weight in enumerate((2.0, 3.0, 5.0)):
        nn.init.constant_(model.weight, weight)
        assert model.running_mean is not None
        model.running_mean.fill_(weight - 1)
        average.update(model)
        kept = min(0.999, (1 + n) / (10 + n))
        wanted = kept * wanted + (1 - kept) * weight
        plain = 0.999 * plain + 0.001 * weight
        turned = (1 - kept) * turned + kept * weight
    if average.model is model or close(average.model.weight, 5.0 * torch.ones(1)):
        raise Misconception("same_network")
    mistakes = {
        "no_warm_up": torch.tensor([plain]),
        "swapped": torch.tensor([turned]),
    }
    diagnose(average.model.weight.detach(), torch.tensor([wanted]), mistakes)
    if close(average.model.running_mean, torch.zeros(1)):
        raise Misconception("buffers_forgotten")
