"""Answers to notebook 02's exercises: the data set."""

import numpy as np
import torch

from exercises.private import answers


def standardise(images):
    """uint8 (N, 3, H, W) -> float (N, 3, H, W), each channel with mean 0, standard deviation 1."""
    x = images.float()
    over = (0, 2, 3)
    return (x - x.mean(over, keepdim=True)) / x.std(over, keepdim=True)


def in_numpy(images):
    x = images.numpy().astype(np.float64).transpose(0, 2, 3, 1)
    x = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    return x.transpose(0, 3, 1, 2)


def over(*dims, keepdim=True, correction=1):
    """standardise with the mean and the standard deviation over these dimensions."""

    def standardise(images):
        x = images.float()
        return (x - x.mean(dims, keepdim=keepdim)) / x.std(
            dims, keepdim=keepdim, correction=correction
        )

    return standardise


def by(formula):
    """standardise by a formula of the floats, and each channel's mean and deviation."""

    def standardise(images):
        x = images.float()
        return formula(x, x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True))

    return standardise


answers(
    "standardise",
    right=[
        standardise,
        in_numpy,
        lambda images: torch.stack([(c - c.mean()) / c.std() for c in images.float().unbind(1)], 1),
        lambda images: standardise(images / 255),
        lambda images: torch.nn.functional.batch_norm(images.double(), None, None, training=True),
    ],
    one_for_all=[over(0, 1, 2, 3)],
    per_image=[over(*dims, correction=c) for dims in ((1, 2, 3), (2, 3)) for c in (0, 1)],
    per_pixel=[over(0), over(0, 1)],
    columns=[over(0, 2, 3, keepdim=False)],
    variance=[by(lambda x, mean, std: (x - mean) / std**2)],
    not_centered=[by(lambda x, mean, std: x / std)],
    not_divided=[by(lambda x, mean, std: x - mean)],
    brackets=[by(lambda x, mean, std: x - mean / std)],
    clamped=[by(lambda x, mean, std: ((x - mean) / std).clamp(-3, 3))],
    half=[by(lambda x, mean, std: (x.half() - mean.half()) / std.half())],
    wrapped=[by(lambda x, mean, std: (x.byte() - mean.byte()).float() / std)],
    two_scales=[by(lambda x, mean, std: (x / 255 - mean) / std)],
    network_range=[lambda images: 2 * (images / 255) - 1, lambda images: images / 255],
)


def balanced_places(labels, per_class):
    """The places of the first per_class images of each class, rising."""
    places = [(labels == c).nonzero()[:per_class, 0] for c in labels.unique()]
    return torch.cat(places).sort().values


def in_arrays(labels, per_class):
    labels = labels.numpy()
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in set(labels)]))


def one_pass(labels, per_class, classes=(), stop=False):
    """balanced_places from the front; with `stop` it ends where all classes are full, too early."""
    seen, kept = dict.fromkeys(classes, 0), []
    for i, label in enumerate(labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        if stop and min(seen.values()) >= per_class:
            break
        if seen[label] <= per_class:
            kept.append(i)
    return kept


def ranked(labels, per_class):
    before = torch.nn.functional.one_hot(labels).cumsum(0).gather(1, labels[:, None])[:, 0]
    return (before <= per_class).nonzero()[:, 0]


def each(places_of, order=True, classes=torch.unique):
    """balanced_places class by class: places_of(a class's places, per_class)."""

    def balanced_places(labels, per_class):
        where = [(labels == c).nonzero()[:, 0] for c in classes(labels)]
        places = torch.cat([places_of(places, per_class) for places in where])
        return places.sort().values if order else places

    return balanced_places


def first(places, per_class):
    return places[:per_class]


answers(
    "balanced_places",
    right=[balanced_places, in_arrays, one_pass, ranked],
    first_rows=[lambda labels, per_class: torch.arange(per_class * len(labels.unique()))],
    grouped=[each(first, order=False)],
    one_more=[lambda labels, per_class: balanced_places(labels, per_class + 1)],
    one_less=[lambda labels, per_class: balanced_places(labels, per_class - 1)],
    last_ones=[each(lambda places, most: places[-most:])],
    stops_early=[
        lambda labels, per_class: one_pass(labels, per_class, set(labels.tolist()), stop=True),
        lambda labels, per_class: one_pass(labels, per_class, range(10), stop=True),
    ],
    full_left_out=[each(lambda places, most: places[:most] if len(places) > most else places[:0])],
    counted_classes=[each(first, classes=lambda labels: range(len(labels.unique())))],
    ten_classes=[each(first, classes=lambda labels: range(10))],
    last_class=[each(first, classes=lambda labels: range(int(labels.max())))],
    labels=[lambda labels, per_class: labels[balanced_places(labels, per_class)]],
    mask=[
        lambda labels, per_class: torch.isin(
            torch.arange(len(labels)), balanced_places(labels, per_class)
        )
    ],
)

answers(
    "batches_and_left_out",
    right=[divmod(50_000, 128), list(divmod(50_000, 128)), torch.tensor(divmod(50_000, 128))],
    solution="batches_and_left_out = divmod(50_000, 128)",
    kept_last=[(391, 0)],
    rounded_up=[(391, 80)],
    missing_to_full=[(390, 48), (391, 48)],
    not_whole=[(390.625, 0), (390.625, 0.625), (390.625, 80), (390, 0.625)],
    all_sixty_thousand=[(468, 96), (469, 96), (469, 0), (469, 32)],
    test_images=[(78, 16), (79, 16), (79, 0)],
    bundled=[(15, 80), (16, 80), (16, 0)],
    swapped=[(80, 390)],
)


def flip_some(x, coins):
    """Each image of x (B, 3, H, W) mirrored where its coin (B,) is True."""
    return torch.where(coins[:, None, None, None], x.flip(3), x)


def on_a_copy(x, coins):
    mirrored = x.clone()
    mirrored[coins] = x[coins].flip(3)
    return mirrored


def where(coins_of, *dims):
    """flip_some with other coins, or along other dimensions."""
    return lambda x, coins: torch.where(coins_of(coins), x.flip(*dims), x)


def per_image(coins):
    return coins.view(-1, 1, 1, 1)


answers(
    "flip_some",
    right=[
        flip_some,
        lambda x, coins: torch.stack([p.flip(-1) if coin else p for p, coin in zip(x, coins)]),
        on_a_copy,
        lambda x, coins: x + per_image(coins) * (x[..., range(x.shape[3] - 1, -1, -1)] - x),
    ],
    upside_down=[where(per_image, 2)],
    turned=[where(per_image, (2, 3))],
    channels=[where(per_image, 1)],
    one_coin=[
        lambda x, coins: x.flip(3) if coins[0] else x,
        lambda x, coins: x.flip(3) if coins.all() else x,
        lambda x, coins: x.flip(3) if coins.any() else x,
    ],
    inverted=[lambda x, coins: flip_some(x, ~coins)],
    only_mirrored=[lambda x, coins: x[coins].flip(3)],
    columns_by_coin=[where(lambda coins: coins, 3)],
    rows_or_channels_by_coin=[
        where(lambda coins: coins[:, None], 3),
        where(lambda coins: coins[:, None, None], 3),
    ],
    other_places=[
        lambda x, coins: torch.cat([x[coins].flip(3), x[~coins]]),
        lambda x, coins: flip_some(x, coins.sort(descending=True).values),
    ],
    in_place=[
        lambda x, coins: x.index_copy_(0, coins.nonzero()[:, 0], x[coins].flip(3)),
        lambda x, coins: flip_some(x, coins.logical_not_()),
    ],
)
