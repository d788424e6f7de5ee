"""The pictures: where they come from, what range they have, in which order they come."""

import hashlib
import json
import random
import shutil

import numpy as np
import pytest
import torch

from cdiff_helpers import data as module
from cdiff_helpers.data import (
    BUNDLE,
    CLASS_NAMES,
    BinaryCIFAR10,
    EpochShuffle,
    ResidentLoader,
    load_cifar10,
    make_loader,
    to_image_range,
    to_model_range,
    worker_init_fn,
)


@pytest.fixture
def no_network(monkeypatch):
    """The archive's host does not answer."""

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.urllib.request.urlopen", refuse)


def test_ranges_are_each_others_inverse_and_equal_the_transforms():
    from torchvision.transforms import Compose, Normalize, ToTensor

    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    x0 = to_model_range(torch.from_numpy(pixels).permute(2, 0, 1))
    assert torch.equal(Compose([ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)])(pixels), x0)
    assert x0.min() == -1 and x0.max() == 1
    back = (to_image_range(x0) * 255).round().to(torch.uint8)
    assert torch.equal(back, torch.from_numpy(pixels).permute(2, 0, 1))
    assert torch.equal(to_model_range(to_image_range(x0)), x0) or torch.allclose(
        to_model_range(to_image_range(x0)), x0, atol=1e-6
    )


def test_what_lies_outside_is_clamped_for_eyes_and_refused_for_the_network():
    assert to_image_range(torch.tensor([1.2, -7.0])).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match=r"\[-1, 1\]; expected \[0, 1\]"):
        to_model_range(torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize(("train", "per_class"), [(True, 200), (False, 50)])
def test_the_bundle_holds_as_many_pictures_of_each_class(train, per_class, capsys):
    data = load_cifar10(train=train, source="bundled")
    assert len(data) == 10 * per_class and data.source == "bundled"
    assert data.labels.bincount().tolist() == [per_class] * 10
    assert data.classes == CLASS_NAMES and data.images.dtype == torch.uint8
    x0, y = data[0]
    assert x0.shape == (3, 32, 32) and x0.dtype == torch.float32 and isinstance(y, int)
    assert -1 <= x0.min() < x0.max() <= 1
    said = capsys.readouterr().out
    assert f"{10 * per_class:,}" in said and "'bundled'" in said and "subset" in said


def test_the_bundle_follows_its_written_rule():
    """Every index is the one that the rule picks, given how many pictures a class has."""
    about = json.loads((BUNDLE / "subset.json").read_text())
    for part, size in (("train", 50_000), ("test", 10_000)):
        index, labels = np.array(about[part]["indices"]), np.array(about[part]["labels"])
        assert (np.diff(index) > 0).all() and index.max() < size
        for c in range(10):
            order = np.random.default_rng([about["seed"], c]).permutation(size // 10)
            kept = np.sort(order[: (labels == c).sum()])
            # the k-th picture of a class stands after k others of its class, at index k or later
            assert (index[labels == c] >= kept).all()
    assert sum(f.stat().st_size for f in BUNDLE.glob("*.*")) < 5e6


def test_a_damaged_bundle_is_named(monkeypatch, tmp_path):
    shutil.copytree(BUNDLE, tmp_path / "bundled", ignore=shutil.ignore_patterns("reference"))
    monkeypatch.setattr(module, "BUNDLE", tmp_path / "bundled")
    mosaic = tmp_path / "bundled" / "test.webp"
    mosaic.write_bytes(mosaic.read_bytes()[:100_000])
    with pytest.raises(FileNotFoundError, match=r"bundled.*install the package again"):
        load_cifar10(train=False, source="bundled")


def npm_file(folder, monkeypatch):
    """A made-up whole set in the npm file's form, whose digests are taken for the true ones."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (50, 32, 32, 3), dtype=np.uint8),
        "y_train": rng.integers(0, 10, 50, dtype=np.uint8),
    }
    digests = {k: hashlib.sha256(v.tobytes()).hexdigest() for k, v in arrays.items()}
    monkeypatch.setattr(module, "SHA256", digests)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / module.NPM_FILE, **arrays)
    return arrays


def test_what_is_on_disk_and_intact_comes_first(monkeypatch, tmp_path):
    arrays = npm_file(tmp_path, monkeypatch)
    data = load_cifar10(tmp_path)
    assert data.source == "npm" and len(data) == 50
    assert torch.equal(data.images[7], torch.from_numpy(arrays["x_train"][7]).permute(2, 0, 1))


@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_what_is_on_disk_and_damaged_is_passed_over_aloud(
    damage, monkeypatch, tmp_path, no_network, capsys
):
    npm_file(tmp_path, monkeypatch)
    path = tmp_path / module.NPM_FILE
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        monkeypatch.setitem(module.SHA256, "x_train", "0" * 64)
    monkeypatch.setattr(module, "read_bundle", lambda *_: (np.zeros((1, 32, 32, 3), np.uint8),) * 2)
    monkeypatch.setattr(module, "announce", lambda *a: print("; ".join(a[3])))
    load_cifar10(tmp_path)
    assert module.NPM_FILE in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="delete"):
        load_cifar10(tmp_path, source="npm")


def test_without_a_network_the_bundle_serves_and_nothing_is_left_behind(
    tmp_path, no_network, capsys
):
    assert load_cifar10(tmp_path / "data").source == "bundled"
    assert "no network" in capsys.readouterr().out
    assert list((tmp_path / "data").iterdir()) == []
    with pytest.raises(FileNotFoundError, match=r'no network.*source="bundled"'):
        load_cifar10(tmp_path / "data", source="archive")


def test_a_root_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match=r"file"):
        load_cifar10(tmp_path / "file", source="archive")
    with pytest.raises(ValueError, match="source is 'web'; expected one of auto, archive"):
        load_cifar10(source="web")


def test_chosen_classes_keep_their_labels_or_count_anew(bundle):
    pets = BinaryCIFAR10(("dog", 3), source="bundled")
    assert len(pets) == 400 and set(pets.labels.tolist()) == {3, 5}
    assert pets.classes[pets[0][1]] in ("cat", "dog")
    again = BinaryCIFAR10(("dog", 3), source="bundled", relabel=True)
    assert again.classes == ("dog", "cat")
    assert torch.equal(again.labels, (pets.labels == 3).long())
    assert torch.equal(again.images, bundle.images[(bundle.labels == 3) | (bundle.labels == 5)])
    assert len(BinaryCIFAR10(["truck"], train=False, source="bundled")) == 50


@pytest.mark.parametrize("classes", [("unicorn",), (10,), (-1,), (), ("cat", 3), (1.5,), (True,)])
def test_classes_that_are_not_there_are_named(classes):
    with pytest.raises(ValueError, match=r"there is no class|at least one"):
        BinaryCIFAR10(classes, source="bundled")


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


@pytest.mark.parametrize("kind", [make_loader, ResidentLoader])
def test_batches_need_pictures_and_room(kind, bundle):
    with pytest.raises(ValueError, match="batch_size is 0"):
        kind(bundle, 0)
    with pytest.raises(ValueError, match="empty"):
        kind(type(bundle)(bundle.images[:0], bundle.labels[:0], CLASS_NAMES, "bundled"))
