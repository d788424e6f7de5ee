"""Hidden checks of notebook 02."""

import torch

from cdiff_helpers.checks.verdict import Wrong, call, call_tensor, diagnose

from .draws import whole


def standardise(answer, generator) -> None:
    shape = (whole(generator, 5, 9), 3, whole(generator, 4, 9), whole(generator, 4, 9))
    images = torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    images[:, 1] //= 3
    value = call_tensor(answer, images, shape=shape)
    flat = value.transpose(0, 1).flatten(1)
    diagnose(flat.mean(1), torch.zeros(3), {}, 1e-3)
    diagnose(flat.std(1, correction=0), torch.ones(3), {}, 2e-2)
    x = images.double().transpose(0, 1).flatten(1)
    diagnose(flat, (x - x.mean(1)[:, None]) / x.std(1)[:, None], {}, 2e-2)


def balanced_places(answer, generator) -> None:
    labels = torch.randint(0, 5, (whole(generator, 60, 90),), generator=generator)
    per_class = whole(generator, 1, int(labels.bincount().min()))
    left, wanted = dict.fromkeys(range(5), per_class), []
    for place, label in enumerate(labels.tolist()):
        if left[label]:
            left[label] -= 1
            wanted.append(place)
    if [int(i) for i in call(answer, labels, per_class)] != wanted:
        raise Wrong(f"wrong places for {per_class} of each of 5 classes among {len(labels)}.")


def flip_some(answer, generator) -> None:
    shape = (whole(generator, 2, 9), 3, whole(generator, 2, 9), whole(generator, 2, 9))
    x = torch.rand(shape, generator=generator)
    coins = torch.rand(shape[0], generator=generator) < 0.5
    wanted = x.clone()
    for i in range(shape[0]):
        if coins[i]:
            wanted[i] = x[i, :, :, torch.arange(shape[3] - 1, -1, -1)]
    diagnose(call_tensor(answer, x, coins, shape=shape), wanted, {})


HIDDEN = {"standardise": standardise, "balanced_places": balanced_places, "flip_some": flip_some}
