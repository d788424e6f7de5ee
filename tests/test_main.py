"""The shell: train, resume, sample, and mistakes told in a sentence."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from cdiff_helpers import commands
from cdiff_helpers.__main__ import build_parser, main
from cdiff_helpers.evaluation import judge_card
from cdiff_helpers.sampling import GUIDANCE_SCALE
from cdiff_helpers.training import RECIPE, load_checkpoint
from cdiff_helpers.widgets import class_picker
from cdiff_helpers.widgets.board import board_controls

TRAIN = ["train", "--preset", "reduced", "--batch-size", "8", "--device", "cpu"]
FAST = ["--num-steps", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shell") / "run"
    assert main([*TRAIN, "--out", str(folder), "--updates", "2", "--seed", "3"]) == 0
    return folder


def test_training_leaves_a_run_that_says_how_it_was_made(run):
    state = load_checkpoint(run)
    assert state.index == len(state.losses) == 2
    assert (state.config.batch_size, state.config.seed) == (8, 3)
    assert state.config.loss_weighting == RECIPE["loss_weighting"]


def test_what_is_drawn_to_be_looked_at_is_drawn_at_one_scale(small_model, short_process):
    for command in (["sample", "--classes", "cat", "--out", "x.png"], ["evaluate"]):
        assert build_parser().parse_args(command).guidance_scale == GUIDANCE_SCALE
    assert board_controls(short_process)["guidance_scale"].value == GUIDANCE_SCALE
    picker = class_picker(small_model, short_process, count=1, num_steps=1)
    (slider,) = (each for each in picker.children if "scale" in getattr(each, "description", ""))
    assert slider.value == GUIDANCE_SCALE


def test_a_folder_with_a_run_is_not_overwritten(run, capsys):
    before = (run / "latest" / "state.pt").read_bytes()
    assert main([*TRAIN, "--out", str(run), "--updates", "2"]) == 2
    assert "holds a run already; --resume" in capsys.readouterr().err
    assert (run / "latest" / "state.pt").read_bytes() == before
    assert main(["train", "--out", str(run), "--resume", "--updates", "5"]) == 2
    assert "num_updates is 5, but the run" in capsys.readouterr().err
    assert main([*TRAIN, "--out", str(run), "--resume"]) == 0
    assert "finished: 2 updates" in capsys.readouterr().out


def test_resume_in_an_empty_folder_starts_and_later_goes_on(tmp_path, monkeypatch):
    """Interrupted after two of four updates; the rest is as if nothing had happened."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*TRAIN, "--out", str(whole), "--updates", "4"]) == 0
    real = commands.train

    def interrupted(state, process, loader):
        for step in real(state, process, loader):
            yield step
            if step.index == 1:
                raise KeyboardInterrupt("saved")

    monkeypatch.setattr(commands, "train", interrupted)
    assert main([*TRAIN, "--out", str(cut), "--updates", "4", "--resume"]) == 130
    monkeypatch.setattr(commands, "train", real)
    assert load_checkpoint(cut).index == 2
    assert main([*TRAIN, "--out", str(cut), "--resume"]) == 0
    a, b = (load_checkpoint(folder).ema.model.state_dict() for folder in (whole, cut))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("checkpoint", [True, False])
def test_pictures_are_drawn_one_row_a_class(checkpoint, run, tmp_path, capsys):
    out = tmp_path / "pets.png"
    source = ["--checkpoint", str(run)] if checkpoint else []
    command = [
        "sample",
        *source,
        "--classes",
        "cat,5",
        "--per-class",
        "3",
        "--out",
        str(out),
        *FAST,
    ]
    assert main(command) == 0
    pixels = np.asarray(Image.open(io.BytesIO(out.read_bytes())))
    assert pixels.shape == (2 * 64, 3 * 64, 3) and pixels.std() > 5
    said = capsys.readouterr().out
    assert "cat, dog" in said and ("bundled reference" in said) is not checkpoint
    first = out.read_bytes()
    assert main(command) == 0 and out.read_bytes() == first
    assert main([*command, "--seed", "1"]) == 0 and out.read_bytes() != first


KEYS = {"agreement", "agreement_per_class", "judge_fd", "kid", "coverage", "nearest_train", "n"}


def test_a_run_is_scored_into_a_table_a_file_and_a_picture(run, tmp_path, capsys):
    scores = tmp_path / "new folder" / "scores.json"
    command = ["evaluate", "--checkpoint", str(run), "--num-images", "20", "--allow-few", *FAST]
    assert main([*command, "--guidance-scale", "1", "--json", str(scores)]) == 0
    told = json.loads(scores.read_text("utf-8"))
    assert told.keys() >= KEYS and told["n"] == 20 and told["judge_fd"] > 0
    assert told["guidance_scale"] == 1 and told["model"] == str(run)
    assert f"{told['agreement']:.4f}" in capsys.readouterr().out
    with Image.open(scores.with_suffix(".png")) as picture:
        assert picture.size[0] > 800


def test_real_pictures_are_scored_by_the_same_command(monkeypatch, capsys):
    """Here the bundled ones; with the whole set on the disk, as many as are asked for."""
    from cdiff_helpers.data import load_cifar10

    monkeypatch.setattr(
        commands, "load_cifar10", lambda root, train: load_cifar10(train=train, source="bundled")
    )
    assert main(["evaluate", "--real", "--num-images", "600"]) == 0
    right = judge_card()["bundled_test"]["right"]
    assert f"{right / 500:.4f}" in (said := capsys.readouterr().out)
    assert "There are 500 test images here: all of them are scored." in said
    assert "500 images are too few for distances" in said
