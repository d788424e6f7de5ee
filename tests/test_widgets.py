"""Sliders: callbacks fired by hand, pictures compared with the pure render functions."""

import base64
import importlib
import io
import json
import re
import threading
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from ipywidgets import HTML, Image, Label
from PIL import Image as Picture

from cdiff_helpers.data import to_image_range
from cdiff_helpers.sampling import denoise
from cdiff_helpers.training import Step, TrainConfig
from cdiff_helpers.visualization import tile_images
from cdiff_helpers.widgets import (
    SamplerBoard,
    Stepper,
    class_picker,
    film,
    loss_svg,
    make_process,
    monitor,
    noising_explorer,
    noising_slider,
    render_board,
    render_noising,
    render_samples,
    render_step,
    sampler_board,
    schedule_svg,
    step_by_step,
)
from cdiff_helpers.widgets.film import GAP

PICKER = {"count": 2, "num_steps": 2}


def parts(widget):
    """Controls by their description, the picture, the words."""
    controls = {c.description: c for c in widget.children if getattr(c, "description", "")}
    (image,) = (c for c in widget.children if isinstance(c, Image))
    (words,) = (c for c in widget.children if isinstance(c, HTML))
    return controls, image, words


def test_noising_is_drawn_as_three_enlarged_pictures(process, bundle):
    x0 = bundle[3][0]
    pixels = np.asarray(Picture.open(io.BytesIO(render_noising(process, x0, 0))))
    assert pixels.shape == (160, 3 * 160, 3)
    clean, noisy, noise = (
        pixels[2::5, i * 160 + 2 : (i + 1) * 160 : 5].astype(int) for i in range(3)
    )
    expected = ((x0 + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert abs(clean - expected).max() <= 1 and abs(noisy - clean).mean() < 4
    assert abs(noise.mean() - 127.5) < 5


def test_moving_the_time_draws_that_time(process, bundle):
    controls, image, words = parts(noising_slider(process, bundle))
    for t in (0, 999, 400):
        controls["time t"].value = t
        assert image.value == render_noising(process, bundle[0][0], t)
        assert f"t = {t}" in words.value and f"{process.alpha_bar[t]:.4f}" in words.value
    controls["picture"].value = 5
    assert image.value == render_noising(process, bundle[5][0], 400)
    assert controls["time t"].max == 999


def test_picking_draws_what_was_picked(small_model, short_process):
    controls, image, words = parts(class_picker(small_model, short_process, **PICKER))
    controls["class"].value = 7
    controls["seed"].value = 11
    controls["guidance scale"].value = 3.0
    expected = render_samples(
        small_model, short_process, 7, solver="ddim", seed=11, guidance_scale=3.0, **PICKER
    )
    assert image.value == expected and "horse" in words.value
    assert not any(c.continuous_update for c in list(controls.values())[1:])


def test_an_error_in_a_callback_is_told_and_the_next_move_recovers(short_process, small_model):
    broken = []

    class Model:
        null_class = 10

        def __call__(self, xt, t, y):
            if broken:
                raise ValueError("the model is gone")
            return xt

    controls, image, words = parts(class_picker(Model(), short_process, **PICKER))
    before = image.value
    broken.append(True)
    controls["seed"].value = 1
    assert "the model is gone" in words.value and image.value == before
    broken.clear()
    controls["seed"].value = 2
    assert "gone" not in words.value and image.value != before


def test_moving_leaves_no_figure_open(process, bundle):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    controls, _, _ = parts(noising_slider(process, bundle))
    for t in range(0, 1000, 50):
        controls["time t"].value = t
    assert pyplot.get_fignums() == []


def test_widgets_carry_alternative_text(process, bundle):
    (label,) = (c for c in noising_slider(process, bundle).children if isinstance(c, Label))
    assert "right: the noise" in label.value


def test_no_box_or_picture_has_a_tooltip(process, bundle):
    """ipywidgets 8.1 fails in the browser on a tooltip where there is no description."""
    box = noising_slider(process, bundle)
    for widget in (box, *box.children):
        if not getattr(widget, "description", ""):
            assert getattr(widget, "tooltip", None) is None


def frames_of(html):
    """What a film's script holds: its frames' pixels and words."""
    (line,) = [line for line in html.data.splitlines() if "const frames = " in line]
    kept = json.loads(line.split("= ", 1)[1].rstrip(";"))
    decoded = [Picture.open(io.BytesIO(base64.b64decode(f["webp"]))).convert("RGB") for f in kept]
    return [np.asarray(picture) for picture in decoded], [f["words"] for f in kept]


def test_a_film_holds_every_frame_as_it_was(small_model, short_process):
    frames = list(denoise(small_model, short_process, [3, 8, 1], num_steps=4, solver="ddim"))
    pixels, words = frames_of(film(frames, columns=2))
    assert len(pixels) == len(frames) == 5
    for shown, frame in zip(pixels, frames):
        assert shown.shape == (64, 2 * 64 + GAP, 3)
        assert np.array_equal(shown[:, :64], tile_images(to_image_range(frame.xt), 2))
        assert np.array_equal(shown[:, -64:], tile_images(to_image_range(frame.x0), 2))
    assert words[0].startswith("t = 19") and words[-1].startswith("clean")


def test_a_films_first_frame_shows_without_its_script():
    """As on a code host, or in a notebook that was opened and not run."""
    frames = [torch.full((1, 3, 8, 8), value) for value in (0.0, 1.0)]
    shown = film(frames, ["one <b>", "two </script>"], alt='a "quoted" film').data
    markup = shown.split("<script>")[0]
    source = re.search(r'src="data:image/webp;base64,([^"]+)"', markup)[1]
    assert not np.asarray(Picture.open(io.BytesIO(base64.b64decode(source)))).any()
    assert "one &lt;b&gt;" in markup and "a &quot;quoted&quot; film" in markup
    assert shown.count("</script>") == 1  # no word ends it early
    assert film(frames, ["one", "two"]).data == film(frames, ["one", "two"]).data


@pytest.mark.parametrize(
    ("frames", "words", "message"),
    [
        ([], None, "has no frames"),
        ([torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 8, 8)], None, "of sizes 16 x 8, 8 x 8"),
        ([torch.zeros(1, 3, 8, 8)], ["a", "b"], "2 words for 1 frames"),
        ([torch.zeros(1, 3, 8, 8) - 1], None, r"lies in \[-1, -1\]"),
    ],
)
def test_what_is_no_film_is_named(frames, words, message):
    with pytest.raises(ValueError, match=message):
        film(frames, words)


def attributes(svg, tag, name):
    """That attribute of each such element of an SVG image."""
    return [e.get(name) for e in ElementTree.fromstring(svg).iter(tag)]


def test_the_schedules_curves_have_their_marker_at_t():
    process = make_process("cosine", 100, 0.999)
    svg = schedule_svg(process, 30, width=456, height=140)  # a plot of 400 x 100
    (signal, noise), (x, _) = attributes(svg, "circle", "cy"), attributes(svg, "circle", "cx")
    kept = float(process.alpha_bar[30])
    assert float(x) == pytest.approx(48 + 400 * 30 / 99, abs=0.1)
    assert float(signal) == pytest.approx(108 - 100 * kept**0.5, abs=0.1)
    assert float(noise) == pytest.approx(108 - 100 * (1 - kept) ** 0.5, abs=0.1)
    assert f"{kept**0.5:.3f}" in ElementTree.fromstring(svg).get("aria-label")
    first = attributes(svg, "polyline", "points")[0].split()[0]
    assert first == f"48.0,{108 - 100 * float(process.alpha_bar[0]) ** 0.5:.1f}"


def test_a_schedule_is_made_as_asked():
    assert torch.allclose(
        make_process("linear", 1000, 0.999).betas[[0, -1]], torch.tensor([1e-4, 0.02])
    )
    short = make_process("linear", 100, 0.999)  # as much noise in a tenth of the steps
    assert float(short.betas[-1]) == pytest.approx(0.2)
    assert float(make_process("cosine", 1000, 0.05).betas.max()) == pytest.approx(0.05)


def test_the_explorer_follows_each_of_its_controls(bundle):
    controls, image, words = parts(noising_explorer(bundle))
    controls["class"].value = "ship"
    controls["picture"].value = 2
    controls["schedule"].value = "linear"
    controls["time t"].value = 600
    ship = (bundle.labels == 8).nonzero()[2, 0]
    process = make_process("linear", 1000, 0.999)
    assert image.value == render_noising(process, bundle[ship][0], 600)
    assert f"ᾱ = {process.alpha_bar[600]:.4f}" in words.value and "ship" in words.value
    controls["steps T"].value = 50
    assert controls["time t"].max == controls["time t"].value == 49
    assert image.value == render_noising(make_process("linear", 50, 0.999), bundle[ship][0], 49)
    controls["largest β"].value = 0.1
    assert "This could not" not in words.value and "of 50" in words.value


@pytest.fixture
def board(small_model, short_process):
    return SamplerBoard(small_model, short_process, classes=("cat", "ship"), per_class=2)


def test_the_board_draws_what_is_chosen_and_scrubs_its_frames(board, small_model, short_process):
    board.controls["num_steps"].value, board.controls["guidance_scale"].value = 4, 3.0
    board.controls["seed"].value = 5
    board.buttons["draw"].click()
    board.thread.join()
    asked = {"solver": "dpm++2m", "num_steps": 4, "guidance_scale": 3.0, "seed": 5}
    frames = list(denoise(small_model, short_process, [3, 3, 8, 8], **asked))
    expected = [render_board(frame, 2) for frame in frames]
    assert len(board.frames) == 5 and all(map(np.array_equal, board.frames, expected))
    assert board.progress.value == board.progress.max == 4 and not board.frame.disabled
    for i in (0, 4, 2):
        board.frame.value = i
        shown = np.asarray(Picture.open(io.BytesIO(board.picture.value)))[::2, ::2]
        assert np.array_equal(shown, expected[i])
        assert (f"t = {frames[i].t}" if i < 4 else "finished") in board.words.value


def test_stop_ends_the_drawing_after_the_call_that_is_under_way(small_model, short_process):
    asked, go = threading.Event(), threading.Event()

    def slow(xt, t, y):
        asked.set()
        assert go.wait(10)
        return small_model(xt, t, y)

    slow.null_class, slow.num_steps = 10, 20
    board = SamplerBoard(slow, short_process, classes=("cat",), per_class=1)
    board.buttons["draw"].click()
    assert asked.wait(10)
    board.buttons["stop"].click()
    go.set()
    board.thread.join(10)
    assert not board.thread.is_alive() and len(board.frames) <= 1
    assert "stopped after" in board.words.value


def test_the_boards_mistakes_are_told_in_words(board, tmp_path):
    board.buttons["save"].click()
    assert "press Draw first" in board.words.value
    board.controls["classes"].value = ()
    board.buttons["draw"].click()
    board.thread.join()
    assert "no class is chosen" in board.words.value
    board.controls["classes"].value = (3,)
    board.controls["num_steps"].value = 2
    board.buttons["draw"].click()
    board.thread.join()
    board.file.value = str(tmp_path / "cats.png")
    board.buttons["save"].click()
    saved = np.asarray(Picture.open(tmp_path / "cats.png"))
    assert np.array_equal(saved[::2, ::2], board.frames[-1])
    board.file.value = str(tmp_path / "missing" / "cats.png")
    board.buttons["save"].click()
    assert "could not be drawn" in board.words.value and "missing" in board.words.value


def test_a_board_shows_a_picture_before_anybody_clicks(small_model, short_process):
    box = sampler_board(small_model, short_process, classes=("dog",), per_class=1)
    (image,) = (child for child in box.children if isinstance(child, Image))
    assert np.asarray(Picture.open(io.BytesIO(image.value))).shape == (64, 64, 3)


def test_steps_are_the_samplers_own(small_model, short_process):
    """Walked by the button, the pictures are those of ancestral sampling from the same seed."""
    stepper = Stepper(small_model, short_process, num_steps=4, label=8)
    stepper.controls["guidance_scale"].value = 2.0
    stepper.controls["seed"].value = 7
    for _ in range(5):  # one more than there are: it says so
        stepper.buttons["forward"].click()
    assert "clean picture" in stepper.words.value and len(stepper.steps) == 4
    options = {"solver": "ddpm", "num_steps": 4, "guidance_scale": 2.0, "seed": 7}
    frames = list(denoise(small_model, short_process, [8], **options))
    for step, frame, after in zip(stepper.steps, frames, frames[1:]):
        assert step.t == frame.t and torch.allclose(step.x0, frame.x0, atol=1e-5)
        assert torch.allclose(step.after, after.xt, atol=1e-5)
    assert stepper.picture.value == render_step(stepper.steps[-1])
    stepper.buttons["restart"].click()
    assert len(stepper.steps) == 1 and torch.equal(stepper.steps[0].xt, frames[0].xt)


def test_the_formulas_numbers_are_those_of_the_step(small_model, short_process):
    words = Stepper(small_model, short_process, num_steps=20, label=3).words.value
    found = re.search(r"= ([\d.]+) x̂₀ \+ ([\d.]+) x_t \+ ([\d.]+) z", words)
    a, b, s = map(float, found.groups())
    one = torch.ones(1, 3, 1, 1)
    t = torch.tensor([19])
    mean, variance = short_process.posterior(one, 0 * one, t)
    assert a == pytest.approx(float(mean[0, 0]), abs=6e-4)
    assert b == pytest.approx(float(short_process.posterior(0 * one, one, t)[0][0, 0]), abs=6e-4)
    assert s == pytest.approx(float(variance.sqrt()), abs=6e-4)
    assert step_by_step(small_model, short_process, num_steps=2).children


class Run:
    """What a monitor reads of a TrainState."""

    def __init__(self, total):
        self.config = TrainConfig(num_updates=total, batch_size=10)
        self.record, self.index = torch.linspace(1, 0.1, total), 0

    @property
    def losses(self):
        return self.record[: self.index]

    def steps(self):
        while self.index < len(self.record):
            self.index += 1
            yield Step(self.index - 1, self.record[self.index - 1], 1e-3)


@pytest.fixture
def displayed(monkeypatch):
    shown = []
    module = importlib.import_module("cdiff_helpers.widgets.monitor")  # its name is the function's
    monkeypatch.setattr(module, "display", shown.append)
    return shown


def test_a_monitor_hands_on_every_step_and_ends_with_the_last(displayed):
    run = Run(30)
    pictures = torch.rand(2, 3, 8, 8)
    steps = list(monitor(run.steps(), run, sample=lambda: pictures, every_seconds=0))
    assert [step.index for step in steps] == list(range(30))
    words, curve, image = displayed[0].children
    assert "30 of 30 updates" in words.value and "loss 0.1000" in words.value
    assert curve.value == loss_svg(run.losses.tolist(), total=30)
    assert np.asarray(Picture.open(io.BytesIO(image.value))).shape == (24, 48, 3)


def test_a_monitor_shows_where_an_interrupt_came(displayed):
    run = Run(30)
    steps = monitor(run.steps(), run, sample=lambda: 1 / 0, every_seconds=100)
    with pytest.raises(KeyboardInterrupt):
        for step in steps:
            if step.index == 11:
                steps.throw(KeyboardInterrupt)
    assert "division by zero" in displayed[0].children[0].value
    assert "after 12 of 30" in displayed[0].children[1].value


def test_a_loss_curve_is_drawn_to_scale():
    svg = loss_svg([1.0, 0.1, 0.01], [1.0, 0.5, 0.2, 0.1], total=3, smooth=1, width=156, height=140)
    grey, raw, mean = (
        [tuple(map(float, p.split(","))) for p in points.split()]
        for points in attributes(svg, "polyline", "points")
    )
    assert [x for x, _ in raw] == [48, 98, 148] and raw == mean
    assert raw[1][1] == pytest.approx((raw[0][1] + raw[2][1]) / 2, abs=0.11)  # log axis: half-way
    assert len(grey) == 3 and "the reference" in svg
    assert "loss 0.0100 after 3 of 3" in svg
    assert "no loss yet" in loss_svg([], total=10)
    assert "nan" not in loss_svg([1.0, float("nan"), 0.5], total=3, smooth=1).split("polyline")[2]
