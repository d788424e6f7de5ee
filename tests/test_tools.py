"""The maintainers' tools: what execute.py leaves in a notebook, which rule the subset follows."""

import base64
import itertools
import json
import re
import sys
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors

from cdiff_helpers.reference import load_reference
from cdiff_helpers.training import load_checkpoint, tensor_bytes
from tools.course import execute
from tools.models import (
    bundle_reference,
    make_subset,
    score_reference,
    train_judge,
    train_reference,
)
from tools.models.records import provenance

COURSE = execute.Path("/elsewhere/course")
PNG = base64.b64encode(b"\x89PNG a picture").decode()


@pytest.fixture
def executed():
    """A notebook as a kernel leaves it: a box with a slider, a picture, its label and words."""
    curve = '<svg role="img" aria-label="loss 0.1" width="9" fill="currentColor"><path/></svg>'
    states = {
        "a": {"_model_name": "IntSliderModel", "value": 3},
        "b": {"_model_name": "ImageModel"},
        "c": {"_model_name": "LabelModel", "value": "left: clean, right: noise"},
        "d": {"_model_name": "HTMLModel", "value": f"{curve}<br>x &lt; 1"},
        "e": {"_model_name": "HTMLModel", "value": "<b>done</b>"},
        "f": {"_model_name": "HTMLModel", "value": ""},
        "box": {"_model_name": "VBoxModel", "children": [f"IPY_MODEL_{i}" for i in "abcdef"]},
    }
    models = {name: {"state": state} for name, state in states.items()}
    models["b"]["buffers"] = [{"data": PNG, "encoding": "base64", "path": ["value"]}]
    view = {execute.VIEW: {"model_id": "box"}, "text/plain": "VBox(children=…)"}
    output = nbformat.v4.new_output("execute_result", view, execution_count=1)
    said = nbformat.v4.new_output("stream", text=f"{execute.Path.home()}/x, {COURSE}/runs")
    cell = nbformat.v4.new_code_cell("box", outputs=[output, said], execution_count=1)
    cell.metadata["execution"] = {"shell.execute_reply": "now"}
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["widgets"] = {execute.STATE: {"state": models}}
    return notebook


def test_a_widget_leaves_its_picture_and_what_its_label_says(executed):
    execute.tidy(executed, COURSE)
    picture, _, said = executed.cells[0].outputs
    assert picture.data["image/png"] == PNG and execute.VIEW not in picture.data
    assert picture.metadata["image/png"]["alt"] == "left: clean, right: noise"
    assert picture.data["text/plain"] == "<Still of a widget: left: clean, right: noise>"
    assert "widgets" not in executed.metadata and not executed.cells[0].metadata
    assert said.text == "~/x, ~/.cdiff/runs"
    nbformat.validate(executed)


def test_a_widget_leaves_its_words_and_its_curve_as_a_picture(executed):
    """An inline SVG would be stripped from a notebook that was opened and not run."""
    execute.tidy(executed, COURSE)
    words = executed.cells[0].outputs[1].data
    found = re.fullmatch(
        r'<img alt="loss 0.1" src="data:image/svg\+xml;base64,(.+)"><br>x &lt; 1<br><b>done</b>',
        words["text/html"],
    )
    svg = ElementTree.fromstring(base64.b64decode(found[1]))
    assert svg.tag == "{http://www.w3.org/2000/svg}svg" and svg[0].get("fill") == "white"
    assert words["text/plain"].split() == ["loss", "0.1", "x", "<", "1", "done"]


def test_a_cell_that_fails_leaves_the_notebook_as_it_was(tmp_path, monkeypatch, capsys):
    path = tmp_path / "broken.ipynb"
    cell = nbformat.v4.new_code_cell("1 / 0")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    before = path.read_bytes()
    monkeypatch.setattr(sys, "argv", ["execute.py", str(path), "--preset", "reduced"])
    monkeypatch.setenv("CDIFF_PRESET", "reduced")
    assert execute.main() == 1 and path.read_bytes() == before
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_the_subsets_rule_takes_as_many_of_each_class_in_standard_order():
    labels = np.arange(1000) % 10
    kept = make_subset.chosen(labels, 7)
    assert (np.diff(kept) > 0).all()
    assert np.bincount(labels[kept]).tolist() == [7] * 10
    assert np.array_equal(kept, make_subset.chosen(labels, 7))


@pytest.fixture
def small_runs(monkeypatch):
    """tools/models/train_reference.py one sampling step, one image per class, soon a snapshot."""
    monkeypatch.setattr(train_reference, "PER_CLASS", 1)
    monkeypatch.setattr(train_reference, "SAMPLER", {"solver": "ddim", "num_steps": 1})
    monkeypatch.setattr(train_reference, "FIRST_SNAPSHOT", 16)
    monkeypatch.setattr(train_reference, "EVERY", 2)

    def run(out, *more):
        sizes = ["--channels", "8", "16", "--batch-size", "8", "--source", "bundled"]
        train_reference.main(["--out", str(out), *sizes, *more])
        return json.loads((out / "record.json").read_text(encoding="utf-8"))

    return run


def weights_of(path):
    return flat(load_tensors(path.read_bytes()))


def flat(tensors):
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def test_a_reference_run_resumes_to_the_same_losses_averages_and_snapshots(
    small_runs, tmp_path, monkeypatch, capsys
):
    whole = small_runs(tmp_path / "whole", "--updates", "9")
    assert [s["images_seen"] for s in whole["snapshots"]] == [16, 32, 64, 72]
    losses = json.loads((tmp_path / "whole" / "latest" / "losses.json").read_text(encoding="utf-8"))
    monkeypatch.setattr(train_reference, "load_record", lambda run: {"losses": losses})
    more = ("--updates", "9", "--compare", "reference")
    small_runs(tmp_path / "parts", *more, "--stop-after", "3")
    assert "The first 3 losses are the record's" in capsys.readouterr().out
    parts = small_runs(tmp_path / "parts", *more)
    assert "The first 9 losses are the record's" in capsys.readouterr().out
    assert [s["images_seen"] for s in parts["snapshots"]] == [16, 24, 32, 64, 72]
    for name in ("latest/ema.safetensors", "ema_0.9997.safetensors", "ema_0.9999.safetensors"):
        first, second = (weights_of(tmp_path / out / name) for out in ("whole", "parts"))
        assert torch.equal(first, second), name
    for entry in parts["snapshots"]:
        assert (tmp_path / "parts" / entry["weights"]).is_file()
    losses[3] = 0.0
    with pytest.raises(SystemExit, match=r"update 3: the loss is 0\.\d+, the record's 0\.0"):
        small_runs(tmp_path / "parts", *more)


def test_an_average_that_was_not_saved_with_the_checkpoint_is_left_out(
    small_runs, tmp_path, capsys
):
    small_runs(tmp_path, "--updates", "4", "--stop-after", "2")
    path = tmp_path / "ema_0.9997.safetensors"
    path.write_bytes(tensor_bytes(load_checkpoint(tmp_path).model, 1))
    (tmp_path / "ema_0.9999.safetensors").unlink()
    small_runs(tmp_path, "--updates", "4")
    said = capsys.readouterr().out
    assert "is of 1 updates, the checkpoint of 2: left out" in said and "is of no updates" in said


def test_a_run_killed_before_its_first_update_goes_on_and_other_settings_are_refused(
    small_runs, tmp_path, monkeypatch, capsys
):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_reference, "run", killed)
        small_runs(tmp_path, "--updates", "3")
    small_runs(tmp_path, "--updates", "3", "--stop-after", "2")
    assert load_checkpoint(tmp_path).index == 2
    small_runs(tmp_path, "--updates", "3", "--stop-after", "1")
    assert load_checkpoint(tmp_path).index == 2 and "2 updates already" in capsys.readouterr().out
    for other in (["--updates", "4"], ["--updates", "3", "--ema-decay", "0.9"]):
        with pytest.raises(SystemExit, match="is another one"):
            small_runs(tmp_path, *other)
    with pytest.raises(SystemExit):
        small_runs(tmp_path / "none", "--seconds", "0")
    assert "--seconds is 0.0; expected more than 0" in capsys.readouterr().err


def test_a_cycle_is_planned_from_a_measured_rate(small_runs, tmp_path, monkeypatch):
    """With a clock on which each look takes a second: 2 updates a second, so 20 in ten seconds."""
    looks = itertools.count()
    monkeypatch.setattr(train_reference, "WARM_UP", 1)
    monkeypatch.setattr(train_reference.time, "perf_counter", lambda: next(looks))
    monkeypatch.setattr(train_reference, "TRIAL_SHARE", 0.2)
    record = small_runs(tmp_path, "--seconds", "10", "--stop-after", "1")
    assert load_checkpoint(tmp_path).config.num_updates == pytest.approx(10 * 2 / 3, abs=1)
    assert record["seconds"] > 0 and record["snapshots"][-1]["images_seen"] == 8


def test_a_compiled_run_is_compiled_with_cuda_graphs(small_runs, tmp_path, monkeypatch):
    asked = {}

    def compiled(model, **options):
        asked.update(options)
        return model

    monkeypatch.setattr(torch, "compile", compiled)
    small_runs(tmp_path, "--updates", "2", "--compile")
    assert asked == {"mode": "reduce-overhead", "dynamic": False}


def test_a_card_names_the_command_as_it_can_be_given_again(monkeypatch):
    typed = ["-m", "tools.models.train_reference", "--out", "runs/mine"]
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", *typed])
    assert provenance(torch.device("cpu"))["command"] == " ".join(["python", *typed])


@pytest.mark.slow
def test_a_run_is_bundled_with_the_average_that_the_judge_prefers(
    small_runs, tmp_path, monkeypatch, capsys
):
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    small_runs(run, "--updates", "4")
    monkeypatch.setattr(bundle_reference, "REFERENCE", bundle)
    monkeypatch.setattr(bundle_reference, "SAMPLES", 10)
    monkeypatch.setattr(bundle_reference, "test_error", lambda model: 0.5)
    bundle_reference.main([str(run), "--note", "A trial."])
    model, _, card = load_reference(bundle)
    assert set(card["averages"]) == {"0.999", "0.9997", "0.9999"}
    assert card["averages"][str(card["ema_decay"])] == min(card["averages"].values())
    record = json.loads((bundle / "scores.json").read_text(encoding="utf-8"))
    assert record["weights"] == card["sha256"]
    distances = {str(e["case"]["ema_decay"]): e["judge_fd"] for e in record["scores"]}
    assert distances == pytest.approx(card["averages"], abs=0.01)
    assert card["images_seen"] == 32 and len(card["losses"]) == card["updates"] == 4
    files = {0.999: "latest/ema.safetensors", 0.9997: "ema_0.9997.safetensors"}
    best = weights_of(run / files.get(card["ema_decay"], "ema_0.9999.safetensors"))
    assert torch.allclose(flat(model.state_dict()), best, atol=1e-3)
    assert "A trial." in (bundle / "card.md").read_text("utf-8") in capsys.readouterr().out
    assert all((bundle / entry["file"]).is_file() for entry in card["snapshots"])


@pytest.mark.slow
def test_the_reference_is_scored_once_a_case(tmp_path, monkeypatch):
    """A second call goes on where the first stopped; other weights begin anew.

    What two cases have in common is drawn once; another average's scores are its own.
    """
    monkeypatch.setattr(score_reference, "REFERENCE", tmp_path)
    monkeypatch.setattr(score_reference, "SCALES", (1,))
    monkeypatch.setattr(score_reference, "SOLVER_SCALES", (1,))
    monkeypatch.setattr(score_reference, "SOLVERS", {"dpm++2m": (20, 3)})
    drawn = []
    real = score_reference.sample_conditional_images

    def draw(*args, **options):
        drawn.append(options)
        return real(*args, **options | {"num_steps": 2})

    monkeypatch.setattr(score_reference, "sample_conditional_images", draw)
    model, _, card = load_reference()
    (tmp_path / "first.safetensors").write_bytes(tensor_bytes(model, 1))
    first = {"images_seen": 128, "weights": "first.safetensors"}
    last = {"images_seen": card["images_seen"], "weights": "last.safetensors"}
    (tmp_path / "record.json").write_text(
        json.dumps({"snapshots": [first, last]}), encoding="utf-8"
    )
    case = {"of": "averages", "guidance_scale": 1, "ema_decay": 0.999, **score_reference.FINE}
    record = score_reference.empty_record(card, 4) | {"scores": [{"case": case, "agreement": -1}]}
    (tmp_path / "scores.json").write_bytes(score_reference.record_bytes(record))
    command = ["--samples", "4", "--run", str(tmp_path)]
    for only in ("guidance", "solvers", "snapshots"):
        score_reference.main([*command, "--only", only])
        score_reference.main([*command, "--only", only])
    kept = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert kept["scores"].pop(0) == record["scores"][0]
    assert [e["case"]["num_steps"] for e in kept["scores"]] == [20, 20, 3, 20, 20]
    seen = [e["case"].get("images_seen") for e in kept["scores"][3:]]
    assert seen == [128, card["images_seen"]]
    assert len(drawn) == 4 and {o["seed"] for o in drawn} == {0}  # scale 1 in 20 steps: once
    assert all(e["n"] == 4 and 0 <= e["agreement"] <= 1 for e in kept["scores"])
    assert all("cpu" in e["drawn_on"] for e in kept["scores"])
    (tmp_path / "scores.json").write_text(
        json.dumps(kept | {"weights": "others"}), encoding="utf-8"
    )
    score_reference.main([*command, "--only", "snapshots"])
    assert len(json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["scores"]) == 2


def test_pictures_are_shifted_by_two_pixels_at_most(generator):
    images = torch.rand(50, 3, 32, 32, generator=generator)
    moved = train_judge.shifted(images, generator)
    padded = torch.nn.functional.pad(images, (2,) * 4, "reflect")
    places = set()
    for i in range(50):
        windows = padded[i].unfold(1, 32, 1).unfold(2, 32, 1)  # (3, 5, 5, 32, 32)
        same = (windows == moved[i, :, None, None]).all(dim=(0, 3, 4)).nonzero()
        assert len(same) == 1, i
        places.add(tuple(same[0].tolist()))
    assert len(places) > 15  # of 25


@pytest.mark.slow
def test_the_judges_recipe_learns(tmp_path, monkeypatch, capsys):
    """Six epochs of 2,000 pictures: far above chance on the 500 held-out ones."""
    command = ["train_judge.py", "--out", str(tmp_path), "--source", "bundled", "--epochs", "6"]
    monkeypatch.setattr(sys, "argv", command)
    train_judge.main()
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert record["test_images"] == 500 and record["test_right"] > 200
    assert f"{record['test_right']} of 500" in capsys.readouterr().out
