"""The machine: devices, seeds, presets, folders."""

import random

import numpy as np
import pytest
import torch

from cdiff_helpers.runtime import (
    PRESETS,
    course_home,
    course_preset,
    pick_device,
    seed_everything,
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
    with pytest.raises(ValueError, match=r"seed is -1; expected"):
        seed_everything(-1)


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


def test_the_processor_has_a_name():
    from cdiff_helpers.runtime import processor_name

    name = processor_name()
    assert name and name == name.strip() and "\n" not in name
