"""Hidden checks of notebook 05."""

import torch
from torch import nn

from cdiff_helpers.checks.verdict import Wrong, call, call_tensor, diagnose
from cdiff_helpers.diffusion import DiffusionProcess

from .draws import normal, share, whole


def x0_loss(answer, generator) -> None:
    process, b = DiffusionProcess(whole(generator, 10, 60)), whole(generator, 1, 5)
    x0, noise = (normal(generator, b, 2, 3, 4).float() for _ in range(2))
    t = torch.randint(0, process.num_steps, (b,), generator=generator)
    y = torch.randint(0, 9, (b,), generator=generator)
    knob = share(generator)

    def model(xt, t, y):
        return knob * xt + (t + y).view(-1, 1, 1, 1)

    error = model(process.add_noise(x0, t, noise)[0], t, y) - x0
    value = call_tensor(answer, model, process, x0, y, t, noise, shape=())
    diagnose(value, error.square().mean(), {}, 1e-3)


def dropped(answer, generator) -> None:
    b, p = whole(generator, 5, 40), torch.rand(7, generator=generator)
    y = torch.randint(0, 7, (b,), generator=generator)
    coins = torch.rand(b, generator=generator)
    wanted = [13 if c < p[k] else k for c, k in zip(coins.tolist(), y.tolist())]
    value = torch.as_tensor(call(answer, y, coins, p, 13))
    if value.tolist() != wanted:
        raise Wrong(f"of {b} labels of 7 classes others are dropped.")


def accumulate(answer, generator) -> None:
    sizes = [whole(generator, 1, 7) for _ in range(whole(generator, 1, 4))]
    x, y = normal(generator, sum(sizes), 3), normal(generator, sum(sizes))
    model = nn.Linear(3, 1, dtype=torch.float64)

    def loss(model, x, y):
        return (model(x)[:, 0] - y).abs().mean()

    wanted = torch.autograd.grad(loss(model, x, y), list(model.parameters()))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    answer(model, loss, list(zip(x.split(sizes), y.split(sizes))))
    for parameter, gradient in zip(model.parameters(), wanted):
        diagnose(parameter.grad, gradient, {})


def update_order(answer, generator) -> None:
    """With a real optimiser: two updates move the weights as they should."""
    start = normal(generator, 2)
    moved = []
    for act in (answer, ordered):
        weight = nn.Parameter(start.clone())
        optimizer = torch.optim.SGD([weight], lr=0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for _ in range(3):
            act(
                optimizer.zero_grad,
                lambda weight=weight: (weight**4).sum().backward(),
                lambda weight=weight: nn.utils.clip_grad_norm_(weight, 0.5),
                optimizer.step,
                schedule.step,
            )
        moved.append(weight.detach())
    diagnose(moved[0], moved[1], {})


def ordered(zero_grad, backward, clip, step, schedule) -> None:
    """The five calls in their order."""
    for act in (zero_grad, backward, clip, step, schedule):
        act()


HIDDEN = {
    "x0_loss": x0_loss,
    "dropped": dropped,
    "accumulate": accumulate,
    "update_order": update_order,
}
