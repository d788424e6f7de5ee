"""Answers to notebook 02's exercises."""

import numpy as np
import torch

from instructor.mutants import right, right_value, wrong, wrong_value


@wrong("standardise", "one_for_all")
def _(images):
    x = images.float()
    return (x - x.mean()) / x.std()


@wrong("standardise", "per_image")
def _(images):
    x = images.float()
    return (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True, correction=0)


@wrong("standardise", "per_image")
def _(images):
    x = images.float()
    return (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True, correction=0)


@wrong("standardise", "variance")
def _(images):
    x = images.float()
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.var((0, 2, 3), keepdim=True)


@wrong("standardise", "not_centred")
def _(images):
    x = images.float()
    return x / x.std((0, 2, 3), keepdim=True)


@wrong("standardise", "wrapped")
def _(images):
    x = images.float()
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
    return (images - mean.to(torch.uint8)).float() / std


@right("standardise")
def _(images):
    x = images.numpy().astype(np.float64).transpose(0, 2, 3, 1)
    x = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    return x.transpose(0, 3, 1, 2)


@right("standardise")
def _(images):
    channels = []
    for channel in images.float().unbind(1):
        channels.append((channel - channel.mean()) / channel.std())
    return torch.stack(channels, 1)


@wrong("balanced_places", "first_rows")
def _(labels, per_class):
    return torch.arange(per_class * len(labels.unique()))


@wrong("balanced_places", "grouped")
def _(labels, per_class):
    return torch.cat([(labels == c).nonzero()[:per_class, 0] for c in labels.unique()])


@wrong("balanced_places", "one_more")
def _(labels, per_class):
    seen, kept = {}, []
    for i, label in enumerate(labels.tolist()):
        if seen.get(label, 0) <= per_class:
            kept.append(i)
        seen[label] = seen.get(label, 0) + 1
    return kept


@wrong("balanced_places", "last_ones")
def _(labels, per_class):
    places = [(labels == c).nonzero()[-per_class:, 0] for c in labels.unique()]
    return torch.cat(places).sort().values


@right("balanced_places")
def _(labels, per_class):
    labels = labels.numpy()
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in set(labels)]))


@right("balanced_places")
def _(labels, per_class):
    seen, kept = {}, []
    for i, label in enumerate(labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= per_class:
            kept.append(i)
    return kept


@wrong("flip_some", "upside_down")
def _(x, coins):
    return torch.where(coins[:, None, None, None], x.flip(2), x)


@wrong("flip_some", "colours")
def _(x, coins):
    return torch.where(coins[:, None, None, None], x.flip(1), x)


@wrong("flip_some", "one_coin")
def _(x, coins):
    return x.flip(3) if coins[0] else x


@wrong("flip_some", "one_coin")
def _(x, coins):
    return x.flip(3) if coins.all() else x


@wrong("flip_some", "inverted")
def _(x, coins):
    return torch.where(coins[:, None, None, None], x, x.flip(3))


@wrong("flip_some", "columns_by_coin")
def _(x, coins):
    return torch.where(coins, x.flip(3), x)


@right("flip_some")
def _(x, coins):
    return torch.stack([p.flip(-1) if coin else p for p, coin in zip(x, coins)])


@right("flip_some")
def _(x, coins):
    mirrored = x.clone()
    mirrored[coins] = x[coins].flip(3)
    return mirrored


wrong_value("batches_and_left_out", "kept_last", (391, 0))
wrong_value("batches_and_left_out", "rounded_up", (391, 80))
wrong_value("batches_and_left_out", "missing_to_full", (390, 48))
wrong_value("batches_and_left_out", "all_sixty_thousand", (468, 96))
wrong_value("batches_and_left_out", "swapped", (80, 390))
right_value("batches_and_left_out", [390, 80])
right_value("batches_and_left_out", torch.tensor([390, 80]))
