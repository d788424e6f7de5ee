"""The machine: devices, seeds, presets, folders."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from cdiff_helpers.runtime import (
    PRESETS,
    check_writable,
    course_home,
    course_preset,
    pick_device,
    processor_name,
    runs_folder,
    seed_everything,
    write_atomically,
)


def test_the_device_is_one_that_computes():
    assert torch.ones(2, device=pick_device()).sum() == 2
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "tpu"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match=rf"device '{name}' cannot be used.*auto"):
        pick_device(name)


def test_a_seed_repeats_all_three_generators():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_everything(3)
    first = draw()
    seed_everything(3)
    assert first == draw()
    seed_everything(4)
    assert all(a != b for a, b in zip(first, draw()))


def test_seeds_go_beyond_32_bits_and_numpy_takes_the_low_ones():
    """Below 2**32 the streams are those of the three libraries' own functions."""
    draws = {}
    for seed in (5, np.int64(5), 2**32 + 5, 2**63 - 1):
        seed_everything(seed)
        draws[int(seed)] = random.random(), np.random.rand(), torch.rand(1).item()
    own = random.Random(5).random(), np.random.RandomState(5).rand()
    assert draws[5] == (*own, torch.rand(1, generator=torch.Generator().manual_seed(5)).item())
    for i, different in enumerate((3, 2, 2)):  # Python reads all of a seed, the others 32 bits
        assert len({draws[seed][i] for seed in (5, 2**32 + 5, 2**63 - 1)}) == different


def test_the_environment_chooses_the_preset_and_an_argument_overrides_it(monkeypatch):
    monkeypatch.setenv("CDIFF_PRESET", "reduced")
    assert course_preset() is PRESETS["reduced"] and course_preset("gpu") is PRESETS["gpu"]
    monkeypatch.delenv("CDIFF_PRESET")
    assert course_preset().name == pick_device().type.replace("cuda", "gpu")
    monkeypatch.setenv("CDIFF_PRESET", "huge")
    with pytest.raises(ValueError, match=r"'huge'; expected one of reduced, cpu, mps, gpu.*Unset"):
        course_preset()


def test_presets_grow_from_reduced_to_gpu_and_cannot_be_changed():
    reduced, cpu, mps, gpu = PRESETS.values()
    for size in ("num_updates", "ddpm_steps", "ddim_steps", "images_per_class", "many"):
        sizes = [getattr(preset, size) for preset in (reduced, cpu, mps, gpu)]
        assert sizes[0] < sizes[1] and sizes == sorted(sizes)
    assert reduced.source == "bundled"
    with pytest.raises(AttributeError):
        cpu.num_updates = 1


def test_the_course_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CDIFF_HOME", str(tmp_path))
    assert course_home() == tmp_path
    monkeypatch.delenv("CDIFF_HOME")
    assert course_home().name == ".cdiff"


def test_runs_lie_in_a_folder_of_ones_own(monkeypatch, tmp_path):
    """Also where a class shares one course folder: nobody finds another one's run."""
    monkeypatch.delenv("CDIFF_RUNS", raising=False)
    monkeypatch.setenv("CDIFF_HOME", str(tmp_path))
    assert runs_folder() == tmp_path / "runs"
    if hasattr(os, "getuid"):
        monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
        monkeypatch.setattr("getpass.getuser", lambda: "ada")
        assert runs_folder() == tmp_path / "runs" / "ada"
    monkeypatch.setenv("CDIFF_HOME", str(tmp_path / "not yet"))
    assert runs_folder() == tmp_path / "not yet" / "runs"
    monkeypatch.setenv("CDIFF_RUNS", "~/mine")
    assert runs_folder() == Path.home() / "mine"


def test_a_file_is_written_past_planted_links_with_the_permissions_of_any_file(tmp_path):
    path, victim = tmp_path / "samples.png", tmp_path / "victim"
    victim.write_text("precious", encoding="utf-8")
    if os.name == "posix":  # the name that a temporary file had once, which could be foreseen
        (tmp_path / f".samples.png-{os.getpid()}").symlink_to(victim)
    check_writable(path)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and victim.read_text(encoding="utf-8") == "precious"
    assert path.stat().st_mode == victim.stat().st_mode
    assert len(list(tmp_path.iterdir())) == 2 + (os.name == "posix")


def test_the_processor_has_a_name():
    name = processor_name()
    assert name and name == name.strip() and "\n" not in name
