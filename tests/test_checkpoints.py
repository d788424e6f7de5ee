"""Nothing lost: kills, faults of the disk, damaged files, interrupts, and runs that go wrong."""

import copy
import errno
import io
import itertools
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import fields, make_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn
from torch.utils.data import Dataset

from cdiff_helpers.data import ResidentLoader, make_loader
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.runtime import SUMS, digest_line
from cdiff_helpers.training import (
    FILES,
    Diverged,
    Interrupted,
    OutOfMemory,
    TrainConfig,
    TrainState,
    checkpointed,
    checkpoints,
    extended,
    load_checkpoint,
    load_ema_model,
    open_run,
    save_checkpoint,
    train,
    warn_if_stuck,
)
from cdiff_helpers.training.checkpoints import restore_generator
from cdiff_helpers.unet import ConditionalUNet
from tests.support import runs
from tests.support.notebooks import HOUSE
from tests.support.runs import TINY, fresh, network, same
from tests.support.systems import needs_program, posix_only

PLAIN = {"precision": "float32"}
LONG = pytest.mark.slow  # cases that plain pytest leaves to the others of their kind


def after(state, index):
    """The state as if it had made so many updates: every file of its checkpoint is another."""
    with torch.no_grad():
        for i, parameter in enumerate(state.model.parameters()):
            parameter.fill_(index + i / 100)
        for average in state.ema.model.parameters():
            average.fill_(index / 2)
    state.generator.manual_seed(index)
    state.index, state.ema.num_updates = index, index
    state.loss_record[:index] = torch.arange(1, index + 1) / 7
    return state


def files_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def older(folder):
    """Have a run's folder look as older versions left it: the newest checkpoint's files in it."""
    for path in (folder / "latest").iterdir():
        path.rename(folder / path.name)
    (folder / "latest").rmdir()


def is_after(state, index):
    return state.index == index and same(state, after(fresh(state.config, **TINY), index))


# --- resuming


@pytest.mark.parametrize("kind", [make_loader, ResidentLoader])
@pytest.mark.parametrize("stop", [1, 4, 9])
def test_an_interrupted_run_resumes_to_the_same_weights(
    kind, stop, bundle, short_process, tmp_path
):
    """10 updates over epochs of 4 batches, stopped after `stop`, saved, loaded, gone on with."""
    config = TrainConfig(num_updates=10, batch_size=16, precision="float32")
    small = type(bundle)(bundle.images[:52], bundle.labels[:52], bundle.classes, "bundled")
    whole = fresh(config, channels=(4,), emb_dim=8)
    rates = [s.learning_rate for s in train(whole, short_process, kind(small, 16, seed=3))]

    state = fresh(config, channels=(4,), emb_dim=8)
    for step in train(state, short_process, kind(small, 16, seed=3)):
        if step.index == stop - 1:
            break
    save_checkpoint(tmp_path, state)
    again = load_checkpoint(tmp_path)
    assert again.index == stop and again.config == config
    rest = [s.learning_rate for s in train(again, short_process, kind(small, 16, seed=3))]
    assert rest == rates[stop:]
    assert same(whole, again)


def test_a_run_in_mixed_precision_resumes_to_the_same_curve(bundle, short_process, tmp_path):
    """Where the processor computes in bfloat16: the same pictures, rates, and nearly losses."""
    config = TrainConfig(num_updates=10, batch_size=16)

    def seen(loader, labels):
        for x0, y in loader:
            labels.append(y)
            yield x0, y

    class Seeing(ResidentLoader):
        def __iter__(self):
            yield from seen(super().__iter__(), order)

    order = []
    whole = fresh(config, **TINY)
    rates = [s.learning_rate for s in train(whole, short_process, Seeing(bundle, 16, 3))]
    all_of_them, order = order, []
    state = fresh(config, **TINY)
    for step in train(state, short_process, Seeing(bundle, 16, 3)):
        if step.index == 4:
            break
    save_checkpoint(tmp_path, state)
    order = []
    again = load_checkpoint(tmp_path)
    rest = [s.learning_rate for s in train(again, short_process, Seeing(bundle, 16, 3))]
    assert rest == rates[5:] and torch.allclose(again.losses, whole.losses, atol=0.02)
    assert all(torch.equal(a, b) for a, b in zip(order, all_of_them))


class Augmented(Dataset):
    """Pictures with noise from the workers' global generators: Python's, numpy's and torch's."""

    def __len__(self):
        return 20

    def __getitem__(self, i):
        drawn = random.random() + np.random.rand() + torch.rand(())
        return torch.full((3, 8, 8), i / 20) + 0.1 * drawn, i % 10


@pytest.mark.parametrize("stop", [2, 7])
def test_data_that_workers_augment_is_the_same_after_a_resume(stop):
    """The workers' seeds are the epoch's, not those of a generator that began anew."""

    def batches(start):
        from cdiff_helpers.training import endless

        loader = make_loader(Augmented(), 4, seed=5, num_workers=2)
        return [x for x, _ in itertools.islice(endless(loader, start), 10 - start)]

    whole, rest = batches(0), batches(stop)
    assert all(torch.equal(a, b) for a, b in zip(whole[stop:], rest, strict=True))
    assert not torch.equal(whole[0], whole[5])


class Forgetful(nn.Module):
    """A network with dropout: it draws from the global generator."""

    null_class = 10

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, xt, t, y):
        return nn.functional.dropout(self.layer(xt), 0.5, self.training)


def test_a_network_with_dropout_resumes_to_the_same_weights(batches, short_process, tmp_path):
    config = TrainConfig(num_updates=6, **PLAIN)
    torch.manual_seed(3)
    whole = TrainState(Forgetful(), config)
    list(train(whole, short_process, batches))
    elsewhere = random.random(), np.random.rand()
    torch.manual_seed(3)
    state = TrainState(Forgetful(), config)
    for step in train(state, short_process, batches):
        if step.index == 3:
            break
    save_checkpoint(tmp_path, state)
    torch.manual_seed(99), random.seed(99), np.random.seed(99)
    before = torch.get_rng_state()
    again = load_checkpoint(tmp_path, Forgetful())
    torch.set_rng_state(before)  # the new network's weights were drawn
    list(train(again, short_process, batches))
    assert same(whole, again)
    assert (random.random(), np.random.rand()) != elsewhere


def test_loading_alone_leaves_the_global_generators_alone(tmp_path):
    save_checkpoint(tmp_path, fresh(TrainConfig(num_updates=2), **TINY))
    model = network(**TINY)
    before = random.getstate(), torch.get_rng_state()
    load_checkpoint(tmp_path, model)
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[1])


def test_a_cell_run_twice_goes_on_and_a_third_time_finds_it_finished(
    batches, short_process, tmp_path, capsys
):
    config = TrainConfig(num_updates=6, **PLAIN)
    whole = open_run(tmp_path / "whole", network(**TINY), config)
    list(train(whole, short_process, batches))
    state = open_run(tmp_path / "cut", network(**TINY), config)
    steps = checkpointed(train(state, short_process, batches), state, tmp_path / "cut")
    for step in steps:
        if step.index == 2:
            break
    steps.close()
    again = open_run(tmp_path / "cut", network(seed=9, **TINY), config)
    assert "3 of 6 updates done." in capsys.readouterr().out and again.index == 3
    list(checkpointed(train(again, short_process, batches), again, tmp_path / "cut"))
    assert same(whole, again)
    third = open_run(tmp_path / "cut", network(**TINY), config)
    assert "It is finished" in capsys.readouterr().out
    assert list(train(third, short_process, batches)) == [] and same(whole, third)


@pytest.mark.parametrize(
    ("model", "config", "words"),
    [
        ({}, {"learning_rate": 1e-3}, "learning_rate is 0.001, was 0.002"),
        ({}, {"seed": 4, "label_drop": 0.2}, "seed is 4, was 0; label_drop is 0.2, was 0.1"),
        ({"num_classes": 4}, {}, "num_classes is 4, was 10"),
        ({"channels": (8,)}, {}, r"channels is \[8\], was \[4\]"),
    ],
)
def test_another_configuration_is_refused_with_the_difference(model, config, words, tmp_path):
    save_checkpoint(tmp_path, fresh(TrainConfig(num_updates=2), **TINY))
    kept = files_in(tmp_path)
    with pytest.raises(ValueError, match=rf"is another one \(.*{words}.*another folder"):
        open_run(tmp_path, network(**TINY | model), TrainConfig(**{"num_updates": 2} | config))
    assert files_in(tmp_path) == kept


@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", SUMS, "latest", "state.pt"])
def test_a_run_is_not_begun_over_files_of_others(name, save, tmp_path):
    """Common names: a folder of Hugging Face's has the first two, one of downloads the third."""
    (tmp_path / name).write_text("abc  debian.iso", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"holds {name}, and no run; expected an empty folder"):
        if save:
            save_checkpoint(tmp_path, fresh(TrainConfig(num_updates=2), **TINY))
        else:
            open_run(tmp_path, network(**TINY), TrainConfig(num_updates=2))
    assert [path.read_text("utf-8") for path in tmp_path.iterdir()] == ["abc  debian.iso"]


def test_weights_of_another_network_are_refused(tmp_path):
    save_checkpoint(tmp_path, TrainState(Forgetful(), TrainConfig(num_updates=2)))
    other = Forgetful()
    other.layer = nn.Conv2d(3, 3, 5, padding=2)
    with pytest.raises(ValueError, match=r"of another network \(.*layer\.weight.*5, 5"):
        load_checkpoint(tmp_path, other)
    with pytest.raises(
        ValueError, match=r"another network than a ConditionalUNet.*\(folder, model"
    ):
        load_checkpoint(tmp_path)


def test_a_compiled_network_is_saved_under_its_plain_names(tmp_path):
    config = TrainConfig(num_updates=2)
    compiled = torch.compile(network(**TINY), backend="eager")
    state = open_run(tmp_path, compiled, config)
    assert state.network is compiled and type(state.model) is ConditionalUNet
    for again in (network(1, **TINY), torch.compile(network(1, **TINY), backend="eager")):
        assert same(open_run(tmp_path, again, config), state)
    assert same(load_checkpoint(tmp_path), state)


def test_a_network_with_a_compiled_part_is_saved_and_read_too(tmp_path):
    state = fresh(TrainConfig(num_updates=2), **TINY)
    save_checkpoint(tmp_path / "plain", state)
    part = network(1, **TINY)
    part.middle[0] = torch.compile(part.middle[0], backend="eager")
    assert same(open_run(tmp_path / "plain", part, state.config), state)
    save_checkpoint(tmp_path / "part", TrainState(part, state.config))
    assert same(load_checkpoint(tmp_path / "part"), state)


def test_a_run_that_was_saved_under_the_wrappers_names_is_read(tmp_path, monkeypatch):
    state = fresh(TrainConfig(num_updates=2), **TINY)
    plain = [parameter.clone() for parameter in state.model.parameters()]
    for owner in (state, state.ema):
        owner.model = torch.compile(owner.model, backend="eager")
    monkeypatch.setattr(checkpoints, "plain", lambda name: name)
    save_checkpoint(tmp_path, state)
    monkeypatch.undo()
    names = load_tensors((tmp_path / "latest" / "model.safetensors").read_bytes())
    assert all(name.startswith("_orig_mod.") for name in names)
    for model in (load_checkpoint(tmp_path, network(**TINY)).model, load_ema_model(tmp_path)):
        assert all(map(torch.equal, model.parameters(), plain))


def test_a_network_in_a_wrapper_for_many_gpus_is_refused_at_the_start(tmp_path):
    wrapped = nn.DataParallel(network(**TINY))
    for model in (wrapped, torch.compile(wrapped, backend="eager")):
        with pytest.raises(ValueError, match=r"is a DataParallel; expected the network .*torchrun"):
            open_run(tmp_path, model, TrainConfig(num_updates=2))
    assert not list(tmp_path.iterdir())


def test_a_loader_with_another_order_is_refused(bundle, short_process, tmp_path):
    config = TrainConfig(num_updates=4, batch_size=16, **PLAIN)
    state = fresh(config, **TINY)
    next(train(state, short_process, ResidentLoader(bundle, 16, 3)))
    save_checkpoint(tmp_path, state)
    for loader, words in (
        (ResidentLoader(bundle, 32, 3), "batch_size is 32, was 16"),
        (ResidentLoader(bundle, 16, 4), "seed is 4, was 3"),
        (ResidentLoader(bundle, 16, 3, flip=False), "flip is False, was True"),
    ):
        with pytest.raises(ValueError, match=f"{words}.*another folder"):
            next(train(load_checkpoint(tmp_path), short_process, loader))
    assert next(train(load_checkpoint(tmp_path), short_process, ResidentLoader(bundle, 16, 3)))


def test_a_finished_run_is_extended_by_a_new_cycle_that_resumes_too(
    batches, short_process, tmp_path
):
    state = fresh(TrainConfig(num_updates=6, **PLAIN), **TINY)
    with pytest.raises(ValueError, match=r"0 of 6 updates; expected a finished one"):
        extended(state, 20)
    first = [step.learning_rate for step in train(state, short_process, batches)]
    weights = [w.clone() for w in runs.tensors(state)]
    longer = extended(state, 20)
    assert all(torch.equal(a, b) for a, b in zip(weights, runs.tensors(longer)))
    assert longer.config.num_updates == 26 and torch.equal(longer.losses, state.losses)
    moments = [longer.optimizer.state[p]["exp_avg"] for p in longer.model.parameters()]
    assert all(m.any() for m in moments)
    save_checkpoint(tmp_path, longer)
    rates = [step.learning_rate for step in train(longer, short_process, batches)]
    assert len(rates) == 20 and max(rates) == pytest.approx(2e-3) and rates[-1] < first[0]
    again = load_checkpoint(tmp_path)
    assert rates == [step.learning_rate for step in train(again, short_process, batches)]
    assert same(longer, again) and len(again.losses) == 26


# --- what lies on the disk


def test_a_runs_folder_holds_what_the_readme_says(batches, short_process, tmp_path):
    state = fresh(TrainConfig(num_updates=2), **TINY)
    folder = tmp_path / "new" / "run"
    list(checkpointed(train(state, short_process, batches), state, folder, every_seconds=0))
    assert {path.name for path in folder.iterdir()} == {"latest", "previous"}
    for place in folder.iterdir():
        assert {path.name for path in place.iterdir()} == {*FILES, SUMS}
    losses = json.loads((folder / "latest" / "losses.json").read_text(encoding="utf-8"))
    assert losses == state.losses.tolist()
    config = json.loads((folder / "latest" / "config.json").read_text(encoding="utf-8"))
    assert config["training"]["num_updates"] == 2 and config["model"]["channels"] == [4]
    assert torch.__version__ in config["code"]
    for name, model in (("model", state.model), ("ema", state.ema.model)):
        stored = load_tensors((folder / "latest" / f"{name}.safetensors").read_bytes())
        assert all(torch.equal(stored[n], w) for n, w in model.state_dict().items())


@posix_only
def test_a_checkpoint_is_as_readable_as_any_other_folder(tmp_path):
    (tmp_path / "ordinary").mkdir()
    save_checkpoint(tmp_path / "run", fresh(TrainConfig(num_updates=2), **TINY))
    modes = [(tmp_path / name).stat().st_mode for name in ("ordinary", "run/latest")]
    assert modes[0] == modes[1]


@needs_program("sha256sum")
def test_the_digests_are_those_of_sha256sum(tmp_path):
    save_checkpoint(tmp_path, fresh(TrainConfig(num_updates=2), **TINY))
    done = subprocess.run(
        ["sha256sum", "-c", SUMS], cwd=tmp_path / "latest", capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0 and done.stdout.count(": OK") == len(FILES)


def test_a_loop_left_early_is_saved(batches, short_process, tmp_path):
    state = fresh(TrainConfig(num_updates=50))
    steps = checkpointed(train(state, short_process, batches), state, tmp_path)
    for step in steps:
        if step.index == 2:
            break
    steps.close()
    assert load_checkpoint(tmp_path).index == 3


def test_checkpoints_are_written_on_the_way(batches, short_process, tmp_path):
    state = fresh(TrainConfig(num_updates=4))
    steps = checkpointed(train(state, short_process, batches), state, tmp_path, every_seconds=0)
    seen = []
    for _ in steps:
        seen.append(load_checkpoint(tmp_path).index if (tmp_path / "latest").exists() else 0)
    assert seen == [0, 1, 2, 3] and load_checkpoint(tmp_path).index == 4


def test_checkpointed_works_beside_the_main_thread(batches, short_process, tmp_path):
    state = fresh(TrainConfig(num_updates=1))
    steps = checkpointed(train(state, short_process, batches), state, tmp_path)
    thread = threading.Thread(target=lambda: list(steps))
    thread.start()
    thread.join(60)
    assert load_checkpoint(tmp_path).index == 1


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_run_is_named(name, tmp_path):
    save_checkpoint(tmp_path, fresh(TrainConfig(num_updates=2)))
    path = tmp_path / "latest" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"is damaged .*another folder"):
        load_checkpoint(tmp_path)


def test_a_missing_run_and_a_folder_that_cannot_be_written_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run in .*nowhere"):
        load_checkpoint(tmp_path / "nowhere")
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(OSError, match=r"could not be saved in .*file.*Choose another"):
        save_checkpoint(tmp_path / "file", fresh(TrainConfig(num_updates=2)))


def test_a_write_that_fails_leaves_the_old_checkpoint_whole(monkeypatch, tmp_path):
    state = fresh(TrainConfig(num_updates=2))
    save_checkpoint(tmp_path, state)
    kept = files_in(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, state)
    assert files_in(tmp_path) == kept and [path.name for path in tmp_path.iterdir()] == ["latest"]


def test_the_newest_damaged_is_named_and_the_one_before_used(tmp_path, capsys):
    state = fresh(TrainConfig(num_updates=9), **TINY)
    for index in (3, 4, 5):
        save_checkpoint(tmp_path, after(state, index))
    assert is_after(load_checkpoint(tmp_path), 5) and capsys.readouterr().out == ""
    (tmp_path / "latest" / "ema.safetensors").write_bytes(b"")
    assert is_after(load_checkpoint(tmp_path), 4)
    assert "damaged (latest/ema.safetensors); the one before is used" in capsys.readouterr().out
    save_checkpoint(tmp_path, after(state, 6))  # and it is mended by the next one
    assert is_after(load_checkpoint(tmp_path), 6) and capsys.readouterr().out == ""
    shutil.rmtree(tmp_path / "latest")  # the damaged one did not take the place of a whole one
    assert is_after(load_checkpoint(tmp_path), 4)


def test_a_folder_of_an_older_version_goes_on_and_is_converted(tmp_path, capsys):
    state = fresh(TrainConfig(num_updates=9), **TINY)
    for index in (3, 4):
        save_checkpoint(tmp_path, after(state, index))
    older(tmp_path)
    assert is_after(load_checkpoint(tmp_path), 4) and load_ema_model(tmp_path)
    assert open_run(tmp_path, network(**TINY), state.config).index == 4
    assert "4 of 9 updates done" in capsys.readouterr().out
    (tmp_path / "state.pt").write_bytes(b"damaged")
    assert is_after(load_checkpoint(tmp_path), 3) and "(state.pt)" in capsys.readouterr().out
    (tmp_path / "mine.txt").write_text("kept", encoding="utf-8")
    save_checkpoint(tmp_path, after(state, 5))
    assert {path.name for path in tmp_path.iterdir()} == {"latest", "previous", "mine.txt"}
    assert is_after(load_checkpoint(tmp_path), 5)


def test_a_checkpoint_can_be_given_itself_and_is_saved_beside(tmp_path):
    state = fresh(TrainConfig(num_updates=9), **TINY)
    for index in (3, 4):
        save_checkpoint(tmp_path / "run", after(state, index))
    assert is_after(load_checkpoint(tmp_path / "run" / "previous"), 3)
    assert is_after(load_checkpoint(tmp_path / "run" / "latest"), 4)
    save_checkpoint(tmp_path / "run" / "latest", after(state, 5))
    with pytest.raises(ValueError, match="previous is a run's checkpoint; expected the run's"):
        save_checkpoint(tmp_path / "run" / "previous", state)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"latest", "previous"}
    assert is_after(load_checkpoint(tmp_path / "run"), 5)


def damaged(content, seed, cuts, flips):
    """The file cut at so many of a hundred places, and with single bits turned over."""
    for percent in range(0, 100, 100 // cuts):
        yield content[: len(content) * percent // 100]
    turned = random.Random(seed)
    for _ in range(flips):
        place, bit = turned.randrange(len(content)), turned.randrange(8)
        yield content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def try_all_damages(name, folder, capsys, **counts):
    """How many damaged copies of a file were tried, with and without a checkpoint before it."""
    alone, two, config = folder / "alone", folder / "two", TrainConfig(num_updates=9)
    save_checkpoint(alone, after(fresh(config, **TINY), 5))
    for index in (4, 5):
        save_checkpoint(two, after(fresh(config, **TINY), index))
    paths = [folder / "latest" / name for folder in (alone, two)]
    content, other, tried = paths[0].read_bytes(), paths[1].read_bytes(), 0
    capsys.readouterr()
    for first, second in zip(damaged(content, 1, **counts), damaged(other, 2, **counts)):
        paths[0].write_bytes(first)
        with pytest.raises(ValueError, match=r"is damaged .*another folder"):
            load_checkpoint(alone)
        paths[1].write_bytes(second)
        assert is_after(load_checkpoint(two), 4)
        said = capsys.readouterr().out
        assert f"(latest/{name})" in said or (name == SUMS and "is damaged" in said)
        tried += 2
    return tried


@pytest.mark.parametrize("name", [*FILES, SUMS])
def test_a_damaged_checkpoint_is_refused(name, tmp_path, capsys):
    """The quick form of the next test."""
    assert try_all_damages(name, tmp_path, capsys, cuts=4, flips=6) == 20


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FILES, SUMS])
def test_no_damaged_checkpoint_is_accepted(name, tmp_path, capsys):
    assert try_all_damages(name, tmp_path, capsys, cuts=100, flips=40) == 280


def rewrite(folder, name, content):
    """Change a file of the newest checkpoint, and its digest along with it."""
    (folder / "latest" / name).write_bytes(content)
    lines = [digest_line(file, (folder / "latest" / file).read_bytes()) for file in FILES]
    (folder / "latest" / SUMS).write_bytes(b"".join(lines))


def test_a_checkpoint_cannot_run_code(tmp_path):
    """One that is whole by its own digests, but whose state is somebody else's pickle."""
    import pickle

    class Runs:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    save_checkpoint(tmp_path / "run", fresh(TrainConfig(num_updates=2), **TINY))
    archive, bomb = io.BytesIO(), pickle.dumps(Runs(), protocol=2)
    stored = io.BytesIO((tmp_path / "run" / "latest" / "state.pt").read_bytes())
    with zipfile.ZipFile(stored) as real, zipfile.ZipFile(archive, "w") as evil:
        for entry in real.namelist():
            evil.writestr(entry, bomb if entry.endswith("data.pkl") else real.read(entry))
    for content in (bomb, archive.getvalue()):
        rewrite(tmp_path / "run", "state.pt", content)
        with pytest.raises(ValueError, match="was not written by save_checkpoint"):
            load_checkpoint(tmp_path / "run")
        assert not (tmp_path / "ran").exists()


def edited(**changes):
    """The bytes of a `config.json` or weights or state with these changes, by the file's name."""
    part = {name: change for name, change in changes.items() if name in ("training", "model")}

    def config(content):
        old = json.loads(content)
        return json.dumps(old | {name: old[name] | part[name] for name in part}).encode()

    def state(content):
        buffer, old = io.BytesIO(), torch.load(io.BytesIO(content), weights_only=True)
        torch.save(old | changes, buffer)
        return buffer.getvalue()

    return config if part else state


def weights_with(name, value):
    def edit(content):
        return save_tensors(load_tensors(content) | {name: value}, {"index": "2"})

    return edit


def moments_of_another_shape(content):
    buffer, old = io.BytesIO(), torch.load(io.BytesIO(content), weights_only=True)
    old["optimizer"]["state"][0]["exp_avg"] = torch.zeros(7)
    torch.save(old, buffer)
    return buffer.getvalue()


NAN, INF = torch.full((4,), math.nan), torch.full((4,), math.inf)
CONTRADICTIONS = {
    "updates": ("config.json", edited(training={"num_updates": 10**12}), "from 1 to 100000000"),
    "wide": ("config.json", edited(model={"channels": [80_000]}), r"of another network.*80000"),
    "stranger": ("config.json", edited(model={"channels": [4096]}), r"of another network.*4096"),
    "deep": ("config.json", edited(model={"channels": [4] * 10_000}), "more levels than"),
    "steps": ("config.json", edited(model={"num_steps": 10**9}), "num_steps is 1000000000"),
    "schedule": ("config.json", edited(model={"num_steps": 2, "alpha_bar": [0.5]}), "alpha_bar"),
    "losses": ("losses.json", lambda _: json.dumps([0.5] * 1000).encode(), "1000; expected 2"),
    "no loss": ("losses.json", lambda _: b"[0.5, NaN]", "losses.json holds 2; expected 2 finite"),
    "index": ("state.pt", edited(index=3), "losses.json holds 2; expected 3"),
    "overrun": ("state.pt", edited(index=10), "index is 10; expected a whole number from 0 to 9"),
    "nan": ("model.safetensors", weights_with("stem.bias", NAN), r"not all finite.*stem\.bias"),
    "inf": ("ema.safetensors", weights_with("stem.bias", INF), r"not all finite.*stem\.bias"),
    "shape": ("ema.safetensors", weights_with("stem.bias", torch.ones(5)), "of another network"),
    "moments": ("state.pt", moments_of_another_shape, "moments are not finite, or of other"),
    "average": ("state.pt", edited(ema_updates="x"), "ema_updates is 'x'"),
}


@pytest.fixture(scope="module")
def a_run(tmp_path_factory, bundle):
    state, folder = fresh(TrainConfig(num_updates=9), **TINY), tmp_path_factory.mktemp("run")
    for step in train(state, DiffusionProcess(20), ResidentLoader(bundle, 16)):
        if step.index == 1:
            save_checkpoint(folder, state)
            return folder


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contents_that_contradict_each_other_are_refused(case, a_run, tmp_path, monkeypatch):
    """Edited along with their digests; nothing large is allocated on the way."""
    name, edit, message = CONTRADICTIONS[case]
    shutil.copytree(a_run, tmp_path / "run")
    rewrite(tmp_path / "run", name, edit((a_run / "latest" / name).read_bytes()))
    before = peak_memory()
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / 'run'))}.*{message}"):
        load_checkpoint(tmp_path / "run")
    if name == "config.json" and case != "updates":
        with pytest.raises(ValueError, match=message):
            load_ema_model(tmp_path / "run")
    assert peak_memory() - before < 200e6


def peak_memory():
    """The most bytes that this process has held; 0 where the system does not tell."""
    resource = pytest.importorskip("resource") if os.name == "posix" else None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit if resource else 0


@pytest.mark.parametrize("part", ["training", "model"])
def test_a_run_of_a_newer_version_is_named_with_its_version(part, a_run, tmp_path):
    shutil.copytree(a_run, tmp_path / "run")
    newer = edited(**{part: {"new_option": 1, "another": 2}})
    content = newer((a_run / "latest" / "config.json").read_bytes())
    content = content.replace(b"cdiff-helpers ", b"cdiff-helpers 99.")
    rewrite(tmp_path / "run", "config.json", content)
    message = r"does not know \(another, new_option\)\. It was saved by 'cdiff-helpers 99\."
    with pytest.raises(ValueError, match=message):
        load_checkpoint(tmp_path / "run")


def test_numbers_of_numpy_train_and_are_saved(batches, short_process, tmp_path):
    config = TrainConfig(
        num_updates=np.int64(2), batch_size=np.int64(8), learning_rate=np.float32(1e-3),
        seed=np.int64(2**40), betas=np.array([0.9, 0.99]), cuda_graphs=np.False_,
    )  # fmt: skip
    kinds = {name: type(value) for name, value in vars(config).items()}
    assert kinds == {name: type(value) for name, value in vars(TrainConfig()).items()}
    state = fresh(config, **TINY)
    steps = train(state, short_process, batches)
    assert len(list(checkpointed(steps, state, tmp_path, np.float32(60)))) == 2
    assert load_checkpoint(tmp_path).config == config
    assert extended(state, np.int64(3)).config.num_updates == 5


def test_a_students_own_classes_train_and_are_saved(batches, short_process, tmp_path):
    """Settings, EMA and network are taken by what they can do."""
    Settings = make_dataclass("Settings", [(f.name, object) for f in fields(TrainConfig)])

    class Average:
        def __init__(self, model):
            self.model, self.updates = copy.deepcopy(model), 0

        def update(self, model):
            self.updates += 1

    class Network(Forgetful):
        def __init__(self):
            super().__init__()
            self.config = {"width": np.int64(3)}  # a number of numpy's

    state = TrainState(Network(), Settings(**vars(TrainConfig(num_updates=2, **PLAIN))))
    state.ema = Average(state.model)
    list(checkpointed(train(state, short_process, batches), state, tmp_path))
    assert state.ema.updates == 2 and load_checkpoint(tmp_path, Network()).index == 2


@posix_only
def test_links_in_a_runs_folder_lead_no_save_elsewhere(tmp_path):
    """Whoever else can write there could plant them."""
    state, run, theirs = fresh(TrainConfig(num_updates=9), **TINY), tmp_path / "run", tmp_path / "x"
    for index in (1, 2):
        save_checkpoint(run, after(state, index))
    theirs.mkdir()
    (theirs / "state.pt").write_text("precious", encoding="utf-8")
    shutil.rmtree(run / "latest")
    for name in ("latest", ".saving-planted"):
        (run / name).symlink_to(theirs, target_is_directory=True)
    for index in (3, 4):
        save_checkpoint(run, after(state, index))
    assert is_after(load_checkpoint(run), 4) and not (run / "latest").is_symlink()
    assert [path.read_text("utf-8") for path in theirs.iterdir()] == ["precious"]


# --- faults


class Killed(BaseException):
    """The process is gone: nothing after it happens."""


class FaultyDisk:
    """The n-th write, fsync, rename or mkdir fails; with `dead`, and so does all that follows."""

    def __init__(self, monkeypatch, n, dead):
        self.left, self.dead, self.failed = n, dead, False
        for name in ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "remove"):
            removes = name in ("unlink", "rmdir", "remove")  # which a save may leave to the next
            monkeypatch.setattr(os, name, self.counted(getattr(os, name), not removes))
        monkeypatch.setattr(Path, "open", self.opened(Path.open))

    def counted(self, call, counts=True):
        def wrapped(*args, **kwargs):
            self.maybe_fail(counts)
            return call(*args, **kwargs)

        return wrapped

    def opened(self, real):
        def wrapped(path, mode="r", *args, **kwargs):
            file = real(path, mode, *args, **kwargs)
            if mode == "wb":
                write = file.write

                class Torn:
                    def __enter__(torn):
                        return torn

                    def __exit__(torn, *_):
                        file.close()

                    def write(torn, content):
                        write(content[: len(content) // 2])
                        self.maybe_fail()
                        write(content[len(content) // 2 :])

                    flush, fileno = file.flush, file.fileno

                return Torn()
            return file

        return wrapped

    def maybe_fail(self, counts=True):
        if self.failed and self.dead:
            raise Killed
        self.left -= counts
        if counts and self.left == 0:
            self.failed = True
            raise Killed if self.dead else OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("dead", [False, True], ids=["fails", "killed"])
@pytest.mark.parametrize(
    ("had", "layout"),
    [(2, "latest"), *(pytest.param(*case, marks=LONG) for case in
     [(0, "latest"), (1, "latest"), (1, "older"), (2, "older"), (2, "damaged")])],
)  # fmt: skip
def test_every_fault_while_saving_is_survived(dead, had, layout, tmp_path, capsys):
    """The n-th step of a save fails, or is the process's last, for every n."""
    config = TrainConfig(num_updates=9)
    for n in itertools.count(1):
        folder = tmp_path / str(n)
        for index in range(1, had + 1):
            save_checkpoint(folder, after(fresh(config, **TINY), index))
        if layout == "older":
            older(folder)
        if layout == "damaged":  # then the one before is the one to keep
            (folder / "latest" / "state.pt").write_bytes(b"")
        with pytest.MonkeyPatch.context() as patch:
            disk = FaultyDisk(patch, n, dead)
            try:
                save_checkpoint(folder, after(fresh(config, **TINY), 3))
            except Killed:
                assert dead
            except OSError as error:
                assert "No space left on device" in str(error) and "make room" in str(error)
        if not disk.failed:
            break
        if had:
            again = load_checkpoint(folder)
            assert is_after(again, again.index)
            assert again.index in (had - (layout == "damaged"), 3)
            if not dead:
                assert not list(folder.glob(".*"))
        save_checkpoint(folder, after(fresh(config, **TINY), 4))
        assert is_after(load_checkpoint(folder), 4)
        assert {path.name for path in folder.iterdir()} <= {"latest", "previous"}
    assert n - 1 >= 18, f"only {n - 1} faults"
    assert layout == "damaged" or "damaged" not in capsys.readouterr().out


def test_a_full_disk_ends_the_loop_with_the_old_checkpoint(batches, short_process, tmp_path):
    state = fresh(TrainConfig(num_updates=50), **TINY)
    save_checkpoint(tmp_path, state)
    with pytest.MonkeyPatch.context() as patch:
        disk = FaultyDisk(patch, 3, dead=False)
        steps = checkpointed(train(state, short_process, batches), state, tmp_path, every_seconds=0)
        with pytest.raises(OSError, match=r"No space left on device.*MB free.*is whole"):
            list(steps)
        assert disk.failed
    assert load_checkpoint(tmp_path).index == 0


@pytest.mark.slow
def test_twenty_kills_and_the_run_ends_as_if_there_had_been_none(tmp_path, bundle):
    """A real process, killed at random moments while it trains and saves after each update."""
    whole = fresh(runs.LONG, **TINY)
    process = DiffusionProcess(runs.NUM_STEPS)
    rates = [s.learning_rate for s in train(whole, process, runs.some_batches(runs.LONG))]
    waits, reached = random.Random(0), []
    for _ in range(20):
        child = start_run(tmp_path, every_seconds=0)
        time.sleep(waits.uniform(0, 0.7))
        child.kill()
        child.communicate()
        state = load_checkpoint(tmp_path)
        assert torch.equal(state.losses, whole.losses[: state.index])
        reached.append(state.index)
    assert reached == sorted(reached) and 0 < reached[0] < reached[-1] < runs.LONG.num_updates
    last = start_run(tmp_path, every_seconds=60)
    said = last.communicate()[0]
    assert last.returncode == 0
    assert [float(line) for line in said.split()] == rates[reached[-1] :]
    assert same(load_checkpoint(tmp_path), whole)


def start_run(folder, every_seconds):
    """A process that trains into the folder; returns when its loop has begun."""
    command = [sys.executable, "-m", "tests.support.runs", str(folder), str(every_seconds)]
    child = subprocess.Popen(command, cwd=HOUSE, stdout=subprocess.PIPE, encoding="utf-8")
    for line in child.stdout:
        if line == "training\n":
            return child
    raise AssertionError(f"the run did not begin: {child.wait()}")


@pytest.mark.slow
def test_a_killed_run_leaves_a_checkpoint_that_loads(tmp_path):
    """Killed without warning while it saves all the time: what lies there is one whole state."""
    command = [sys.executable, "-m", "cdiff_helpers", "train", "--out", str(tmp_path / "run")]
    command += ["--preset", "reduced", "--updates", "1000000", "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if (tmp_path / "run" / "latest").exists():
                break
            threading.Event().wait(0.1)
    finally:
        process.kill()
        process.wait()
    assert load_checkpoint(tmp_path / "run").config.num_updates == 1_000_000


# --- interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_after_the_update_with_a_saved_run(
    number, batches, short_process, tmp_path
):
    state = fresh(TrainConfig(num_updates=50))
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"after 2 of 50 updates; run the cell again, or") as stop:
        for step in checkpointed(train(state, short_process, batches), state, tmp_path):
            if step.index == 1:
                signal.raise_signal(number)
    assert isinstance(stop.value, KeyboardInterrupt) and stop.value.number == number
    assert load_checkpoint(tmp_path).index == state.index == 2
    assert signal.getsignal(number) is before


def test_an_interrupt_within_an_update_waits_until_it_is_whole(short_process, tmp_path, batches):
    whole = fresh(TrainConfig(num_updates=3, **PLAIN), **TINY)
    list(train(whole, short_process, batches))

    class Interrupting(list):
        def __iter__(self):
            for batch in super().__iter__():
                signal.raise_signal(signal.SIGINT)
                yield batch

    state = fresh(TrainConfig(num_updates=3, **PLAIN), **TINY)
    for _ in range(2):
        with pytest.raises(Interrupted):
            steps = train(state, short_process, Interrupting(batches))
            list(checkpointed(steps, state, tmp_path))
        state = load_checkpoint(tmp_path)
    list(train(state, short_process, batches))
    assert same(state, whole)


def test_a_second_interrupt_at_once_is_held_and_a_late_one_ends_what_hangs(
    batches, short_process, tmp_path, monkeypatch
):
    from cdiff_helpers.training import interrupts

    state = fresh(TrainConfig(num_updates=50), **TINY)
    with pytest.raises(Interrupted):
        for _ in checkpointed(train(state, short_process, batches), state, tmp_path):
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(interrupts, "IMPATIENT", 0.0)

    class Hanging(list):
        def __iter__(self):
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.01)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("it hangs")

    state = load_checkpoint(tmp_path)
    with pytest.raises(KeyboardInterrupt, match="the last checkpoint is as it was"):
        list(checkpointed(train(state, short_process, Hanging(batches)), state, tmp_path))
    assert load_checkpoint(tmp_path).index == 1


@posix_only
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=LONG), signal.SIGTERM])
def test_the_shells_run_ends_with_a_sentence_and_goes_on(number, tmp_path):
    command = [sys.executable, "-m", "cdiff_helpers", "train", "--out", str(tmp_path / "run")]
    command += ["--preset", "reduced", "--updates", "100000", "--device", "cpu"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    child = subprocess.Popen(command, encoding="utf-8", **pipes)
    while child.poll() is None and "loss=" not in child.stderr.read(80):
        pass
    child.send_signal(number)
    said = child.communicate(timeout=60)[1]
    assert child.returncode == 128 + number and "Traceback" not in said
    assert "of 100000 updates; run the same command with --resume to go on" in said
    assert load_checkpoint(tmp_path / "run").index > 0


# --- runs that go wrong


class Poisoned(list):
    """Batches of which number `at` is no picture."""

    at = 4

    def __iter__(self):
        for i, (x0, y) in enumerate(super().__iter__()):
            yield (x0 * math.nan if i == self.at else x0), y


def test_a_diverging_run_stops_at_its_last_good_checkpoint(batches, short_process, tmp_path):
    state = fresh(TrainConfig(num_updates=50), **TINY)
    steps = train(state, short_process, Poisoned(batches * 3))
    with pytest.raises(Diverged) as stop:
        list(checkpointed(steps, state, tmp_path, every_seconds=0))
    words = "the loss is nan at update 4; expected finite numbers"
    assert words in str(stop.value) and "learning_rate (2e-04, say, for 2e-03)" in str(stop.value)
    assert "as it was after 4 updates" in str(stop.value)  # 0 to 3 were good
    kept = load_checkpoint(tmp_path)
    assert kept.index == 4 and all(w.isfinite().all() for w in runs.tensors(kept))


def test_an_infinite_gradient_with_a_finite_loss_is_noticed(batches, short_process):
    state = fresh(TrainConfig(num_updates=50), **TINY)
    weight = next(state.model.parameters())
    weight.register_hook(lambda gradient: gradient * math.inf)
    before = [w.clone() for w in runs.tensors(state)]
    with pytest.raises(Diverged, match="a gradient is not finite near update 0"):
        next(train(state, short_process, batches))
    assert all(torch.equal(a, b) for a, b in zip(before, runs.tensors(state)))


def test_a_run_that_diverged_is_not_saved(tmp_path):
    state = fresh(TrainConfig(num_updates=2), **TINY)
    save_checkpoint(tmp_path, state)
    kept = (tmp_path / "latest" / SUMS).read_bytes()
    state.index, state.loss_record[0] = 1, math.inf
    state.finite.fill_(False)
    with pytest.raises(Diverged, match="the loss is inf at update 0"):
        save_checkpoint(tmp_path, state)
    assert (tmp_path / "latest" / SUMS).read_bytes() == kept


@pytest.mark.parametrize(("size", "smaller"), [(128, 64), (100, 64), (2, 1)], ids=lambda n: f"{n}")
def test_a_full_device_is_told_with_the_batch_size_to_try(
    size, smaller, batches, short_process, tmp_path
):
    state = fresh(TrainConfig(num_updates=9, batch_size=size), **TINY)
    real, calls = state.model.forward, itertools.count()

    def forward(*args):
        if next(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(*args)

    state.model.forward = forward
    steps = checkpointed(train(state, short_process, batches), state, tmp_path, every_seconds=0)
    with pytest.raises(OutOfMemory, match=rf"a batch of {size} images.*batch_size={smaller} "):
        list(steps)
    assert load_checkpoint(tmp_path).index == 2
    assert all(p.grad is None for p in state.model.parameters())


def test_the_cpus_own_words_for_a_full_memory_are_known(batches, short_process):
    class Greedy(Forgetful):
        def forward(self, xt, t, y):
            return torch.empty(2**50) + xt

    with pytest.raises(OutOfMemory, match="the memory of cpu does not hold a batch of 128"):
        next(train(TrainState(Greedy(), TrainConfig()), short_process, batches))


@pytest.mark.parametrize(("learns", "told"), [(False, 1), (True, 0)])
def test_a_run_that_hardly_learns_is_pointed_out_once(learns, told, short_process, batches):
    config = TrainConfig(num_updates=53, learning_rate=2e-3 if learns else 1e-9, **PLAIN)
    state, words = fresh(config), []
    list(warn_if_stuck(train(state, short_process, [batches[0]]), state, words.append))
    assert len(words) == told
    if told:
        assert "After 50 updates the loss is" in words[0] and "learning rate" in words[0]


# --- the same again


def test_workers_and_seeds_repeat_a_run_bit_for_bit(short_process):
    """Augmentation in worker processes included; the next seed is another run."""

    def run(seed):
        config = TrainConfig(num_updates=6, batch_size=4, seed=seed, **PLAIN)
        loader = make_loader(Augmented(), 4, seed=seed, num_workers=2)
        state = fresh(config, **TINY)
        list(train(state, short_process, loader))
        return state

    assert same(run(1), run(1)) and not same(run(1), run(2))


def test_a_random_stream_of_another_kind_of_device_is_begun_anew():
    """A GPU's generator has another state than the CPU's; what follows depends on the update."""
    drawn = {}
    for index in (3, 3, 4):
        state = fresh(runs.LONG)
        state.index = index
        restore_generator(state, torch.zeros(16, dtype=torch.uint8))
        drawn.setdefault(index, []).append(torch.rand(4, generator=state.generator))
    assert torch.equal(*drawn[3]) and not torch.equal(drawn[3][0], drawn[4][0])
    own = fresh(runs.LONG)
    own.generator.manual_seed(7)
    restore_generator(state, own.generator.get_state())
    assert torch.equal(
        torch.rand(4, generator=own.generator), torch.rand(4, generator=state.generator)
    )
