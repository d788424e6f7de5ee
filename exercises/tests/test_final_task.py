"""Folders handed in for the final task: what comes by mistake, and what is meant badly."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as save_tensors

from cdiff_exercises import check
from cdiff_exercises.final_task import LADDER, LEAST_VARIETY, final_task_score, main, points_for
from cdiff_exercises.room import SHOWN_SEED, run
from cdiff_helpers.reference import REFERENCE
from cdiff_helpers.unet import ConditionalUNet

SMALL = {"num_classes": 10, "num_steps": 1000, "channels": [16, 32], "emb_dim": 32}
PETS = SMALL | {"num_classes": 2}
LIKE_THE_REFERENCE = SMALL | {"channels": [64, 96, 128], "emb_dim": 256}


def weights(config=SMALL, **changes) -> dict[str, torch.Tensor]:
    """Weights of a network that has left its zero last layers, some of them changed by name."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tensors = ConditionalUNet(**config).state_dict()
        filled = {name: 0.05 * torch.randn_like(w) for name, w in tensors.items() if not w.any()}
    return tensors | filled | changes


WHOLE = save_tensors(weights())
BROKEN = save_tensors(weights(**{"stem.bias": torch.full((16,), float("nan"))}))
RENAMED = save_tensors({f"module.{name}": value for name, value in weights().items()})
HALF = save_tensors({name: value.half() for name, value in weights().items()})


def put(
    place: Path, config: dict | None = SMALL, ema: bytes | None = WHOLE, **files: bytes
) -> Path:
    """A submission; `files` are further ones, a dot in their names written as __."""
    place.mkdir()
    written = {file.replace("__", "."): content for file, content in files.items()}
    if config is not None:
        written["config.json"] = json.dumps({"training": {}, "model": config}).encode()
    if ema is not None:
        written["ema.safetensors"] = ema
    for file, content in written.items():
        (place / file).write_bytes(content)
    return place


def pickled(place: Path) -> bytes:
    """What torch.save writes."""
    torch.save(weights(), place.parent / "saved")
    return (place.parent / "saved").read_bytes()


def huge(place: Path) -> Path:
    """A file of weights that takes no room on the disk: there is nothing in most of it."""
    with (put(place) / "ema.safetensors").open("ab") as file:
        file.truncate(200_000_000)
    return place


def a_run(place: Path) -> Path:
    """A whole run's folder, as train writes it."""
    place.mkdir()
    put(place / "latest", model__safetensors=WHOLE, state__pt=b"x")
    return place


def linked(place: Path) -> Path:
    """Weights that lie in somebody else's folder."""
    put(place, ema=None)
    try:
        (place / "ema.safetensors").symlink_to(REFERENCE / "ema.safetensors")
    except OSError as error:  # Windows asks for a privilege
        pytest.skip(str(error))
    return place


BAD: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "no config": ("config", lambda place: put(place, None)),
    "half a config": ("config", lambda place: put(place, {"num_classes": 10})),
    "no JSON": ("config", lambda place: put(place, None, config__json=b"{'model': 1")),
    "deep JSON": ("config", lambda place: put(place, None, config__json=b"[" * 90_000)),
    "odd channels": ("config", lambda place: put(place, SMALL | {"channels": [10, 20]})),
    "code": ("config", lambda place: put(place, SMALL | {"hook": "os.system"})),
    "pickle": ("pickle", lambda place: put(place, ema=pickled(place))),
    "pickle beside": ("pickle", lambda place: put(place, ema=None, ema__pt=pickled(place))),
    "raw": ("raw_weights", lambda place: put(place, ema=None, model__safetensors=WHOLE)),
    "no weights": ("no weights", lambda place: put(place, ema=None)),
    "a link": ("link", linked),
    "truncated": ("truncated", lambda place: put(place, ema=WHOLE[:-1000])),
    "empty": ("truncated", lambda place: put(place, ema=b"")),
    "no header": ("truncated", lambda place: put(place, ema=b"\xff" * 64)),
    "pets": ("other_classes", lambda place: put(place, PETS, save_tensors(weights(PETS)))),
    "wider": ("wrong_keys", lambda place: put(place, SMALL | {"emb_dim": 64})),
    "renamed": ("wrong_keys", lambda place: put(place, ema=RENAMED)),
    "huge config": ("too_large", lambda place: put(place, SMALL | {"emb_dim": 10**9})),
    "huge file": ("too_large", huge),
    "not finite": ("not_finite", lambda place: put(place, ema=BROKEN)),
    "untrained": (
        "untrained",
        lambda place: put(place, ema=save_tensors(ConditionalUNet(**SMALL).state_dict())),
    ),
    "the reference": (
        "the_reference",
        lambda place: put(place, LIKE_THE_REFERENCE, (REFERENCE / "ema.safetensors").read_bytes()),
    ),
    "nothing": ("no folder", lambda place: place),
    "a number": ("no path", lambda place: 3),
}
GOOD: dict[str, Callable[[Path], Path | str]] = {
    "two files": put,
    "16 bits, as a str": lambda place: str(put(place, ema=HALF)),
    "with other files": lambda place: put(place, model__safetensors=WHOLE, state__pt=b"x"),
    "a run": a_run,
}


@pytest.mark.parametrize("stop, make", BAD.values(), ids=BAD)
def test_a_bad_folder_is_refused_with_a_sentence(stop, make, tmp_path):
    folder = make(tmp_path / "handed_in")
    results = run("final_task", folder, SHOWN_SEED)
    assert results.stop == stop, results.sentence
    verdict = check.final_task(folder)
    assert not verdict and verdict.sentence == results.sentence
    assert len(verdict.sentence) > 30 and verdict.sentence[-1] in ".?)"
    score = final_task_score(folder, seed=1)
    assert (score["points"], score["sentence"]) == (0, verdict.sentence)


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_a_folder_in_any_form_passes(make, tmp_path):
    verdict = check.final_task(make(tmp_path / "handed_in"))
    assert verdict, verdict.sentence


def test_points_rise_by_steps_and_need_variety():
    steps = {0.17: 0, 0.18: 3, 0.3: 6, 0.47: 8, 1.0: 10}
    assert all(points_for(agreement, 1.0) == points for agreement, points in steps.items())
    assert points_for(1.0, LEAST_VARIETY - 0.01) == 0


def test_fewer_than_500_images_are_no_mark(tmp_path):
    with pytest.raises(ValueError, match="num_images is 100; expected 500"):
        final_task_score(put(tmp_path / "handed_in"), seed=1, num_images=100)


@pytest.mark.slow
def test_a_network_that_learned_nothing_earns_nothing_but_is_measured(tmp_path, capsys):
    main([str(a_run(tmp_path / "run")), "--seed", "1", "--json"])
    score = json.loads(capsys.readouterr().out)
    assert (score["points"], score["most"], score["num_images"]) == (0, LADDER[-1][1], 500)
    low, high = score["interval"]
    assert 0 <= low <= score["agreement"] <= high < 0.3 and score["variety"] > 0
    assert score["distance_to_reference"] == float("inf")
    assert "the next step is 0.18" in score["sentence"]


def test_the_command_marks_each_folder_on_a_line_of_its_own(tmp_path):
    first, second = put(tmp_path / "first", None), huge(tmp_path / "second")
    command = [sys.executable, "-m", "cdiff_exercises.final_task", first, second, "--seed", "1"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    lines = done.stdout.splitlines()
    assert [line.split(". ")[0] for line in lines] == [
        f"{each}: 0 of 10" for each in (first, second)
    ]
    assert not done.stderr, "it is loaded once"
