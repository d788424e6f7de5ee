"""Answers to notebook 05's exercises."""

import copy
import math

import torch
import torch.nn.functional as F

from cdiff_helpers import training
from instructor.mutants import right, right_value, wrong, wrong_value


@wrong("x0_loss", "noise_as_target")
def _(model, process, x0, y, t, noise):
    xt, noise = process.add_noise(x0, t, noise)
    return F.mse_loss(model(xt, t, y), noise)


@wrong("x0_loss", "noisy_as_target")
def _(model, process, x0, y, t, noise):
    xt, _ = process.add_noise(x0, t, noise)
    return F.mse_loss(model(xt, t, y), xt)


@wrong("x0_loss", "sees_the_clean_one")
def _(model, process, x0, y, t, noise):
    return F.mse_loss(model(x0, t, y), x0)


@wrong("x0_loss", "summed")
def _(model, process, x0, y, t, noise):
    xt, _ = process.add_noise(x0, t, noise)
    return F.mse_loss(model(xt, t, y), x0, reduction="sum")


@wrong("x0_loss", "not_squared")
def _(model, process, x0, y, t, noise):
    xt, _ = process.add_noise(x0, t, noise)
    return F.l1_loss(model(xt, t, y), x0)


@right("x0_loss")
def _(model, process, x0, y, t, noise):
    kept = process.alpha_bar[t][:, None, None, None]
    error = model(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, t, y) - x0
    return (error**2).mean(dim=(1, 2, 3)).mean()


@right("x0_loss")
def _(model, process, x0, y, t, noise):
    xt, _ = process.add_noise(x0, t, noise)
    return torch.dist(model(xt, t, y), x0) ** 2 / x0.numel()


@wrong("dropped", "inverted")
def _(y, coins, p, null_class):
    return torch.where(coins < p[y], y, null_class)


@wrong("dropped", "inverted")
def _(y, coins, p, null_class):
    return y * (coins < p[y])


@wrong("dropped", "one_coin")
def _(y, coins, p, null_class):
    return torch.full_like(y, null_class) if coins[0] < p[y[0]] else y


@wrong("dropped", "class_zero")
def _(y, coins, p, null_class):
    return torch.where(coins < p[y], 0, y)


@wrong("dropped", "class_zero")
def _(y, coins, p, null_class):
    return y * (coins >= p[y])


@wrong("dropped", "typed_ten")
def _(y, coins, p, null_class):
    return torch.where(coins < p[y], 10, y)


@wrong("dropped", "by_place")
def _(y, coins, p, null_class):
    return torch.where(coins < p, null_class, y)


@wrong("dropped", "removed")
def _(y, coins, p, null_class):
    return y[coins >= p[y]]


@right("dropped")
def _(y, coins, p, null_class):
    kept = y.clone()
    kept[coins < p.gather(0, y)] = null_class
    return kept


@right("dropped")
def _(y, coins, p, null_class):
    pairs = zip(y.tolist(), coins.tolist())
    return [null_class if coin < p[label] else label for label, coin in pairs]


wrong_value("half_life", "memory_length", 1000)
wrong_value("half_life", "linear", 500)
wrong_value("half_life", "logarithm_to_ten", math.log10(0.5) / math.log(0.999))
wrong_value("half_life", "upside_down", math.log(0.999) / math.log(0.5))
wrong_value("half_life", "per_cent", 69)
right_value("half_life", 693)
right_value("half_life", next(n for n in range(1000) if 0.999**n <= 0.5))


@wrong("accumulate", "summed")
def _(model, loss, batches):
    model.zero_grad()
    for x, y in batches:
        loss(model, x, y).backward()


@wrong("accumulate", "parts_equal")
def _(model, loss, batches):
    model.zero_grad()
    for x, y in batches:
        (loss(model, x, y) / len(batches)).backward()


@wrong("accumulate", "last_only")
def _(model, loss, batches):
    for x, y in batches:
        model.zero_grad()
        loss(model, x, y).backward()


@wrong("accumulate", "first_only")
def _(model, loss, batches):
    model.zero_grad()
    for x, y in batches:
        loss(model, x, y).backward()
        return


@wrong("accumulate", "old_gradient")
def _(model, loss, batches):
    count = sum(len(x) for x, _ in batches)
    for x, y in batches:
        (loss(model, x, y) * len(x) / count).backward()


@right("accumulate")
def _(model, loss, batches):
    count = sum(len(x) for x, _ in batches)
    total = [torch.zeros_like(p) for p in model.parameters()]
    for x, y in batches:
        own = torch.autograd.grad(loss(model, x, y), list(model.parameters()))
        total = [t + len(x) / count * g for t, g in zip(total, own)]
    for parameter, gradient in zip(model.parameters(), total):
        parameter.grad = gradient


@right("accumulate")
def _(model, loss, batches):
    for parameter in model.parameters():
        parameter.grad = None
    count = sum(len(y) for _, y in batches)
    for x, y in batches:
        (loss(model, x, y) * (len(y) / count)).backward()


@wrong("update_order", "clip_before_backward")
def _(zero_grad, backward, clip, step, schedule):
    zero_grad()
    clip()
    backward()
    step()
    schedule()


@wrong("update_order", "clip_after_step")
def _(zero_grad, backward, clip, step, schedule):
    zero_grad()
    backward()
    step()
    clip()
    schedule()


@wrong("update_order", "erased")
def _(zero_grad, backward, clip, step, schedule):
    backward()
    zero_grad()
    clip()
    step()
    schedule()


@wrong("update_order", "never_emptied")
def _(zero_grad, backward, clip, step, schedule):
    backward()
    clip()
    step()
    schedule()


@wrong("update_order", "schedule_first")
def _(zero_grad, backward, clip, step, schedule):
    zero_grad()
    backward()
    clip()
    schedule()
    step()


@right("update_order")
def _(zero_grad, backward, clip, step, schedule):
    for act in (backward, clip, step, schedule, zero_grad):
        act()


@right("update_order")
def _(zero_grad, backward, clip, step, schedule):
    _ = zero_grad(), backward(), clip(), step(), schedule()


@wrong("drop_labels", "inverted")
def _(y, p=0.1, *, null_class, generator=None):
    return torch.where(torch.rand(y.shape, generator=generator) < p, y, null_class)


@wrong("drop_labels", "one_coin")
def _(y, p=0.1, *, null_class, generator=None):
    return torch.where(torch.rand(1, generator=generator) < p, null_class, y)


@wrong("drop_labels", "class_zero")
def _(y, p=0.1, *, null_class, generator=None):
    return torch.where(torch.rand(y.shape, generator=generator) < p, 0, y)


@wrong("drop_labels", "never")
def _(y, p=0.1, *, null_class, generator=None):
    return torch.where(torch.randn(y.shape, generator=generator) > 99, null_class, y)


@right("drop_labels")
def _(y, p=0.1, *, null_class, generator=None):
    lost = torch.bernoulli(torch.full(y.shape, p), generator=generator).bool()
    return y.masked_fill(lost, null_class)


right_value("drop_labels", training.drop_labels)


def a_loss(lowest=0, highest=4, *, fresh=False, single=False, reduction="mean"):
    """The notebook's loss, with a mistake."""

    def loss(model, process, x0, y, generator=None):
        count = 1 if single else len(x0)
        t = torch.randint(lowest, highest, (count,), generator=generator).expand(len(x0))
        xt, noise = process.add_noise(x0, t, generator=generator)
        noise = torch.randn(x0.shape, generator=generator) if fresh else noise
        return F.mse_loss(model(xt, t, y), noise, reduction=reduction)

    return loss


wrong_value("diffusion_loss", "fresh_target", a_loss(fresh=True))
wrong_value("diffusion_loss", "one_time", a_loss(single=True))
wrong_value("diffusion_loss", "no_last", a_loss(highest=3))
wrong_value("diffusion_loss", "no_first", a_loss(lowest=1))
wrong_value("diffusion_loss", "summed", a_loss(reduction="sum"))
right_value("diffusion_loss", training.diffusion_loss)
right_value("diffusion_loss", a_loss())


class Average:
    """An EMA whose share is a function of the update's number, buffers copied."""

    def __init__(self, model, decay=0.999, share=lambda n, decay: min(decay, (1 + n) / (10 + n))):
        self.model, self.decay, self.share = (
            copy.deepcopy(model).requires_grad_(False),
            decay,
            share,
        )
        self.n = 0

    @torch.no_grad()
    def update(self, model):
        kept = self.share(self.n, self.decay)
        self.n += 1
        for mine, theirs in zip(self.model.parameters(), model.parameters()):
            mine.mul_(kept).add_((1 - kept) * theirs)
        self.model.load_state_dict(model.state_dict() | dict(self.model.named_parameters()))


@wrong("EMA", "no_warm_up")
def _(model, decay):
    return Average(model, decay, lambda n, decay: decay)


@wrong("EMA", "swapped")
def _(model, decay):
    return Average(model, decay, lambda n, decay: 1 - min(decay, (1 + n) / (10 + n)))


@wrong("EMA", "same_network")
def _(model, decay):
    average = Average(model, decay)
    average.model = model
    return average


@wrong("EMA", "buffers_forgotten")
class Forgetful(Average):
    @torch.no_grad()
    def update(self, model):
        before = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        super().update(model)
        for name, buffer in self.model.named_buffers():
            buffer.copy_(before[name])


right_value("EMA", training.EMA)
right_value("EMA", Average)
