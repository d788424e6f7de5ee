"""The report on the machine: what it is, works, takes and lacks; and it never breaks."""

import importlib.metadata
import os
import re
import shutil
import types

import pytest
import torch

from cdiff_helpers.runtime import PRESETS, course_preset, environment_report, pick_device, report
from tests.support.notebooks import HOUSE


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No training step is timed, where that is not what is asked."""
    monkeypatch.setattr(report, "seconds_per_step", lambda device, batch_size: 0.1)


TIMED = report.seconds_per_step


def test_a_whole_machine_has_nothing_to_do():
    told = environment_report()
    assert isinstance(told, dict) and all(isinstance(value, str) for value in told.values())
    assert told["to do"] == "nothing: all is there"
    assert told["preset"] == course_preset().name
    assert told["device"].startswith(pick_device().type)
    assert torch.__version__.startswith(told["torch"].split("+")[0])
    assert "cores" in told["system"] and "GB free" in told["course folder"]


def test_it_prints_one_entry_a_line():
    told = environment_report()
    lines = repr(told).split("\n")
    assert len(lines) == len(told) and lines[0].split() == ["python", told["python"]]


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("ipywidgets", "7.6.5", r'ipywidgets 7\.6\.5 is too old: pip install "ipywidgets>=7\.7"'),
        ("torch", "1.13.1+cu117", r'torch 1\.13\.1\+cu117 is too old: pip install "torch>='),
        ("safetensors", None, r'safetensors is missing: pip install "safetensors>='),
    ],
)
def test_what_is_missing_or_too_old_is_named_with_its_remedy(name, version, words, monkeypatch):
    real = importlib.metadata.version

    def other(asked):
        if asked != name:
            return real(asked)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(asked)
        return version

    monkeypatch.setattr(report, "version", other)
    assert re.search(words, environment_report()["to do"])
    assert environment_report()[name] == (version or "missing: pip install -r requirements.txt")


def test_a_full_disk_and_a_folder_of_somebody_else_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("CDIFF_HOME", str(tmp_path / "deep" / "er"))
    usage = types.SimpleNamespace(free=3e8)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(os, "access", lambda *_: False)
    told = environment_report()
    assert "0 GB free, no CIFAR-10 yet" in told["course folder"]
    assert "Make room: " in told["to do"] and "has less than 1 GB free" in told["to do"]
    assert f"{tmp_path} cannot be written: set CDIFF_HOME" in told["to do"]


@pytest.mark.parametrize(
    ("variable", "where"),
    [("COLAB_RELEASE_TAG", "Google Colab"), ("KAGGLE_KERNEL_RUN_TYPE", "Kaggle"), (None, "local")],
)
def test_the_platform_is_known_by_its_marks(variable, where, monkeypatch):
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "x")
    assert environment_report()["where"] == where


def a_gpu(monkeypatch, count=1, error=""):
    """A T4 as torch would describe it; nothing is computed on it."""
    card = types.SimpleNamespace(name="Tesla X", total_memory=16 * 2**30)
    for name, value in {
        "is_available": True, "get_device_properties": card, "device_count": count,
        "get_device_capability": (7, 5), "get_device_name": "Tesla X",
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(report, "pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(report, "device_error", lambda name: error)
    monkeypatch.setattr(report, "course_preset", lambda: PRESETS["gpu"])
    monkeypatch.setattr(report, "seconds_per_step", lambda device, batch_size: 0.057)


def test_two_t4_are_told_and_that_torchrun_uses_both(monkeypatch):
    a_gpu(monkeypatch, count=2)
    told = environment_report()
    assert told["device"] == "cuda: Tesla X, 16 GiB, and 1 more (torchrun uses them all)"
    assert told["precision"] == "float16 in the forward pass"
    assert told["to expect"] == (
        "training takes 3 min in 05 and 2 min in 08, the rest a few minutes (an estimate: "
        "3,500 steps on 1,024 images, 57 ms each)"
    )
    assert told["to do"] == "nothing: all is there"


def test_a_card_without_kernels_is_named(monkeypatch):
    a_gpu(monkeypatch, error="CUDA error: no kernel image is available for execution")
    assert re.search(
        r"Tesla X cannot compute with torch .* \(CUDA error: no kernel image is available for "
        r"execution\), so the CPU does. Choose another GPU \(on Kaggle T4 x 2, not P100\)",
        environment_report()["to do"],
    )


def test_a_driver_without_a_card_that_torch_sees_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "sees no card: choose a GPU in the platform's settings" in environment_report()["to do"]
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built for the CPU: install it anew, by" in environment_report()["to do"]


def test_a_driver_that_does_not_answer_is_told_with_a_remedy(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # and nothing behind it works
    told = environment_report()["to do"]
    assert re.search(r"The NVIDIA card cannot compute with torch .* so the CPU does", told)


def test_what_goes_wrong_stands_in_its_entry_alone(monkeypatch):
    monkeypatch.setenv("CDIFF_PRESET", "huge")
    told = environment_report()
    assert told["preset"].startswith("cannot be told: the preset is 'huge'; expected one of")
    assert told["to do"] == "nothing: all is there" and told["python"]


def test_the_expected_minutes_are_the_readmes_times_a_measurement(monkeypatch):
    monkeypatch.setattr(report, "pick_device", lambda: torch.device("cpu"))
    monkeypatch.delenv("CDIFF_PRESET")
    half_as_fast = 2 * report.TIMED_BATCH / report.RATE
    monkeypatch.setattr(report, "seconds_per_step", lambda device, batch_size: half_as_fast)
    words = environment_report()["to expect"]
    assert words.startswith("05: 6 min, 06: 2 min, 08: 8 min") and "2.0 times" in words
    table = (HOUSE / "README.md").read_text(encoding="utf-8")
    for number, seconds in report.SECONDS.items():
        said = re.search(rf"^\| \[{number} .*?\| .*? \| (.*?) \|", table, re.M)[1]
        amount, unit = said.split()
        assert int(amount) * (60 if unit.startswith("minute") else 1) == seconds, number


def test_a_training_step_is_timed_and_draws_nothing_of_the_users():
    before = torch.get_rng_state()
    assert 1e-4 < TIMED(torch.device("cpu"), 2) < 20
    assert torch.equal(torch.get_rng_state(), before)
