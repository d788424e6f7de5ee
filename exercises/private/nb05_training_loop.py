"""Answers to notebook 05's exercises: the training loop."""

import copy
import math

import torch
import torch.nn.functional as F

from cdiff_helpers import training
from exercises.private import answers


def x0_loss(model, process, x0, y, t, noise):
    """The mean squared error of a network that predicts x0: a scalar tensor."""
    xt, _ = process.add_noise(x0, t, noise)
    return F.mse_loss(model(xt, t, y), x0)


def jump(process, x0, t, noise, shape=(-1, 1, 1, 1)):
    kept = process.alpha_bar[t].view(shape)
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise


def x0_loss_with(error=F.mse_loss, target=lambda x0, xt, noise: x0, shown=jump, swap=False):
    """x0_loss with one mistake."""

    def x0_loss(model, process, x0, y, t, noise):
        xt = jump(process, x0, t, noise)
        given = shown(process, x0, t, noise)
        return error(model(given, *((y, t) if swap else (t, y))), target(x0, xt, noise))

    return x0_loss


answers(
    "x0_loss",
    right=[
        x0_loss,
        x0_loss_with(lambda said, x0: ((said - x0) ** 2).mean(dim=(1, 2, 3)).mean()),
        x0_loss_with(lambda said, x0: torch.dist(said, x0) ** 2 / x0.numel()),
    ],
    noise_as_target=[x0_loss_with(target=lambda x0, xt, noise: noise)],
    noisy_as_target=[x0_loss_with(target=lambda x0, xt, noise: xt)],
    sees_the_clean_one=[x0_loss_with(shown=lambda process, x0, t, noise: x0)],
    sees_the_noise=[x0_loss_with(shown=lambda process, x0, t, noise: noise)],
    swapped=[x0_loss_with(swap=True)],
    summed=[
        x0_loss_with(lambda said, x0: F.mse_loss(said, x0, reduction="sum")),
        x0_loss_with(lambda said, x0: (said - x0).square().sum(dim=(1, 2, 3)).mean()),
    ],
    not_squared=[x0_loss_with(F.l1_loss)],
    rooted=[x0_loss_with(lambda said, x0: F.mse_loss(said, x0).sqrt())],
    columns=[x0_loss_with(shown=lambda *asked: jump(*asked, shape=-1))],
    no_gradient=[
        torch.no_grad()(x0_loss),
        lambda *asked: x0_loss(*asked).item(),
        lambda *asked: x0_loss(*asked).detach(),
        lambda *asked: x0_loss(*asked).detach().requires_grad_(),
    ],
    goes_backward=[
        lambda *asked: (loss := x0_loss(*asked), loss.backward())[0],
        lambda *asked: (loss := x0_loss(*asked), loss.backward(retain_graph=True))[0],
    ],
    fresh_noise=[
        lambda *asked: x0_loss(*asked[:-1], torch.randn_like(asked[-1])),
        lambda model, process, x0, y, *more: x0_loss(
            model, process, x0, torch.where(torch.rand(len(y)) < 0.5, 10, y), *more
        ),
    ],
)


def dropped(y, coins, p, null_class):
    """The labels y (B,), null_class where the coin is below its class's share."""
    return torch.where(coins < p[y], null_class, y)


answers(
    "dropped",
    right=[
        dropped,
        lambda y, coins, p, null: y.masked_fill(coins < p.gather(0, y), null),
        lambda y, coins, p, null: [
            null if coin < p[k] else k for k, coin in zip(y.tolist(), coins.tolist())
        ],
    ],
    inverted=[
        lambda y, coins, p, null: torch.where(coins < p[y], y, null),
        lambda y, coins, p, null: y * (coins < p[y]),
    ],
    one_coin=[lambda y, coins, p, null: torch.full_like(y, null) if coins[0] < p[y[0]] else y],
    class_zero=[
        lambda y, coins, p, null: torch.where(coins < p[y], 0, y),
        lambda y, coins, p, null: y * (coins >= p[y]),
    ],
    removed=[lambda y, coins, p, null: y[coins >= p[y]]],
    by_place=[
        lambda y, coins, p, null: torch.where(coins < p, null, y),
        lambda y, coins, p, null: torch.where(coins < p, 0, y),
        lambda y, coins, p, null: torch.where(coins < p, y, null),
    ],
    coin_by_class=[lambda y, coins, p, null: torch.where(coins[y] < p[y], null, y)],
    typed_ten=[lambda y, coins, p, null: torch.where(coins < p[y], 10, y)],
    ties_lost=[
        lambda y, coins, p, null: torch.where(coins <= p[y], null, y),
    ],
)

answers(
    "half_life",
    right=[round(math.log(0.5) / math.log(0.999)), math.log(0.5) / math.log(0.999)],
    solution="half_life = round(np.log(0.5) / np.log(0.999))",
    memory_length=[1000, 999],
    linear=[500],
    logarithm_to_ten=[math.log10(0.5) / math.log(0.999), math.log(0.5) / math.log10(0.999)],
    upside_down=[math.log(0.999) / math.log(0.5), 0.001],
    per_cent=[math.log(0.5) / math.log(0.99)],
    cut_off=[math.floor(math.log(0.5) / math.log(0.999))],
    negative=[-math.log(0.5) / math.log(0.999)],
)


def accumulate(model, loss, batches):
    """The whole batch's gradient, part by part, into the parameters' .grad."""
    count = sum(len(x) for x, _ in batches)
    model.zero_grad()
    for x, y in batches:
        (loss(model, x, y) * len(x) / count).backward()


def by_hand(model, loss, batches):
    count = sum(len(x) for x, _ in batches)
    total = [torch.zeros_like(p) for p in model.parameters()]
    for x, y in batches:
        own = torch.autograd.grad(loss(model, x, y), list(model.parameters()))
        total = [t + len(x) / count * g for t, g in zip(total, own)]
    for parameter, gradient in zip(model.parameters(), total):
        parameter.grad = gradient


def divided_afterwards(model, loss, batches):
    for parameter in model.parameters():
        parameter.grad = None
    for x, y in batches:
        (loss(model, x, y) * len(y)).backward(retain_graph=True)
    for parameter in model.parameters():
        parameter.grad /= sum(len(y) for _, y in batches)


SHARES = {  # what a part's loss is multiplied by
    "one": lambda x, batches: 1,
    "alike": lambda x, batches: 1 / len(batches),
    "size": lambda x, batches: len(x),
    "by size": lambda x, batches: len(x) / sum(len(x) for x, _ in batches),
}
MEANS = ("one", "alike", "by size")


def in_parts(share, empty="before", parts=slice(None), graphs="freed"):
    """accumulate with a mistake: gradients emptied "each" time or "never", or all graphs "kept"."""

    def accumulate(model, loss, batches):
        losses = []
        if empty == "before":
            model.zero_grad()
        for x, y in batches[parts]:
            if empty == "each":
                model.zero_grad()
            losses.append(loss(model, x, y) * SHARES[share](x, batches))
            if graphs != "at once":
                losses[-1].backward(retain_graph=graphs == "kept")
        if graphs == "at once":
            sum(losses).backward()

    return accumulate


answers(
    "accumulate",
    right=[
        accumulate,
        by_hand,
        divided_afterwards,
        lambda model, loss, batches: accumulate(
            model, loss, [(x[i:][:1], y[i:][:1]) for x, y in batches for i in range(len(x))]
        ),
    ],
    nothing=[lambda model, loss, batches: None],
    one_graph=[
        in_parts("by size", graphs="at once"),
        lambda model, loss, batches: accumulate(
            model, loss, [tuple(map(torch.cat, zip(*batches)))]
        ),
        in_parts("by size", graphs="kept"),
    ],
    summed=[in_parts("one"), in_parts("one", graphs="at once")],
    not_divided=[in_parts("size")],
    parts_equal=[in_parts("alike"), in_parts("alike", graphs="at once")],
    last_only=[*(in_parts(share, "each") for share in MEANS)],
    first_only=[*(in_parts(share, parts=slice(1)) for share in MEANS)],
    old_gradient=[*(in_parts(share, "never") for share in MEANS)],
    left_frozen=[lambda *asked: (accumulate(*asked), asked[0].requires_grad_(False))[0]],
)


def update_order(backward, clip, schedule, step, zero_grad):
    """One update: the five calls in their order."""
    zero_grad()
    backward()
    clip()
    step()
    schedule()


def in_order(names):
    """The calls in the order of their initials, s being the step and l the learning rate's."""

    def update_order(backward, clip, schedule, step, zero_grad):
        acts = {"z": zero_grad, "b": backward, "c": clip, "s": step, "l": schedule}
        for name in names:
            acts[name]()

    return update_order


def dropping(draw=torch.rand, coins=lambda y: y.shape, null=None, turned=False):
    """drop_labels with one mistake."""

    def drop_labels(y, p=0.1, *, null_class, generator=None):
        gone = draw(coins(y), generator=generator) < p
        return torch.where(~gone if turned else gone, null_class if null is None else null, y)

    return drop_labels


answers(
    "update_order",
    right=[update_order, *map(in_order, ("bcslz", "bcszl", "zbcsl"))],
    clip_before_backward=[*map(in_order, ("zcbsl", "czbsl"))],
    clip_after_step=[in_order("zbscl")],
    erased=[*map(in_order, ("bzcsl", "bczsl", "cbzsl", "sbczl", "bczls"))],
    never_emptied=[in_order("bcsl")],
    schedule_first=[*map(in_order, ("zbcls", "lzbcs", "zblsc", "zcbls", "czbls"))],
    step_first=[
        *map(in_order, ("szbcl", "szcbl", "sczbl", "cszbl", "clszb", "lszbc", "lszcb", "lsczb"))
    ],
)


def timesteps(low=0, high=None, below=0, count=len):
    """How a loss takes its timesteps: from low to T - 1, or otherwise."""

    def take(process, x0, generator):
        end = (high or process.num_steps) + below
        return torch.randint(low, end, (count(x0),), generator=generator).expand(len(x0))

    return take


EVEN = timesteps()


def diffusion_loss_with(
    times=EVEN, sample=torch.randn, seeded=True, target=lambda x0, xt, noise: noise, **mistake
):
    """The notebook's loss, with one mistake."""
    loss = x0_loss_with(target=target, **mistake)

    def diffusion_loss(model, process, x0, y, generator=None):
        generator = generator if seeded else None
        t, noise = times(process, x0, generator), sample(x0.shape, generator=generator)
        return loss(model, process, x0, y, t, noise)

    return diffusion_loss


def with_another_noise(model, process, x0, y, generator=None):
    def another(x0, xt, noise):
        return torch.randn(x0.shape, generator=generator)

    return diffusion_loss_with(target=another)(model, process, x0, y, generator)


answers(
    "drop_labels",
    right=[
        training.drop_labels,
        dropping(),
        lambda y, p, *, null_class, generator=None: y.masked_fill(
            torch.bernoulli(torch.full(y.shape, p), generator=generator).bool(), null_class
        ),
    ],
    inverted=[dropping(turned=True)],
    one_coin=[dropping(coins=lambda y: 1)],
    class_zero=[dropping(null=0)],
    typed_ten=[dropping(null=10)],
    never=[dropping(lambda shape, generator: torch.ones(shape) * 2)],
    normal=[dropping(torch.randn)],
    fixed=[
        dropping(lambda shape, generator: torch.linspace(0, 1, *shape)),
        dropping(lambda shape, generator: torch.rand(shape, generator=generator.manual_seed(0))),
    ],
    generator_ignored=[dropping(lambda shape, generator: torch.rand(shape))],
)


def warming_up(n, decay):
    return min(decay, (1 + n) / (10 + n))


class Average:
    """An EMA whose share is a function of the update's number, buffers copied."""

    def __init__(self, model, decay=0.999, share=warming_up, buffers=True):
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay, self.share, self.buffers, self.n = decay, share, buffers, 0

    @torch.no_grad()
    def update(self, model):
        kept = self.share(self.n, self.decay)
        self.n += 1
        for mine, theirs in zip(self.model.parameters(), model.parameters()):
            mine.mul_(kept).add_((1 - kept) * theirs)
        for mine, theirs in zip(self.model.buffers(), model.buffers()):
            mine.copy_(theirs if self.buffers else mine)


def sharing(share):
    return lambda model, decay: Average(model, decay, share)


def itself(model, decay):
    average = Average(model, decay)
    average.model = model
    return average


answers(
    "diffusion_loss",
    right=[training.diffusion_loss, diffusion_loss_with()],
    fresh_target=[
        diffusion_loss_with(target=lambda x0, xt, noise: torch.randn_like(noise)),
        with_another_noise,
    ],
    image_as_target=[diffusion_loss_with(target=lambda x0, xt, noise: x0)],
    sees_the_clean_one=[diffusion_loss_with(shown=lambda process, x0, t, noise: x0)],
    swapped=[diffusion_loss_with(swap=True)],
    one_time=[diffusion_loss_with(times=timesteps(count=lambda x0: 1))],
    no_last=[diffusion_loss_with(times=timesteps(below=-1))],
    no_first=[diffusion_loss_with(times=timesteps(low=1))],
    typed_steps=[diffusion_loss_with(times=timesteps(high=1000))],
    uniform_noise=[diffusion_loss_with(sample=torch.rand)],
    summed=[diffusion_loss_with(error=lambda *pair: F.mse_loss(*pair, reduction="sum"))],
    not_squared=[diffusion_loss_with(error=F.l1_loss)],
    no_gradient=[
        torch.no_grad()(diffusion_loss_with()),
        lambda *asked: diffusion_loss_with()(*asked).item(),
        lambda *asked: diffusion_loss_with()(*asked).detach().requires_grad_(),
    ],
    goes_backward=[lambda *asked: (loss := diffusion_loss_with()(*asked), loss.backward())[0]],
    generator_ignored=[diffusion_loss_with(seeded=False)],
)

answers(
    "EMA",
    right=[training.EMA, Average],
    no_warm_up=[
        sharing(lambda n, decay: decay),
        sharing(lambda n, decay: max(decay, (1 + n) / (10 + n))),
    ],
    never_capped=[sharing(lambda n, decay: (1 + n) / (10 + n))],
    counted_from_one=[sharing(lambda n, decay: warming_up(n + 1, decay))],
    swapped=[sharing(lambda n, decay: 1 - warming_up(n, decay))],
    same_network=[itself],
    copied=[sharing(lambda n, decay: 0)],
    never_moved=[sharing(lambda n, decay: 1)],
    buffers_forgotten=[lambda model, decay: Average(model, decay, buffers=False)],
)
