"""Answers to notebook 02's exercises: the data set."""

import numpy as np
import torch

from exercises.private import right


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


known = right(
    "standardise",
    "each channel has mean 0 and standard deviation 1, over all images and pixels.",
    standardise,
    in_numpy,
    channel_by_channel,
    lambda images: over(0, 2, 3)(images / 255),
    lambda images: torch.nn.functional.batch_norm(images.double(), None, None, training=True),
)
known.mistake(
    "one_for_all",
    "One mean and one standard deviation for all three channels: red, green and blue each need "
    "their own. Which dimensions does your mean run over?",
    over(0, 1, 2, 3),
)
known.mistake(
    "per_image",
    "Each image has its own mean and standard deviation here, so a dark image becomes as bright as "
    "any other. The statistics are the whole set's.",
    over(1, 2, 3),
    over(2, 3),
)
known.mistake(
    "per_pixel",
    "Each place has its own mean and standard deviation here: you average over the images alone. "
    "One number per channel runs over their pixels, too.",
    over(0),
    over(0, 1),
)
known.mistake(
    "columns",
    "Each *column* has statistics of its own: (3,) lines up with the width. It is silent because "
    "here the width is 3. One number per channel has the shape (1, 3, 1, 1).",
    over(0, 2, 3, keepdim=False),
)
known.mistake(
    "variance",
    "You divide by the variance. The standard deviation is its square root.",
    over(0, 2, 3, spread=torch.var),
)
known.mistake(
    "not_centered",
    "The standard deviation is right, but the mean is not 0: subtract it first.",
    by(lambda images, x, mean, std: x / std),
)
known.mistake(
    "not_divided",
    "The mean is right, but the standard deviation is not 1: divide by it.",
    by(lambda images, x, mean, std: x - mean),
)
known.mistake(
    "brackets",
    "The division comes first in x - mean / std: what is divided needs brackets.",
    by(lambda images, x, mean, std: x - mean / std),
)
known.mistake(
    "wrapped",
    "Bytes wrap around: 3 - 5 is 254 in uint8. Turn the images into floats before you subtract.",
    by(lambda images, x, mean, std: (images - mean.to(torch.uint8)).float() / std),
)
known.mistake(
    "two_scales",
    "Your images and their statistics are on two scales: divide by 255 before you compute both, or "
    "not at all.",
    by(lambda images, x, mean, std: (x / 255 - mean) / std),
)
known.mistake(
    "network_range",
    "That is the network's range of eq. 02.1, the same for every data set. Here each channel is "
    "shifted and scaled by its own statistics.",
    lambda images: 2 * (images / 255) - 1,
    lambda images: images / 255,
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


known = right(
    "balanced_places",
    "as many of each class, the first of them, in the set's own order.",
    balanced_places,
    in_arrays,
    counting(lambda seen, most: seen < most),
    counting(
        lambda seen, most: seen < most,
        lambda seen, most: len(seen) == 10 and min(seen.values()) >= most,
    ),
    each(first, classes=lambda labels: range(10)),
    lambda labels, per_class: (
        torch.nn.functional.one_hot(labels).cumsum(0).gather(1, labels[:, None])[:, 0] <= per_class
    ).nonzero()[:, 0],
)
known.mistake(
    "first_rows",
    "You take the first images whatever they show; in a small set the classes come out uneven. "
    "Count per class.",
    lambda labels, per_class: torch.arange(per_class * len(labels.unique())),
)
known.mistake(
    "grouped",
    "The right images, class after class. Keep them in the set's own order: sort the places at the "
    "end.",
    each(first, order=False),
)
known.mistake(
    "one_more",
    "You take one more of each class than asked: is it < or <=?",
    counting(lambda seen, most: seen <= most),
    each(lambda places, most: places[: most + 1]),
)
known.mistake(
    "one_less",
    "You take one less of each class than asked: is it < or <=?",
    counting(lambda seen, most: seen < most - 1),
)
known.mistake(
    "last_ones",
    "You take the last images of each class; the first ones were asked for.",
    each(lambda places, most: places[-most:]),
)
known.mistake(
    "stops_early",
    "Your loop ends where the last class becomes full, before it has kept the image that fills it.",
    stopping(lambda labels: labels.tolist()),
    stopping(lambda labels: {*range(10), *labels.tolist()}),
)
known.mistake(
    "full_left_out",
    "A class with exactly as many images as asked is left out: is it > or >=?",
    each(lambda places, most: places[:most] if len(places) > most else places[:0]),
)
known.mistake(
    "counted_classes",
    "You take the classes to be 0, 1, … without a gap. Here one is missing in between: loop over "
    "those that there are.",
    each(first, classes=lambda labels: range(len(labels.unique()))),
)
known.mistake(
    "last_class",
    "The last class is missing: range(n) ends at n - 1.",
    each(first, classes=lambda labels: range(int(labels.max()))),
)
known.mistake(
    "labels",
    "You return the labels of the images. Their places in the set were asked for.",
    lambda labels, per_class: labels[balanced_places(labels, per_class)],
)
known.mistake(
    "mask",
    "You return a mask. Its places were asked for: where is it True?",
    lambda labels, per_class: torch.isin(
        torch.arange(len(labels)), balanced_places(labels, per_class)
    ),
)

known = right(
    "batches_and_left_out",
    "full batches alone; with another order in each epoch, other images are left out.",
    divmod(50_000, 128),
    list(divmod(50_000, 128)),
    torch.tensor(divmod(50_000, 128)),
    solution="batches_and_left_out = divmod(50_000, 128)",
)
known.mistake(
    "kept_last",
    "You keep the incomplete batch, as the course's loaders do. This one is made with "
    "drop_last=True.",
    (391, 0),
)
known.mistake(
    "rounded_up",
    "Your last batch is the incomplete one: it is dropped, so it does not count.",
    (391, 80),
)
known.mistake(
    "missing_to_full",
    "That is how many images the last batch lacks. It is the ones that it has that are left out.",
    (390, 48),
    (391, 48),
)
known.mistake(
    "not_whole",
    "A batch is there or not: a loader gives whole ones.",
    (390.625, 0),
    (390.625, 0.625),
    (390.625, 80),
    (390, 0.625),
)
known.mistake(
    "all_sixty_thousand",
    "60,000 are all of CIFAR-10; not all of them are for training.",
    (468, 96),
    (469, 96),
    (469, 0),
    (469, 32),
)
known.mistake(
    "test_images",
    "Those are the test images, which no loader for training shows.",
    (78, 16),
    (79, 16),
    (79, 0),
)
known.mistake(
    "bundled",
    "That is the small subset that comes with the package. CIFAR-10 has more training images.",
    (15, 80),
    (16, 80),
    (16, 0),
)
known.mistake(
    "swapped",
    "The right numbers in the wrong order: batches first, then images.",
    (80, 390),
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


known = right(
    "flip_some",
    "each image by its own coin, left and right swapped, and the input unharmed.",
    flip_some,
    lambda x, coins: torch.stack([p.flip(-1) if coin else p for p, coin in zip(x, coins)]),
    on_a_copy,
    lambda x, coins: x + per_image(coins) * (x[..., range(x.shape[3] - 1, -1, -1)] - x),
)
known.mistake(
    "unchanged",
    "This is the printed code: where B equals the width it gives each *column* a coin, elsewhere "
    "it fails. And dimension 2 runs from top to bottom.",
)
known.mistake(
    "upside_down",
    "Your images are upside down: which dimension of (B, C, H, W) is W?",
    where(per_image, 2),
)
known.mistake(
    "turned",
    "Your images are turned by 180 degrees. Mirroring leaves the rows where they are.",
    where(per_image, (2, 3)),
)
known.mistake(
    "channels",
    "Red and blue change places: dimension 1 holds the channels.",
    where(per_image, 1),
)
known.mistake(
    "one_coin",
    "One coin decides for the whole batch. Each image has its own.",
    lambda x, coins: x.flip(3) if coins[0] else x,
    lambda x, coins: x.flip(3) if coins.all() else x,
    lambda x, coins: x.flip(3) if coins.any() else x,
)
known.mistake(
    "inverted",
    "You mirror exactly the other images: mirror where the coin is True.",
    lambda x, coins: flip_some(x, ~coins),
)
known.mistake(
    "only_mirrored",
    "You return the mirrored images alone. Those whose coin is False belong to the batch, too.",
    lambda x, coins: x[coins].flip(3),
)
known.mistake(
    "columns_by_coin",
    "Each *column* has a coin here: (B,) lines up with the last dimension. It is silent whenever B "
    "equals W. Give the coins the shape (B, 1, 1, 1).",
    where(lambda coins: coins, 3),
)
known.mistake(
    "rows_or_channels_by_coin",
    "Your coins line up with the rows or the channels. With one 1 for every dimension of an image "
    "they line up with the images.",
    where(lambda coins: coins[:, None], 3),
    where(lambda coins: coins[:, None, None], 3),
)
known.mistake(
    "in_place",
    "Your function changes the batch that it was given. Mirror a copy.",
    lambda x, coins: x.index_copy_(0, coins.nonzero()[:, 0], x[coins].flip(3)),
)
