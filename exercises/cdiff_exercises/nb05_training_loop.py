"""Trials of notebook 05: the training loop."""

import math
import warnings
import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cdiff_exercises.answer import Wrong, gradient
from cdiff_exercises.room import exercise
from cdiff_helpers.diffusion import DiffusionProcess


class Tiny(nn.Module):
    """A network of three weights that counts how often it is asked."""

    def __init__(self, draw):
        super().__init__()
        self.weights, self.asked = nn.Parameter(0.5 + draw.uniform(3).float()), 0

    def forward(self, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """A share of the image, and a number for each image."""
        if not isinstance(xt, Tensor):
            raise TypeError(f"the network was given a {type(xt).__name__} for x_t, not a tensor")
        self.asked += 1
        image, timestep, label = self.weights
        return image * xt + (timestep * t / 20 + label * y).view(-1, 1, 1, 1)


def no_backward(*parameters: Tensor) -> None:
    """Raise Wrong where a loss has gone backward itself."""
    if any(each.grad is not None for each in parameters):
        raise Wrong("return the loss; backward() is the training loop's business.", "backward")


@exercise("build", points=3, minutes=12)
def x0_loss(answer, draw):
    """x0_loss(model, process, x0: (B, C, H, W), y: (B,), t: int64 (B,), noise) -> scalar"""
    for b, c, h, w in ((4, 3, 4, 4), (1, 2, 4, 5), (draw.whole(2, 6), 1, 3, 2)):
        network, process = Tiny(draw), DiffusionProcess(draw.whole(20, 60))
        x0, noise = draw.normal(b, c, h, w).float(), draw.normal(b, c, h, w).float()
        asked = network, process, x0, draw.labels(b), draw.labels(b, process.num_steps), noise
        loss, again = answer(*asked, shape=()), answer(*asked, shape=())
        if not network.asked:
            raise Wrong("your loss never asks the network.", "never asks")
        no_backward(network.weights)
        if not torch.equal(loss, again):
            raise Wrong("the same arguments give another loss each time.", "random")
        yield f"the loss of {b} images, {w} pixels wide", loss
        yield f"its gradient for {b} images", gradient(loss, network.weights)


@exercise("bug", points=2, minutes=8)
def dropped(answer, draw):
    """dropped(y: int64 (B,), coins: (B,), p: (C,), null_class: int) -> int64 (B,)"""
    coins = torch.tensor([0.2, 0.5, 0.95, 0.35, 0.05, 0.0])  # the first and the last are ties
    shares = torch.tensor([0.3, 0.1, 0.4, 0.2, 0.9, 0.0])
    cases = [(torch.tensor([3, 0, 4, 2, 1, 5]), coins, shares, 12)]
    for b, classes in ((12, 4), (1, 3), (draw.whole(20, 60), draw.whole(5, 9))):
        shares = 0.2 + 0.6 * draw.uniform(classes)
        cases += [(draw.labels(b, classes), draw.uniform(b), shares, classes + draw.whole(2, 5))]
    for y, coins, p, null_class in cases:
        value = answer(y, coins, p, null_class, shape=y.shape, dtype="int64")
        yield f"the result for {len(y)} labels of {len(p)} classes", value, 0


@exercise("predict", points=2, minutes=8)
def half_life(answer, draw):
    """half_life = number of updates"""
    (value,) = answer.number()
    yield "the number of updates", round(value, 0 if abs(value) > 1 else 4)


class Part:
    """A part of a batch, alive as long as a graph holds on to what backward() needs of it."""

    def __init__(self, images: int):
        self.images = images


class Waiting:
    """The mean of squared errors, which counts the images whose graphs lie in memory at once."""

    def __init__(self):
        self.parts, self.most = weakref.WeakSet(), 0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        self.parts.add(part := Part(len(x)))
        hooks = torch.autograd.graph.saved_tensors_hooks
        with hooks(lambda saved: (part, saved), lambda pair: pair[1]):
            value = (model(x)[:, 0] - y).square().mean()
        self.most = max(self.most, sum(each.images for each in self.parts))
        return value


@exercise("build", points=4, minutes=15)
def accumulate(answer, draw):
    """accumulate(model, loss, batches: list of (x, y)) -> None; the gradient is left in .grad"""
    unequal = [draw.whole(4, 8) for _ in range(draw.whole(2, 4))] + [draw.whole(1, 3)]
    for sizes, before in (([3, 3, 3], None), ([4, 4, 2], 100.0), (unequal, draw.number(1, 9))):
        model, loss = nn.Linear(2, 1, dtype=torch.float64), Waiting()
        x, y, start = draw.normal(sum(sizes), 2), draw.normal(sum(sizes)), draw.normal(3)
        nn.utils.vector_to_parameters(start.clone(), parameters := list(model.parameters()))
        for each in parameters:
            each.grad = None if before is None else torch.full_like(each, before)
        batches = list(zip(x.split(sizes), y.split(sizes)))
        answer.ask(answer.value, model, loss, batches, nothing=True)
        if any(each.grad is None for each in parameters):
            raise Wrong("no gradient was added to the parameters' .grad.", "no gradient")
        if not torch.equal(nn.utils.parameters_to_vector(parameters), start):
            raise Wrong("your function changes the weights, too.", "changes weights")
        if not all(each.requires_grad for each in parameters):
            sentence = "your function leaves parameters that no longer require a gradient."
            raise Wrong(sentence, "requires no gradient")
        parts = f"parts of {', '.join(map(str, sizes))}"
        grads = answer.tensor(torch.cat([each.grad.flatten() for each in parameters]))
        yield f"the gradient for {parts}", grads
        most = math.ceil(loss.most / max(sizes))  # half a part is no less than one
        yield f"how many parts lie in memory at once, at most, with {parts},", most, 0


@exercise("bug", points=3, minutes=10)
def update_order(answer, draw):
    """update_order(backward, clip, schedule, step, zero_grad) -> None; it calls each once"""
    weights = nn.Parameter(1 + draw.uniform(2))
    optimizer = torch.optim.SGD([weights], lr=draw.number(0.02, 0.04))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    calls, lengths, rates = [], [], []
    acts = {  # as they are given, by the alphabet
        "backward": lambda: (weights**4).sum().backward(),
        "clip": lambda: lengths.append(nn.utils.clip_grad_norm_(weights, 0.5)),
        "schedule": schedule.step,
        "step": lambda: [rates.append(schedule.get_last_lr()[0]), optimizer.step()],
        "zero_grad": optimizer.zero_grad,
    }

    def recorded(name: str) -> Callable:
        return lambda: acts[calls.append(name) or name]()

    for _ in range(3):
        calls.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of a schedule that comes too early
            answer.ask(answer.value, *map(recorded, acts), nothing=True)
        if sorted(calls) != sorted(acts):
            made = ", ".join(calls) or "nothing"
            sentence = f"in one update you call {made}; each of the five is called once."
            raise Wrong(sentence, f"calls {' '.join(sorted(calls))}")
    yield "the learning rate that the third step uses", rates[2], 1e-5
    yield "the length of the gradient that the third clip finds", lengths[2]
    yield "the network's weights after three updates", weights


@exercise("taught", points=2, minutes=8)
def drop_labels(answer, draw):
    """drop_labels(y: int64 (B,), p, *, null_class, generator=None) -> int64 (B,)"""
    y, seed = torch.arange(20_000) % 9 + 1, draw.whole(0, 2**31)
    gone, first, again, other = (
        answer(y, p, null_class=12, generator=each, shape=y.shape, dtype="int64")
        for p, add in ((1.0, 0), (0.1, 0), (0.1, 0), (0.1, 1))
        for each in [torch.Generator().manual_seed(seed + add)]
    )
    yield "the share of dropped labels at p = 1", share(gone == 12), 0.01
    if share(first != y) in (0, 1):
        raise Wrong("all labels of a batch share one fate at p = 0.1.", "one fate")
    yield "the share of dropped labels at p = 0.1", share(first == 12), 0.01
    yield "the share of labels that stay as they were", share(first == y), 0.006
    yield "the lowest and the highest label", torch.stack([first.min(), first.max()]), 0
    yield "the share of labels that fare alike with one seed", share(first == again)
    yield "the share of labels that fare alike with two seeds", share(first == other), 0.01


def share(where: Tensor) -> Tensor:
    """How often something holds."""
    return where.double().mean()


class Knowing:
    """A network that predicts a share of the true noise."""

    def __init__(self, process: DiffusionProcess, x0: Tensor, y: Tensor, known: float):
        self.process, self.x0, self.y = process, x0, y
        self.known, self.timesteps = torch.tensor(known, requires_grad=True), y

    def __call__(self, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.timesteps = t
        away = (y - self.y).view(-1, 1, 1, 1)
        return self.known * self.process.predict_noise(xt, t, self.x0) + away


@exercise("taught", points=3, minutes=12)
def diffusion_loss(answer, draw):
    """diffusion_loss(model, process, x0: (B, C, H, W), y: (B,), generator=None) -> scalar"""
    for T in (1000, 4):
        process, seed = DiffusionProcess(T), draw.whole(0, 2**31)
        x0, y = draw.normal(4000, 1, 4, 4).float() / 2, draw.labels(4000)
        networks = [Knowing(process, x0, y, known) for known in (1.0, 0.0, 0.0)]
        full, silent, again = (
            answer(each, process, x0, y, torch.Generator().manual_seed(seed), shape=())
            for each in networks
        )
        no_backward(*(each.known for each in networks))
        yield f"the loss of a network that knows the noise, T = {T}", full.round(decimals=3), 0.03
        yield f"the loss of a network that predicts 0, T = {T}", silent, 0.03
        yield f"its gradient, T = {T}", gradient(silent, networks[1].known), 0.04
        yield f"how many losses one seed gives, T = {T}", 1 + int(silent != again), 0
        if len(networks[0].timesteps.unique()) == 1:
            raise Wrong("the whole batch has one timestep.", "one timestep")
    counts = networks[0].timesteps.bincount(minlength=4)
    yield "the shares of the timesteps 0, 1, 2 and 3", counts / 4000, 0.03


@exercise("taught", points=3, minutes=12)
def EMA(answer, draw):
    """EMA(model, decay), a class with .update(model) and .model"""
    for decay in (0.999, 0.15):
        model, averages = nn.BatchNorm1d(1), []
        average = answer.ask(answer.value, model, decay)
        first = [buffer.clone() for buffer in average.model.buffers()]
        for weight in (2 + 3 * draw.uniform(3)).tolist():
            nn.init.constant_(model.weight, weight)
            nn.init.constant_(model.bias, -weight)
            for buffer in model.buffers():
                buffer.fill_(round(10 * weight))
            answer.ask(average.update, model, nothing=True)
            averages.append(answer.tensor(torch.cat(list(average.model.parameters()))))
        yield (
            f"the EMA weight and bias after 1, 2 and 3 updates, decay {decay}",
            torch.cat(averages),
        )
        nn.init.constant_(model.weight, 9.0)
        moved = answer.tensor(average.model.weight) - averages[-1][:1]
        yield f"what it changes by without an update, decay {decay}", moved
        same = sum(map(torch.equal, first, average.model.buffers()))
        yield f"the number of buffers that keep their first values, decay {decay}", same, 0
