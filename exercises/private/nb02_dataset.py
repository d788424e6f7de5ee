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


def channel_by_channel(images):
    channels = []
    for channel in images.float().unbind(1):
        channels.append((channel - channel.mean()) / channel.std())
    return torch.stack(channels, 1)


def over(*dims, keepdim=True, spread=torch.std):
    """standardise with the mean and the standard deviation over these dimensions."""

    def standardise(images):
        x = images.float()
        return (x - x.mean(dims, keepdim=keepdim)) / spread(x, dims, keepdim=keepdim)

    return standardise


def by(formula):
    """standardise by a formula of the bytes, the floats, and each channel's mean and deviation."""

    def standardise(images):
        x = images.float()
        mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
        return formula(images, x, mean, std)

    return standardise


answers(
    "standardise",
    right=[
        standardise,
        in_numpy,
        channel_by_channel,
        lambda images: over(0, 2, 3)(images / 255),
        lambda images: torch.nn.functional.batch_norm(images.double(), None, None, training=True),
    ],
    one_for_all=[over(0, 1, 2, 3)],
    per_image=[over(1, 2, 3), over(2, 3)],
    per_pixel=[over(0), over(0, 1)],
    columns=[over(0, 2, 3, keepdim=False)],
    variance=[over(0, 2, 3, spread=torch.var)],
    not_centered=[by(lambda images, x, mean, std: x / std)],
    not_divided=[by(lambda images, x, mean, std: x - mean)],
    brackets=[by(lambda images, x, mean, std: x - mean / std)],
    wrapped=[by(lambda images, x, mean, std: (images - mean.to(torch.uint8)).float() / std)],
    two_scales=[by(lambda images, x, mean, std: (x / 255 - mean) / std)],
    network_range=[lambda images: 2 * (images / 255) - 1, lambda images: images / 255],
)


def balanced_places(labels, per_class):
    """The places of the first per_class images of each class, rising."""
    places = [(labels == c).nonzero()[:per_class, 0] for c in labels.unique()]
    return torch.cat(places).sort().values


def in_arrays(labels, per_class):
    labels = labels.numpy()
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in set(labels)]))


def counting(keep, until=lambda seen, per_class: False):
    """balanced_places in one pass: keep(how many were seen before, per_class)."""

    def balanced_places(labels, per_class):
        seen, kept = {}, []
        for i, label in enumerate(labels.tolist()):
            if keep(seen.get(label, 0), per_class):
                kept.append(i)
            seen[label] = seen.get(label, 0) + 1
            if until(seen, per_class):
                break
        return kept

    return balanced_places


def each(places_of, order=True, classes=torch.unique):
    """balanced_places class by class: places_of(a class's places, per_class)."""

    def balanced_places(labels, per_class):
        where = [(labels == c).nonzero()[:, 0] for c in classes(labels)]
        places = torch.cat([places_of(places, per_class) for places in where])
        return places.sort().values if order else places

    return balanced_places


def first(places, per_class):
    return places[:per_class]


def stopping(classes):
    """A pass that ends where all classes are full, one image early."""

    def balanced_places(labels, per_class):
        seen, kept = dict.fromkeys(classes(labels), 0), []
        for i, label in enumerate(labels.tolist()):
            seen[label] += 1
            if all(count >= per_class for count in seen.values()):
                break
            if seen[label] <= per_class:
                kept.append(i)
        return kept

    return balanced_places


answers(
    "balanced_places",
    right=[
        balanced_places,
        in_arrays,
        counting(lambda seen, most: seen < most),
        counting(
            lambda seen, most: seen < most,
            lambda seen, most: len(seen) == 10 and min(seen.values()) >= most,
        ),
        each(first, classes=lambda labels: range(10)),
        lambda labels, per_class: (
            torch.nn.functional.one_hot(labels).cumsum(0).gather(1, labels[:, None])[:, 0]
            <= per_class
        ).nonzero()[:, 0],
    ],
    first_rows=[lambda labels, per_class: torch.arange(per_class * len(labels.unique()))],
    grouped=[each(first, order=False)],
    one_more=[
        counting(lambda seen, most: seen <= most),
        each(lambda places, most: places[: most + 1]),
    ],
    one_less=[counting(lambda seen, most: seen < most - 1)],
    last_ones=[each(lambda places, most: places[-most:])],
    stops_early=[
        stopping(lambda labels: labels.tolist()),
        stopping(lambda labels: {*range(10), *labels.tolist()}),
    ],
    full_left_out=[each(lambda places, most: places[:most] if len(places) > most else places[:0])],
    counted_classes=[each(first, classes=lambda labels: range(len(labels.unique())))],
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
    in_place=[lambda x, coins: x.index_copy_(0, coins.nonzero()[:, 0], x[coins].flip(3))],
)
