"""The images: what range they have, which classes, and in which order they come."""

import random

import numpy as np
import pytest
import torch

from cdiff_helpers.data import (
    BinaryCIFAR10,
    EpochShuffle,
    ResidentLoader,
    make_loader,
    to_image_range,
    to_model_range,
    to_uint8,
    worker_init_fn,
)


def test_ranges_are_each_others_inverse_and_equal_the_transforms():
    from torchvision.transforms import Compose, Normalize, ToTensor

    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    x0 = to_model_range(torch.from_numpy(pixels).permute(2, 0, 1))
    assert torch.equal(Compose([ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)])(pixels), x0)
    assert x0.min() == -1 and x0.max() == 1
    back = to_uint8(to_image_range(x0))
    assert torch.equal(back, torch.from_numpy(pixels).permute(2, 0, 1))
    assert torch.equal(to_model_range(to_image_range(x0)), x0) or torch.allclose(
        to_model_range(to_image_range(x0)), x0, atol=1e-6
    )


def test_what_lies_outside_is_clamped_for_eyes():
    assert to_image_range(torch.tensor([1.2, -7.0])).tolist() == [1.0, 0.0]


def test_files_hold_the_nearest_of_256_values():
    assert to_uint8(torch.tensor([0.0, 0.499 / 255, 0.501 / 255, 1.0])).tolist() == [0, 0, 1, 255]
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_image_range(to_model_range(pixels))), pixels)


def test_chosen_classes_keep_their_labels_or_count_anew(bundle):
    pets = BinaryCIFAR10(("dog", 3), source="bundled")
    assert len(pets) == 400 and set(pets.labels.tolist()) == {3, 5}
    assert pets.classes[pets[0][1]] in ("cat", "dog")
    again = BinaryCIFAR10(("dog", 3), source="bundled", relabel=True)
    assert again.classes == ("dog", "cat")
    assert torch.equal(again.labels, (pets.labels == 3).long())
    assert torch.equal(again.images, bundle.images[(bundle.labels == 3) | (bundle.labels == 5)])
    assert len(BinaryCIFAR10(["truck"], train=False, source="bundled")) == 50


def orders(loader, epochs=2):
    return [[y for _, labels in loader for y in labels.tolist()] for _ in range(epochs)]


@pytest.mark.parametrize("kind", [make_loader, ResidentLoader])
def test_batches_cover_the_set_in_an_order_that_the_seed_and_the_epoch_give(kind, bundle):
    loader = kind(bundle, 300, seed=1)
    shapes = [(x0.shape[0], x0.dtype, y.dtype) for x0, y in loader]
    assert [s[0] for s in shapes] == [300] * 6 + [200] and len(loader) == 7
    assert shapes[0][1:] == (torch.float32, torch.int64)
    first, second = orders(kind(bundle, 300, seed=1))
    assert first != second and sorted(first) == sorted(bundle.labels.tolist())
    assert [first, second] == orders(kind(bundle, 300, seed=1))
    assert orders(kind(bundle, 300, seed=2))[0] != first
    later = kind(bundle, 300, seed=1)
    getattr(later, "sampler", later).set_epoch(1)
    assert orders(later, 1) == [second]


def test_both_loaders_give_the_same_pictures(bundle):
    plain, resident = make_loader(bundle, 64), ResidentLoader(bundle, 64, flip=False)
    for (x0, y), (x1, y1) in zip(plain, resident):
        assert torch.equal(x0, x1) and torch.equal(y, y1)


def test_half_of_the_pictures_are_mirrored_whole(bundle):
    order = list(EpochShuffle(len(bundle), 0))
    x0 = torch.cat([x0 for x0, _ in ResidentLoader(bundle, 500, seed=0)])
    plain = to_model_range(bundle.images[order])
    same = (x0 == plain).flatten(1).all(1)
    mirrored = (x0 == plain.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all() and 0.45 < mirrored.float().mean() < 0.55


def test_a_worker_seeds_python_and_numpy_as_torch():
    draws = []
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        worker_init_fn(0)
        draws.append((random.random(), np.random.rand()))
    random.setstate(before[0])
    np.random.set_state(before[1])
    torch.set_rng_state(before[2])
    assert draws[0] == draws[1] and draws[0][0] != draws[2][0] and draws[0][1] != draws[2][1]


class RandomSet(torch.utils.data.Dataset):
    """What Python's, numpy's and torch's generators say in a worker."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return random.random(), np.random.rand(), torch.rand(()).item()


def worker_draws(seed):
    loader = make_loader(RandomSet(), 2, seed=seed, num_workers=2)
    return [torch.stack(list(batch)).tolist() for batch in loader]


def test_workers_repeat_with_the_seed_and_differ_from_each_other():
    first = worker_draws(0)
    assert first == worker_draws(0) != worker_draws(1)
    flat = [round(x, 9) for batch in first for kind in batch for x in kind]
    assert len(set(flat)) == len(flat) == 24


class Own:
    """A student's own data set, without a class of the course."""

    def __init__(self, images, labels):
        self.images, self.labels, self.classes = images, labels, ("one", "other")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return to_model_range(torch.as_tensor(self.images[i])), int(self.labels[i])


@pytest.mark.parametrize("kind", [make_loader, ResidentLoader])
@pytest.mark.parametrize("form", [torch.as_tensor, np.asarray])
def test_a_students_own_data_set_gives_batches(kind, form, bundle):
    own = Own(form(bundle.images[:20]), form(bundle.labels[:20] % 2))
    first, y = next(iter(kind(own, np.int64(8), seed=np.int64(1))))
    assert first.shape == (8, 3, 32, 32) and y.dtype == torch.int64 and set(y.tolist()) <= {0, 1}


@pytest.mark.parametrize("kind", [make_loader, ResidentLoader])
def test_a_loader_notes_pythons_numbers_and_takes_every_seed(kind, bundle):
    loader = kind(bundle, np.int64(300), seed=np.uint8(1))
    order = getattr(loader, "sampler", loader)
    assert (type(loader.batch_size), type(order.seed)) == (int, int)
    assert orders(loader) == orders(kind(bundle, 300, seed=1))
    largest = [orders(kind(bundle, 300, seed=seed), 1) for seed in (2**63 - 1, 2**32, 0)]
    assert largest[0] != largest[1] != largest[2]


def test_training_finds_the_labels_of_both_loaders(bundle):
    assert torch.equal(make_loader(bundle).dataset.labels, bundle.labels)
    assert torch.equal(ResidentLoader(bundle).labels, bundle.labels)
