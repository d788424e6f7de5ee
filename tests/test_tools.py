"""The maintainers' tools: what execute.py leaves in a notebook, which rule the subset follows."""

import base64
import json
import re
import sys
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest
import torch

from cdiff_helpers.reference import load_reference
from cdiff_helpers.training import load_checkpoint, tensor_bytes
from notebooks import HOUSE

sys.path.insert(0, str(HOUSE / "tools"))
import execute
import make_subset
import score_reference
import train_judge
import train_reference

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


@pytest.mark.slow
def test_the_reference_run_resumes_to_the_losses_of_an_uninterrupted_one(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(train_reference, "PER_CLASS", 1)
    monkeypatch.setattr(train_reference, "SAMPLER", {"solver": "ddim", "num_steps": 1})

    def train(out, *more):
        command = ["train_reference.py", "--out", str(out), "--updates", "5", *more]
        monkeypatch.setattr(sys, "argv", [*command, "--source", "bundled"])
        train_reference.main()

    train(tmp_path / "whole")
    losses = json.loads((tmp_path / "whole" / "losses.json").read_text())
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"losses": losses}))
    train(tmp_path / "parts", "--stop-after", "2", "--compare", str(tmp_path))
    assert "The first 2 losses are the card's" in capsys.readouterr().out
    train(tmp_path / "parts", "--compare", str(tmp_path))
    assert "The first 5 losses are the card's" in capsys.readouterr().out
    record = json.loads((tmp_path / "parts" / "record.json").read_text())
    assert [s["images_seen"] for s in record["snapshots"]] == [2 * 128, 5 * 128]
    assert all((tmp_path / "parts" / s["weights"]).is_file() for s in record["snapshots"])
    train(tmp_path / "wide", "--channels", "16", "32", "--batch-size", "8", "--minutes", "0")
    assert load_checkpoint(tmp_path / "wide").index == 1
    card.write_text(json.dumps({"losses": [*losses[:3], 0.0, losses[4]]}))
    with pytest.raises(SystemExit, match=r"update 3: the loss is 0\.\d+, the card's 0\.0"):
        train(tmp_path / "parts", "--compare", str(tmp_path))


def test_the_reference_is_scored_once_a_case(tmp_path, monkeypatch):
    """A second call goes on where the first stopped; other weights begin anew.

    What two cases have in common is drawn once.
    """
    monkeypatch.setattr(score_reference, "REFERENCE", tmp_path)
    monkeypatch.setattr(score_reference, "SCALES", (1,))
    monkeypatch.setattr(score_reference, "SOLVERS", {"dpm++2m": (20, 3)})
    drawn = []
    real = score_reference.sample_conditional_images

    def draw(*args, **options):
        drawn.append(options)
        return real(*args, **options | {"num_steps": 2})

    monkeypatch.setattr(score_reference, "sample_conditional_images", draw)
    model, _, card = load_reference()
    (tmp_path / "first.safetensors").write_bytes(tensor_bytes(model, 1))
    first = {"minutes": 1.0, "images_seen": 128, "weights": "first.safetensors"}
    (tmp_path / "record.json").write_text(json.dumps({"snapshots": [first]}))
    command = ["score_reference.py", "--samples", "4", "--run", str(tmp_path)]
    for only in ("guidance", "solvers", "snapshots"):
        monkeypatch.setattr(sys, "argv", [*command, "--only", only])
        score_reference.main()
        score_reference.main()
    kept = json.loads((tmp_path / "scores.json").read_text())
    assert [e["case"].get("num_steps") for e in kept["scores"]] == [None, 20, 3, None, None]
    assert [e["case"].get("minutes") for e in kept["scores"][3:]] == [1.0, card["minutes"]]
    assert len(drawn) == 4 and {o["seed"] for o in drawn} == {0}  # scale 1 in 20 steps: once
    assert all(e["n"] == 4 and 0 <= e["agreement"] <= 1 for e in kept["scores"])
    (tmp_path / "scores.json").write_text(json.dumps(kept | {"weights": "others"}))
    score_reference.main()
    assert len(json.loads((tmp_path / "scores.json").read_text())["scores"]) == 2


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
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["test_images"] == 500 and record["test_right"] > 200
    assert f"{record['test_right']} of 500" in capsys.readouterr().out
