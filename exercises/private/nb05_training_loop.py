"""Answers to notebook 05's exercises: the training loop."""

import copy
import math

import torch
import torch.nn.functional as F

from cdiff_helpers import training
from exercises.private import right


def x0_loss(model, process, x0, y, t, noise):
    """The mean squared error of a network that predicts x0: a scalar tensor."""
    xt, _ = process.add_noise(x0, t, noise)
    return F.mse_loss(model(xt, t, y), x0)


def jump(process, x0, t, noise):
    kept = process.alpha_bar[t].view(-1, 1, 1, 1)
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise


def x0_loss_with(error=F.mse_loss, target=lambda x0, xt, noise: x0, shown=jump, swap=False):
    """x0_loss with one mistake."""

    def x0_loss(model, process, x0, y, t, noise):
        xt = jump(process, x0, t, noise)
        given = shown(process, x0, t, noise)
        return error(model(given, *((y, t) if swap else (t, y))), target(x0, xt, noise))

    return x0_loss


known = right(
    "x0_loss",
    "look at x_t, predict x₀, and be measured by the mean squared error.",
    x0_loss,
    x0_loss_with(lambda said, x0: ((said - x0) ** 2).mean(dim=(1, 2, 3)).mean()),
    x0_loss_with(lambda said, x0: torch.dist(said, x0) ** 2 / x0.numel()),
    otherwise="Which images does the network see, and with which are its predictions compared?",
)
known.mistake(
    "noise_as_target",
    "You compare with the noise. This network predicts the clean image, so the target is x₀.",
    x0_loss_with(target=lambda x0, xt, noise: noise),
)
known.mistake(
    "noisy_as_target",
    "You compare with x_t. What should the network have predicted?",
    x0_loss_with(target=lambda x0, xt, noise: xt),
)
known.mistake(
    "sees_the_clean_one",
    "The network sees x₀ itself, so it only has to copy. It is to see x_t, the noisy image.",
    x0_loss_with(shown=lambda process, x0, t, noise: x0),
)
known.mistake(
    "sees_the_noise",
    "The network sees the noise alone. x_t is the image and the noise mixed; add_noise returns it "
    "first.",
    x0_loss_with(shown=lambda process, x0, t, noise: noise),
)
known.mistake(
    "swapped",
    "The network takes the timesteps for classes: it is called as model(xt, t, y).",
    x0_loss_with(swap=True),
)
known.mistake(
    "summed",
    "You sum the squared errors, at least over each image. The mean over all numbers depends on "
    "neither the batch's size nor the image's.",
    x0_loss_with(lambda said, x0: F.mse_loss(said, x0, reduction="sum")),
    x0_loss_with(lambda said, x0: (said - x0).square().sum(dim=(1, 2, 3)).mean()),
)
known.mistake("not_squared", "You average distances, not their squares.", x0_loss_with(F.l1_loss))
known.mistake(
    "rooted",
    "You return the root of the mean squared error. The loss is the mean itself.",
    x0_loss_with(lambda said, x0: F.mse_loss(said, x0).sqrt()),
)
known.mistake(
    "columns",
    "Each *column* of your images has a timestep of its own: (B,) lines up with the width. One "
    "factor per image has the shape (B, 1, 1, 1), and process.add_noise takes care of it.",
    lambda model, process, x0, y, t, noise: F.mse_loss(
        model((a := process.alpha_bar[t]).sqrt() * x0 + (1 - a).sqrt() * noise, t, y), x0
    ),
)
known.mistake(
    "no_gradient",
    "The number is right, but no gradient flows from it to the network, so nothing would be "
    "learned: return the loss as a tensor, neither detached, nor .item(), nor under no_grad.",
    torch.no_grad()(x0_loss),
    lambda *asked: x0_loss(*asked).item(),
    lambda *asked: x0_loss(*asked).detach(),
)
known.mistake(
    "fresh_noise",
    "The same noise gives another loss each time, so noise is generated anew. Hand the noise that "
    "you are given on to add_noise.",
    lambda model, process, x0, y, t, noise: x0_loss(model, process, x0, y, t, torch.randn_like(x0)),
)


def dropped(y, coins, p, null_class):
    """The labels y (B,), null_class where the coin is below its class's share."""
    return torch.where(coins < p[y], null_class, y)


def in_place(y, coins, p, null_class):
    kept = y.clone()
    kept[coins < p.gather(0, y)] = null_class
    return kept


known = right(
    "dropped",
    "one coin per label, its own class's share, and the null class where the coin is below.",
    dropped,
    in_place,
    lambda y, coins, p, null: [
        null if coin < p[k] else k for k, coin in zip(y.tolist(), coins.tolist())
    ],
)
known.mistake(
    "unchanged",
    "This is the printed code. Ask of one label: which share is its own, what does it become, and "
    "on which side of its coin?",
)
known.mistake(
    "inverted",
    "The wrong labels are lost: a coin *below* its share drops the label, the others stay.",
    lambda y, coins, p, null: torch.where(coins < p[y], y, null),
    lambda y, coins, p, null: y * (coins < p[y]),
)
known.mistake(
    "one_coin",
    "One coin decides for the whole batch, so a network sees batches with classes and batches "
    "without, never both in one. Each label has its own coin.",
    lambda y, coins, p, null: torch.full_like(y, null) if coins[0] < p[y[0]] else y,
)
known.mistake(
    "class_zero",
    "Dropped labels become 0, and 0 is a class: airplanes would stand for nothing. Use null_class.",
    lambda y, coins, p, null: torch.where(coins < p[y], 0, y),
    lambda y, coins, p, null: y * (coins >= p[y]),
)
known.mistake(
    "removed",
    "The dropped labels are gone, and the batch no longer fits its images.",
    lambda y, coins, p, null: y[coins >= p[y]],
)
known.mistake(
    "by_place",
    "Label number i is compared with share number i. A label needs the share of its *class*.",
    lambda y, coins, p, null: torch.where(coins < p, null, y),
    lambda y, coins, p, null: torch.where(coins < p, 0, y),
    lambda y, coins, p, null: torch.where(coins < p, y, null),
)
known.mistake(
    "coin_by_class",
    "coins[y] gives all labels of a class one coin, and another label's at that. Only the share "
    "belongs to the class; each label has its own coin.",
    lambda y, coins, p, null: torch.where(coins[y] < p[y], null, y),
)
known.mistake(
    "typed_ten",
    "Dropped labels become 10 whatever null_class is. Ten is right for CIFAR-10 alone: use the "
    "argument.",
    lambda y, coins, p, null: torch.where(coins < p[y], 10, y),
)

known = right(
    "half_life",
    "a run of 200 updates is over long before. So the average needs its warm-up.",
    round(math.log(0.5) / math.log(0.999)),
    next(n for n in range(1000) if 0.999**n <= 0.5),
    math.log(0.5) / math.log(0.999),
    otherwise="After n updates a weight of today counts 0.999ⁿ: when is that one half?",
    solution="half_life = round(np.log(0.5) / np.log(0.999))",
)
known.mistake(
    "memory_length",
    "1 / (1 - decay) = 1,000 updates is how far back the average reaches; after them a weight "
    "still counts 37 %, not half.",
    1000,
    999,
)
known.mistake(
    "linear",
    "You let a weight lose a thousandth of its *first* share each time. It loses a thousandth of "
    "what is left: a power.",
    500,
)
known.mistake(
    "logarithm_to_ten",
    "You divided logarithms to different bases. Take the same one above and below.",
    math.log10(0.5) / math.log(0.999),
    math.log(0.5) / math.log10(0.999),
)
known.mistake(
    "upside_down",
    "You divided the two logarithms the wrong way round.",
    math.log(0.999) / math.log(0.5),
    0.001,
)
known.mistake(
    "per_cent",
    "That would be right for a decay of 0.99; this one is 0.999.",
    math.log(0.5) / math.log(0.99),
)
known.mistake(
    "cut_off",
    "You cut the decimals off, and there a weight still counts a little more than half. The "
    "nearest update was asked for.",
    math.floor(math.log(0.5) / math.log(0.999)),
)
known.mistake(
    "negative",
    "A number of updates is positive. Both logarithms are negative; what is their ratio?",
    -math.log(0.5) / math.log(0.999),
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


def one(x, batches):
    return 1


def alike(x, batches):
    return 1 / len(batches)


def size(x, batches):
    return len(x)


def by_size(x, batches):
    return len(x) / sum(len(x) for x, _ in batches)


def in_parts(share, empty="before", parts=slice(None)):
    """accumulate with a mistake: the gradients are emptied "before", "each" time, or "never"."""

    def accumulate(model, loss, batches):
        if empty == "before":
            model.zero_grad()
        for x, y in batches[parts]:
            if empty == "each":
                model.zero_grad()
            (loss(model, x, y) * share(x, batches)).backward()

    return accumulate


def at_once(share):
    """accumulate with one backward() at the end."""

    def accumulate(model, loss, batches):
        model.zero_grad()
        sum(loss(model, x, y) * share(x, batches) for x, y in batches).backward()

    return accumulate


known = right(
    "accumulate",
    "the gradient of the whole batch, with the memory of one part.",
    accumulate,
    by_hand,
    divided_afterwards,
)
known.mistake(
    "nothing",
    "No gradient has arrived in the parameters' .grad. backward() on a part's loss puts it there.",
    lambda model, loss, batches: None,
)
known.mistake(
    "one_graph",
    "The gradient is right, but all parts wait in memory at once for a single backward(): that is "
    "the batch that did not fit. Go backward through each part before you ask for the next.",
    at_once(by_size),
    lambda model, loss, batches: at_once(one)(model, loss, [tuple(map(torch.cat, zip(*batches)))]),
)
known.mistake(
    "summed",
    "Your gradient grows with the number of parts: the loss is a mean, so the parts' gradients "
    "have to be averaged.",
    in_parts(one),
    at_once(one),
)
known.mistake(
    "not_divided",
    "You weigh each part by its number of images, which gives the gradient of a sum. The mean is "
    "that, divided by the number of all images.",
    in_parts(size),
)
known.mistake(
    "parts_equal",
    "You count each part alike. The last part is smaller: an image there counts too much. Weigh "
    "each part by its share of the images.",
    in_parts(alike),
    at_once(alike),
)
known.mistake(
    "last_only",
    "Only the last part's gradient is left: something empties the others.",
    *(in_parts(share, "each") for share in (one, alike, by_size)),
)
known.mistake(
    "first_only",
    "Only the first part was used. Is there a return inside the loop?",
    *(in_parts(share, parts=slice(1)) for share in (one, alike, by_size)),
)
known.mistake(
    "old_gradient",
    "What lay in .grad before is still in it. Empty the gradients once, before the first part.",
    *(in_parts(share, "never") for share in (one, alike, by_size)),
)


def update_order(zero_grad, backward, clip, step, schedule):
    """One update: the five calls in their order."""
    zero_grad()
    backward()
    clip()
    step()
    schedule()


def in_order(names):
    """The calls in the order of their initials, s being the step and l the learning rate's."""

    def update_order(zero_grad, backward, clip, step, schedule):
        acts = {"z": zero_grad, "b": backward, "c": clip, "s": step, "l": schedule}
        for name in names:
            acts[name]()

    return update_order


known = right(
    "update_order",
    "empty, backward, clip, step, and only then the next learning rate.",
    update_order,
    *map(in_order, ("bcslz", "bcszl", "zbcsl")),
)
known.mistake(
    "unchanged",
    "As in the printed order the step never finds a gradient, and the schedule moves on too early. "
    "Begin with what the step needs.",
)
known.mistake(
    "clip_before_backward",
    "You clip where there is no gradient: backward() makes it, so clip after it, and before it is "
    "emptied.",
    *map(in_order, ("zcbsl", "czbsl")),
)
known.mistake(
    "clip_after_step",
    "You clip after the weights have moved; the step uses the gradient as it finds it.",
    in_order("zbscl"),
)
known.mistake(
    "erased",
    "You empty the gradient between backward() and the next step: the optimizer finds nothing.",
    *map(in_order, ("bzcsl", "bczsl", "cbzsl", "sbczl", "bczls")),
)
known.mistake(
    "never_emptied",
    "The gradients are never emptied: each update adds to all before it.",
    in_order("bcsl"),
)
known.mistake(
    "schedule_first",
    "The schedule moves on before the optimizer step, so its first learning rate is never used. "
    "PyTorch warns of it.",
    *map(in_order, ("zbcls", "lzbcs", "zblsc", "zcbls", "czbls")),
)
known.mistake(
    "step_first",
    "The step comes before backward(), so it uses the gradient of the update before, or none.",
    *map(in_order, ("szbcl", "szcbl", "sczbl", "cszbl", "clszb", "lszbc", "lszcb", "lsczb")),
)


def dropping(draw=torch.rand, coins=lambda y: y.shape, null=None, turned=False):
    """drop_labels with one mistake."""

    def drop_labels(y, p=0.1, *, null_class, generator=None):
        gone = draw(coins(y), generator=generator) < p
        return torch.where(~gone if turned else gone, null_class if null is None else null, y)

    return drop_labels


known = right(
    "drop_labels",
    "about p of the labels, each by its own coin.",
    training.drop_labels,
    dropping(),
    lambda y, p, *, null_class, generator=None: y.masked_fill(
        torch.bernoulli(torch.full(y.shape, p), generator=generator).bool(), null_class
    ),
)
known.mistake(
    "inverted",
    "Most labels are lost, a few are kept: the mask is the wrong way round.",
    dropping(turned=True),
)
known.mistake(
    "one_coin",
    "All labels of a batch share one fate. Each needs a coin of its own.",
    dropping(coins=lambda y: 1),
)
known.mistake(
    "class_zero", "Dropped labels become 0, which is a class. Use null_class.", dropping(null=0)
)
known.mistake("typed_ten", "Dropped labels become 10 whatever null_class is.", dropping(null=10))
known.mistake(
    "never",
    "No label is dropped.",
    dropping(lambda shape, generator: torch.ones(shape) * 2),
)
known.mistake(
    "normal",
    "More than half of the labels are lost: the coins come from randn. A coin is even between 0 "
    "and 1: rand.",
    dropping(torch.randn),
)
known.mistake(
    "fixed",
    "Another seed drops the same labels. Each label needs a coin that falls at random.",
    dropping(lambda shape, generator: torch.linspace(0, 1, *shape)),
    dropping(lambda shape, generator: torch.rand(shape, generator=generator.manual_seed(0))),
)
known.mistake(
    "generator_ignored",
    "The same seed drops other labels each time: hand the generator on to rand.",
    dropping(lambda shape, generator: torch.rand(shape)),
)


def timesteps(low=0, high=None, below=0, count=len):
    """How a loss takes its timesteps: from low to T - 1, or otherwise."""

    def take(process, x0, generator):
        end = (high or process.num_steps) + below
        return torch.randint(low, end, (count(x0),), generator=generator).expand(len(x0))

    return take


EVEN = timesteps()


def as_called(model, x0, xt, t, y):
    return model(xt, t, y)


def diffusion_loss_with(
    error=F.mse_loss, target=lambda x0, noise: noise, ask=as_called, times=EVEN, sample=torch.randn,
    seeded=True,
):  # fmt: skip
    """The notebook's loss, with one mistake."""

    def diffusion_loss(model, process, x0, y, generator=None):
        generator = generator if seeded else None
        t, noise = times(process, x0, generator), sample(x0.shape, generator=generator)
        return error(ask(model, x0, jump(process, x0, t, noise), t, y), target(x0, noise))

    return diffusion_loss


known = right(
    "diffusion_loss",
    "a timestep for each image, and the noise itself as the target.",
    training.diffusion_loss,
    diffusion_loss_with(),
)
known.mistake(
    "fresh_target",
    "You compare with noise that is generated anew, which the network cannot know. The target is "
    "the noise that went into x_t.",
    diffusion_loss_with(target=lambda x0, noise: torch.randn_like(noise)),
)
known.mistake(
    "image_as_target",
    "You compare with x₀. This network predicts the noise.",
    diffusion_loss_with(target=lambda x0, noise: x0),
)
known.mistake(
    "sees_the_clean_one",
    "The network sees x₀ itself. It is to see x_t, the noisy image.",
    diffusion_loss_with(ask=lambda model, x0, xt, t, y: model(x0, t, y)),
)
known.mistake(
    "swapped",
    "The network takes the timesteps for classes: it is called as model(xt, t, y).",
    diffusion_loss_with(ask=lambda model, x0, xt, t, y: model(xt, y, t)),
)
known.mistake(
    "one_time",
    "The whole batch has one timestep. Take one for each image.",
    diffusion_loss_with(times=timesteps(count=lambda x0: 1)),
)
known.mistake(
    "no_last",
    "The last timestep T-1 never occurs: randint's upper end does not count.",
    diffusion_loss_with(times=timesteps(below=-1)),
)
known.mistake(
    "no_first",
    "Timestep 0 never occurs; timesteps run over 0 … T-1.",
    diffusion_loss_with(times=timesteps(low=1)),
)
known.mistake(
    "typed_steps",
    "Your timesteps go up to 999 whatever the process is: use process.num_steps.",
    diffusion_loss_with(times=timesteps(high=1000)),
)
known.mistake(
    "uniform_noise",
    "Your noise comes from rand: between 0 and 1. The process's noise is normal: randn.",
    diffusion_loss_with(sample=torch.rand),
)
known.mistake(
    "summed",
    "You sum the squared errors; the mean does not depend on the batch's size.",
    diffusion_loss_with(lambda said, noise: F.mse_loss(said, noise, reduction="sum")),
)
known.mistake(
    "not_squared", "You average distances, not their squares.", diffusion_loss_with(F.l1_loss)
)
known.mistake(
    "no_gradient",
    "The numbers are right, but no gradient flows to the network: it would learn nothing.",
    torch.no_grad()(diffusion_loss_with()),
    lambda *asked: diffusion_loss_with()(*asked).item(),
)
known.mistake(
    "generator_ignored",
    "The same seed gives another loss each time: hand the generator on, for the timesteps and for "
    "the noise.",
    diffusion_loss_with(seeded=False),
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


known = right("EMA", "with its warm-up, on a copy, buffers included.", training.EMA, Average)
known.mistake(
    "no_warm_up",
    "The random start keeps its full share at once. Early updates keep only (1 + n) / (10 + n).",
    sharing(lambda n, decay: decay),
    sharing(lambda n, decay: max(decay, (1 + n) / (10 + n))),
)
known.mistake(
    "never_capped",
    "Your average keeps more than `decay`: the warm-up ends where (1 + n) / (10 + n) reaches it.",
    sharing(lambda n, decay: (1 + n) / (10 + n)),
)
known.mistake(
    "counted_from_one",
    "Your warm-up is one update ahead: n counts from 0.",
    sharing(lambda n, decay: warming_up(n + 1, decay)),
)
known.mistake(
    "swapped",
    "You keep 1 - decay of the average; the newest weights are to count little.",
    sharing(lambda n, decay: 1 - warming_up(n, decay)),
)
known.mistake(
    "same_network",
    "The average is the network itself, not a copy: both move together.",
    itself,
)
known.mistake(
    "copied",
    "Your EMA weights are the newest weights: nothing is averaged.",
    sharing(lambda n, decay: 0),
)
known.mistake(
    "never_moved",
    "Your EMA weights stay at their start: update() has to move them, in place.",
    sharing(lambda n, decay: 1),
)
known.mistake(
    "buffers_forgotten",
    "The buffers keep their first values; average or copy them, too.",
    lambda model, decay: Average(model, decay, buffers=False),
)
