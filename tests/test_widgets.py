"""Sliders: callbacks fired by hand, pictures compared with the pure render functions."""

import base64
import gc
import html
import importlib
import io
import re
import threading
from xml.etree import ElementTree

import numpy as np
import psutil
import pytest
import torch
from ipywidgets import HTML, Box, Image, Label
from PIL import Image as Picture

from cdiff_helpers.data import ImageSet, to_image_range
from cdiff_helpers.sampling import GUIDANCE_SCALE, denoise
from cdiff_helpers.training import Step, TrainConfig
from cdiff_helpers.visualization import tile_images
from cdiff_helpers.widgets import (
    SamplerBoard,
    board_pixels,
    class_picker,
    film,
    guidance_frames,
    monitor,
    noising_explorer,
    noising_frames,
    render_board,
    render_samples,
    sampler_board,
    sampling_frames,
    step_by_step,
)
from cdiff_helpers.widgets.board import AT_ONCE
from cdiff_helpers.widgets.charts import GAP, captioned
from cdiff_helpers.widgets.controls import LARGEST_SEED, Checkboxes, followed
from cdiff_helpers.widgets.monitor import loss_svg
from cdiff_helpers.widgets.noising import make_process, noising_html, render_noising
from cdiff_helpers.widgets.stepper import Stepper, explain_step

PICKER = {"count": 2, "num_steps": 2}


def parts(widget):
    """Controls by their description, the image, the message."""
    controls = {c.description: c for c in widget.children if getattr(c, "description", "")}
    (image,) = (c for c in widget.children if isinstance(c, Image))
    (message,) = (c for c in widget.children if isinstance(c, HTML))
    return controls, image, message


def test_noising_is_drawn_as_three_enlarged_pictures(process, bundle):
    x0 = bundle[3][0]
    pixels = np.asarray(Picture.open(io.BytesIO(render_noising(process, x0, 0))))
    assert pixels.shape[1] == 3 * 160 + 2 * GAP and pixels.shape[0] > 160  # names stand below
    clean, noisy, noise = (
        pixels[2:160:5, i + 2 : i + 160 : 5].astype(int) for i in range(0, 492, 160 + GAP)
    )
    expected = ((x0 + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert abs(clean - expected).max() <= 1 and abs(noisy - clean).mean() < 4
    assert abs(noise.mean() - 127.5) < 5


def test_picking_draws_what_was_picked(small_model, short_process):
    controls, image, message = parts(class_picker(small_model, short_process, **PICKER))
    controls["class"].value = 7
    controls["seed"].value = 11
    controls["guidance scale"].value = 3.0
    expected = render_samples(
        small_model, short_process, 7, solver="ddim", seed=11, guidance_scale=3.0, **PICKER
    )
    assert image.value == expected and "horse" in message.value
    assert not any(c.continuous_update for c in list(controls.values())[1:])


def test_an_error_in_a_callback_is_told_and_the_next_move_recovers(short_process, small_model):
    broken = []

    class Model:
        null_class = 10

        def __call__(self, xt, t, y):
            if broken:
                raise ValueError("the model is gone")
            return xt

    controls, image, message = parts(class_picker(Model(), short_process, **PICKER))
    before = image.value
    broken.append(True)
    controls["seed"].value = 1
    assert "the model is gone" in message.value and image.value == before
    broken.clear()
    controls["seed"].value = 2
    assert "gone" not in message.value and image.value != before


def test_five_hundred_moves_leave_no_figure_and_no_memory(bundle):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    controls, _, _ = parts(noising_explorer(bundle))
    time, process = controls["time t"], psutil.Process()

    def move(count):
        for i in range(count):
            time.value = (37 * i + 1) % 1000
        gc.collect()
        return process.memory_info().rss

    assert move(500) - move(100) < 20e6 and pyplot.get_fignums() == []


def described(box):
    """A box's widgets and those in the boxes inside it."""
    for widget in getattr(box, "children", ()):
        yield widget
        yield from described(widget)


def test_every_control_has_a_name_and_every_picture_alternative_text(
    bundle, small_model, short_process
):
    boxes = [
        noising_explorer(bundle),
        class_picker(small_model, short_process, **PICKER),
        sampler_board(small_model, short_process, per_class=1, num_steps=2),
        step_by_step(small_model, short_process, num_steps=2),
    ]
    for box in boxes:
        for widget in described(box):
            if not isinstance(widget, Image | HTML | Label | Box):
                assert widget.description
            # ipywidgets 8.1 fails in the browser on a tooltip where there is no description
            assert getattr(widget, "description", "") or getattr(widget, "tooltip", None) is None
        (said,) = (widget.value for widget in described(box) if isinstance(widget, Label))
        assert len(said) > 15


EVIL = "<img src=x onerror=alert(1)>"


def test_names_and_errors_reach_the_page_as_text(bundle, board, tmp_path, displayed):
    """Whatever a class, a file or an error is called, no message runs it."""

    def broken():
        raise ValueError(EVIL)

    renamed = ImageSet(bundle.images, bundle.labels, [EVIL, *bundle.classes[1:]], "bundled")
    board.draw()
    board.thread.join()
    board.file.value = str(tmp_path / "<b>x.png")
    board.buttons["save"].click()
    run = Run(5)
    list(monitor(run.steps(), run, sample=broken))
    boxes = [noising_explorer(renamed), followed(broken, {}, EVIL), board, displayed[0]]
    pages = [w.value for box in boxes for w in described(box) if isinstance(w, HTML)]
    pages.append(film([torch.zeros(1, 3, 8, 8)], [EVIL], alt=EVIL).data)
    assert sum("&lt;" in page for page in pages) == 5
    assert not any(EVIL in page or "<b>x" in page for page in pages)


class Like:
    """Another object's attributes and items, as those of a student's own class."""

    def __init__(self, other):
        self.other = other

    def __getattr__(self, name):
        return getattr(self.other, name)

    def __getitem__(self, i):
        return self.other[i]

    def __call__(self, *args):
        return self.other(*args)


def test_a_students_own_objects_serve(small_model, short_process, bundle):
    model, process = Like(small_model), Like(short_process)
    frames = list(map(Like, denoise(small_model, short_process, [3], num_steps=2)))
    assert len(frames_of(film(*sampling_frames(process, frames)))[0]) == 3
    film(*noising_frames(process, bundle[0][0][None], np.array([0, 19]), seed=np.int64(1)))
    scales = np.array([0.0, 1.0])
    film(*guidance_frames(model, short_process, [3], scales, num_steps=1), scale=np.int64(2))
    two = np.int64(2)
    for box in (
        noising_explorer(Like(bundle)),
        class_picker(model, short_process, count=two, num_steps=2),
        sampler_board(model, short_process, per_class=two, num_steps=two, seed=LARGEST_SEED),
        step_by_step(model, short_process, label=two, walked=two, num_steps=torch.tensor(2)),
    ):
        (image,) = (w for w in described(box) if isinstance(w, Image))
        assert Picture.open(io.BytesIO(image.value)).width > 60


def test_a_part_of_a_set_that_lacks_classes_can_be_explored(bundle):
    ships = bundle.labels == 8
    part = ImageSet(bundle.images[ships], bundle.labels[ships], bundle.classes, "bundled")
    controls, *_ = parts(noising_explorer(part))
    assert controls["class"].options == ("ship",)


def frames_of(shown):
    """What a film's markup holds: its frames' pixels and words, in order."""
    found = re.findall(r'<img alt="([^"]*)" src="data:image/webp;base64,([^"]+)"', shown.data)
    files = [io.BytesIO(base64.b64decode(source)) for _, source in found]
    pixels = [np.asarray(Picture.open(file).convert("RGB")) for file in files]
    return pixels, [html.unescape(words) for words, _ in found]


def test_a_film_holds_every_frame_as_it_was(small_model, short_process):
    frames = list(denoise(small_model, short_process, [3, 8, 1], num_steps=4, solver="ddim"))
    pixels, words = frames_of(film(frames, columns=2))
    assert len(pixels) == len(frames) == 5
    for shown, frame in zip(pixels, frames):
        assert shown.shape == (64, 2 * 64 + GAP, 3)
        assert np.array_equal(shown[:, :64], tile_images(to_image_range(frame.xt), 2))
        assert np.array_equal(shown[:, -64:], tile_images(to_image_range(frame.x0), 2))
    assert words[0].startswith("t = 19") and words[-1].startswith("clean")


def test_a_films_story_shows_without_its_script():
    """As on a code host, or in a notebook that was opened and not run: five frames in words."""
    frames = [torch.full((1, 3, 8, 8), i / 9) for i in range(10)]
    words = [f"frame <{i}>" for i in range(9)] + ["the end </script>"]
    shown = film(frames, words, alt='a "quoted" film')
    markup = shown.data.split("<script>")[0]
    styles = re.findall(r'<img alt="([^"]+)" [^>]*style="([^"]+)"', markup)
    visible = [alt for alt, style in styles if "none" not in style]
    assert len(styles) == 10 and len(visible) == 5 and visible[0] == "frame &lt;0&gt;"
    assert visible[-1] == "the end &lt;/script&gt;" and "a &quot;quoted&quot; film" in markup
    assert not frames_of(shown)[0][0].any()
    assert re.search(r"display: none[^>]*>\s*<button", markup)  # no dead controls
    assert shown.data.count("</script>") == 1
    assert film(frames, words, alt='a "quoted" film').data == shown.data


def test_a_film_has_a_strip_where_no_page_is_shown():
    frames = [torch.full((1, 3, 8, 8), i / 255) for i in range(0, 90, 10)]
    shown = film(frames, alt="grey, lighter and lighter")
    data, metadata = shown._repr_mimebundle_()
    strip = np.asarray(Picture.open(io.BytesIO(base64.b64decode(data["image/png"]))))
    assert strip.shape == (8, 3 * 8 + 2 * GAP, 3)
    assert [int(value) for value in strip[0, :: 8 + GAP, 0]] == [0, 40, 80]
    assert metadata["image/png"]["alt"] == "grey, lighter and lighter" in data["text/plain"]
    wide = film([torch.zeros(4, 3, 8, 8)] * 2)  # frames of 32 x 8 go below each other
    assert Picture.open(io.BytesIO(wide.strip)).size == (32, 16 + GAP)


def test_the_noising_films_frames_are_one_jump_from_the_picture(process, bundle):
    x0 = torch.stack([bundle[0][0], bundle[1][0]])
    frames, words = noising_frames(process, x0, [0, 500, 999], seed=4)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(4))
    kept = process.alpha_bar[500]
    xt = kept.sqrt() * x0 + (1 - kept).sqrt() * noise
    assert len(frames) == 3 and torch.allclose(frames[1], to_image_range(xt), atol=1e-6)
    assert f"t = 500: ᾱ = {kept:.3f}, so {kept**0.5:.2f} × the image" in words[1]
    assert abs(frames[0] - to_image_range(x0)).max() < 0.05
    film(frames, words)


def test_the_sampling_films_frames_are_the_samplers_own(small_model, short_process):
    frames = list(denoise(small_model, short_process, [3], num_steps=8, solver="ddim"))
    chosen, words = sampling_frames(short_process, frames, count=4)
    assert [frame.t for frame in chosen] == [frames[i].t for i in (0, 3, 5, 8)]
    assert f"ᾱ = {short_process.alpha_bar[chosen[1].t]:.3f}" in words[1]
    assert "clean" in words[-1]
    assert len(sampling_frames(short_process, frames[:2])[0]) == 2


def test_the_guidance_films_frames_start_from_one_noise(small_model, short_process):
    options = {"num_steps": 3, "solver": "ddim", "seed": 2}
    frames, words = guidance_frames(small_model, short_process, [3, 8], [0, 2.5], **options)
    for frame, scale in zip(frames, (0, 2.5)):
        *_, last = denoise(small_model, short_process, [3, 8], guidance_scale=scale, **options)
        assert torch.allclose(frame, to_image_range(last.xt))
    assert words == ["guidance scale 0: the class has no say", "guidance scale 2.5"]


def test_captions_stand_below_their_columns():
    pixels = np.zeros((4, 80, 3), np.uint8)
    card = np.asarray(Picture.open(io.BytesIO(captioned(pixels, ["x̂₀", ""], 2))))
    assert not card[:8, :80].any() and (card[:8, 80 : 80 + GAP] == 255).all()
    below = card[8:]
    assert (below[:, :80] < 128).any() and (below[:, 80:] == 255).all()
    higher = np.asarray(Picture.open(io.BytesIO(captioned(pixels, ["a\nb", ""], 2))))
    assert len(higher) > len(card)


@pytest.mark.parametrize(
    ("frames", "words", "message"),
    [
        ([], None, "at least one"),
        ([torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 8, 8)], None, "of sizes 16 x 8, 8 x 8"),
        ([torch.zeros(1, 3, 8, 8)], ["a", "b"], "list of 1 names"),
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
    svg = noising_html(process, 30, "cat").split("<br>")[0]
    (signal, noise), (x, _) = attributes(svg, "circle", "cy"), attributes(svg, "circle", "cx")
    alpha_bar = float(process.alpha_bar[30])
    assert float(x) == pytest.approx(48 + 504 * 30 / 99, abs=0.1)
    assert float(signal) == pytest.approx(158 - 150 * alpha_bar**0.5, abs=0.1)
    assert float(noise) == pytest.approx(158 - 150 * (1 - alpha_bar) ** 0.5, abs=0.1)
    assert f"{alpha_bar**0.5:.3f}" in ElementTree.fromstring(svg).get("aria-label")
    first = attributes(svg, "polyline", "points")[0].split()[0]
    assert first == f"48.0,{158 - 150 * float(process.alpha_bar[0]) ** 0.5:.1f}"


def test_a_schedule_is_made_as_asked():
    assert torch.allclose(
        make_process("linear", 1000, 0.999).betas[[0, -1]], torch.tensor([1e-4, 0.02])
    )
    short = make_process("linear", 100, 0.999)  # as much noise in a tenth of the steps
    assert float(short.betas[-1]) == pytest.approx(0.2)
    assert float(make_process("cosine", 1000, 0.05).betas.max()) == pytest.approx(0.05)


def test_the_explorer_follows_each_of_its_controls(bundle):
    controls, image, message = parts(noising_explorer(bundle))
    controls["class"].value = "ship"
    controls["image"].value = 2
    controls["schedule"].value = "linear"
    controls["time t"].value = 600
    ship = (bundle.labels == 8).nonzero()[2, 0]
    process = make_process("linear", 1000, 0.999)
    assert image.value == render_noising(process, bundle[ship][0], 600)
    assert f"ᾱ = {process.alpha_bar[600]:.4f}" in message.value and "ship" in message.value
    controls["steps T"].value = 50
    assert controls["time t"].max == controls["time t"].value == 49
    assert image.value == render_noising(make_process("linear", 50, 0.999), bundle[ship][0], 49)
    controls["largest β"].value = 0.1
    assert "This could not" not in message.value and "of 50" in message.value


def test_the_explorer_redraws_for_each_move_of_the_time(bundle):
    controls, image, message = parts(noising_explorer(bundle))
    assert controls["time t"].continuous_update
    process = make_process("cosine", 1000, 0.999)
    first = bundle[int((bundle.labels == 0).nonzero()[0, 0])][0]
    for t in (0, 999, 400):
        controls["time t"].value = t
        assert image.value == render_noising(process, first, t)
        assert message.value == noising_html(process, t, "airplane")


def test_checkboxes_hold_what_is_checked():
    picker = Checkboxes(("cat", "dog", "ship"), checked=[2])
    assert picker.value == (2,)
    picker.children[0].value = True  # a click
    assert picker.value == (0, 2)


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
    expected = [board_pixels(frame, 2) for frame in frames]
    assert len(board.frames) == 5 and all(map(np.array_equal, board.frames, expected))
    assert board.progress.value == board.progress.max == 4 and not board.step.disabled
    assert "cat, ship" in board.caption.value
    for i in (0, 4, 2):
        board.step.value = i
        assert board.image.value == render_board(expected[i], ["cat", "ship"])
        assert (f"t = {frames[i].t}" if i < 4 else "finished") in board.message.value


def test_a_board_has_a_column_for_each_class(small_model, short_process):
    *_, last = denoise(small_model, short_process, [3, 3, 3, 8, 8, 8], num_steps=2)
    pixels = board_pixels(last, columns=2)
    assert pixels.shape == (96, 64, 3)
    assert np.array_equal(pixels[:, :32], tile_images(to_image_range(last.xt[:3]), 1))
    card = np.asarray(Picture.open(io.BytesIO(render_board(pixels, ["cat", "ship"]))))
    assert np.array_equal(card[: 5 * 96 : 5, : 5 * 32 : 5], pixels[:, :32])


class Waiting:
    """A network that says when it is asked, and answers when it may."""

    null_class, num_steps = 10, 20

    def __init__(self):
        self.asked, self.go, self.calls = threading.Event(), threading.Event(), []

    def __call__(self, xt, t, y):
        self.calls.append(len(xt))
        self.asked.set()
        assert self.go.wait(10)
        return xt


def test_stop_waits_for_one_call_of_few_pictures_alone(short_process):
    """However many are drawn: 100 guided ones would take seconds a step on a slow machine."""
    model = Waiting()
    board = SamplerBoard(model, short_process, per_class=10)
    board.buttons["draw"].click()
    assert model.asked.wait(10)
    board.buttons["stop"].click()
    model.go.set()
    board.thread.join(10)
    assert not board.thread.is_alive() and model.calls == [AT_ONCE] and not board.frames
    assert "stopped after 0 of 11 frames" in board.message.value and board.step.disabled


def test_a_board_drawn_in_parts_shows_what_the_sampler_draws(small_model, short_process):
    board = SamplerBoard(small_model, short_process, per_class=4, num_steps=2, seed=3)
    board.draw()
    board.thread.join()
    labels = [label for label in range(10) for _ in range(4)]
    asked = {"num_steps": 2, "seed": 3, "guidance_scale": GUIDANCE_SCALE}
    *_, last = denoise(small_model, short_process, labels, **asked)
    difference = board.frames[-1].astype(int) - board_pixels(last, 10)
    assert abs(difference).max() <= 1


def test_drawing_again_or_closing_ends_the_drawing_under_way(short_process):
    model = Waiting()
    board = SamplerBoard(model, short_process, classes=("cat",), num_steps=3)
    board.buttons["draw"].click()
    first = board.thread
    assert model.asked.wait(10)
    model.go.set()
    board.buttons["draw"].click()
    assert not first.is_alive() and board.thread is not first
    board.thread.join(10)
    assert len(board.frames) == 4 and "finished" in board.message.value
    model.go.clear(), model.asked.clear()
    board.buttons["draw"].click()
    assert model.asked.wait(10)
    board.close()
    model.go.set()
    board.thread.join(10)
    assert not board.thread.is_alive() and len(board.frames) < 4


def test_an_error_while_drawing_is_told_and_what_was_drawn_can_be_scrubbed(short_process):
    class Breaking:
        null_class, calls = 10, 0

        def __call__(self, xt, t, y):
            self.calls += 1
            if self.calls > 2:
                raise RuntimeError("out of memory <at> last")
            return xt

    board = SamplerBoard(Breaking(), short_process, classes=("cat",), num_steps=4)
    board.buttons["draw"].click()
    board.thread.join()
    assert "out of memory &lt;at&gt; last" in board.message.value
    assert len(board.frames) == 2 and board.step.max == 1 and not board.step.disabled


def test_the_boards_mistakes_are_told_in_words(board, tmp_path):
    board.buttons["save"].click()
    assert "press Draw first" in board.message.value
    cat, ship = (board.controls["classes"].children[label] for label in (3, 8))
    cat.value = ship.value = False
    board.buttons["draw"].click()
    board.thread.join()
    assert "no class is chosen" in board.message.value
    cat.value = True
    board.controls["num_steps"].value = 2
    board.buttons["draw"].click()
    board.thread.join()
    board.step.value = 1
    board.file.value = str(tmp_path / "cats.png")
    board.buttons["save"].click()
    assert (tmp_path / "cats.png").read_bytes() == render_board(board.frames[1], ["cat"])
    assert "saved in" in board.message.value
    board.file.value = str(tmp_path / "cats.png" / "more.png")
    board.buttons["save"].click()
    assert "could not be done" in board.message.value and "cats.png" in board.message.value
    assert [path.name for path in tmp_path.iterdir()] == ["cats.png"]  # nothing half-written


def test_a_board_shows_a_picture_before_anybody_clicks(small_model, short_process):
    box = sampler_board(small_model, short_process, classes=("dog",), per_class=1)
    (image,) = (child for child in box.children if isinstance(child, Image))
    assert Picture.open(io.BytesIO(image.value)).width == 5 * 32


def test_steps_are_the_samplers_own(small_model, short_process):
    """Walked by the button, the images are those of ancestral sampling from the same seed."""
    stepper = Stepper(small_model, short_process, num_steps=4, label=8)
    stepper.controls["guidance_scale"].value = 2.0
    stepper.controls["seed"].value = 7
    for _ in range(5):  # one more than there are: it says so
        stepper.buttons["forward"].click()
    assert "walk is over" in stepper.message.value and len(stepper.frames) == 5
    options = {"solver": "ddpm", "num_steps": 4, "guidance_scale": 2.0, "seed": 7}
    frames = list(denoise(small_model, short_process, [8], **options))
    assert all(torch.equal(a.xt, b.xt) for a, b in zip(stepper.frames, frames))
    stepper.buttons["restart"].click()
    assert len(stepper.frames) == 2 and torch.equal(stepper.frames[0].xt, frames[0].xt)


def test_a_walk_that_broke_begins_again(short_process):
    def model(xt, t, y):
        if len(calls) == 2:
            raise RuntimeError("the <model> is gone")
        calls.append(t)
        return xt

    calls = []
    stepper = Stepper(model, short_process, num_steps=4, label=8)
    stepper.buttons["forward"].click()
    assert "the &lt;model&gt; is gone" in stepper.message.value and len(stepper.frames) == 2
    calls.clear()
    stepper.buttons["restart"].click()
    assert "x̂₀" in stepper.message.value and len(stepper.frames) == 2


def test_the_formulas_numbers_are_those_of_the_step(small_model, short_process):
    words = Stepper(small_model, short_process, num_steps=20, label=3).message.value
    found = re.search(r"= ([\d.]+) x̂₀ \+ ([\d.]+) x_t \+ ([\d.]+) z", words)
    a, b, s = map(float, found.groups())
    one = torch.ones(1, 3, 1, 1)
    t = torch.tensor([19])
    mean, variance = short_process.posterior(one, 0 * one, t)
    assert a == pytest.approx(float(mean[0, 0]), abs=6e-4)
    assert b == pytest.approx(float(short_process.posterior(0 * one, one, t)[0][0, 0]), abs=6e-4)
    assert s == pytest.approx(float(variance.sqrt()), abs=6e-4)


def test_each_of_the_six_images_stands_over_its_term(small_model, short_process):
    stepper = Stepper(small_model, short_process, num_steps=4, label=3)
    frame, after = stepper.frames
    images, _ = explain_step(short_process, frame, after)
    names, terms = zip(*(caption.split("\n") for caption in images))
    alpha_bar = float(short_process.alpha_bar[frame.t])
    assert len(names) == 6 and names[-1] == f"x at t = {after.t}"
    assert terms[2] == f"(x_t - {(1 - alpha_bar) ** 0.5:.2g} ε̂) / {alpha_bar**0.5:.2g}"
    xt, half_eps, x0, mean, added, last = images.values()
    again = (xt - (1 - alpha_bar) ** 0.5 * 2 * half_eps) / alpha_bar**0.5
    assert torch.allclose(again, x0, atol=1e-3) and torch.equal(x0, frame.x0)
    assert torch.allclose(mean + added, last, atol=1e-6) and terms[4].endswith(" z")
    assert float(terms[4][:-2]) == pytest.approx(float(added.std()), rel=0.1)
    card = np.asarray(Picture.open(io.BytesIO(stepper.image.value)))
    pixels = tile_images(to_image_range(after.xt), 1)
    assert np.array_equal(card[: 4 * 32 : 4, -4 * 32 :: 4], pixels)


def test_a_walk_can_begin_on_its_way(small_model, short_process):
    box = step_by_step(small_model, short_process, num_steps=5, walked=3)
    (words,) = (child for child in box.children if isinstance(child, HTML))
    stepper = Stepper(small_model, short_process, num_steps=5, label=8)
    for _ in range(2):
        stepper.forward()
    assert words.value == stepper.message.value != ""


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
    images = torch.rand(2, 3, 8, 8)
    steps = list(monitor(run.steps(), run, sample=lambda: images, every_seconds=0))
    assert [step.index for step in steps] == list(range(30))
    progress, image, caption, _ = displayed[0].children
    text, curve = progress.value.split("<br>")
    assert "30 of 30 updates" in text and "loss 0.1000" in text
    assert "finished after" in text and "images/s" in text and caption.value
    assert curve == loss_svg(run.losses.tolist(), total=30)
    assert np.asarray(Picture.open(io.BytesIO(image.value))).shape == (24, 48, 3)


def test_a_monitor_ends_at_once_where_an_interrupt_came(displayed):
    run, drawn = Run(30), []
    steps = monitor(run.steps(), run, sample=lambda: drawn.append(1), every_seconds=100)
    with pytest.raises(KeyboardInterrupt):
        for step in steps:
            if step.index == 11:
                steps.throw(KeyboardInterrupt)
    text, curve = displayed[0].children[0].value.split("<br>")
    assert "12 of 30" in text and "stopped after" in text
    assert "after 12 of 30" in curve and not drawn


def test_a_monitor_of_a_finished_run_shows_it(displayed):
    run, images = Run(30), torch.rand(2, 3, 8, 8)
    list(run.steps())
    assert list(monitor(run.steps(), run, sample=lambda: images)) == []
    progress, image, *_ = displayed[0].children
    text, curve = progress.value.split("<br>")
    assert text == "30 of 30 updates · none of them now" and "after 30 of 30" in curve
    assert np.asarray(Picture.open(io.BytesIO(image.value))).shape == (24, 48, 3)


def test_what_goes_wrong_in_a_monitor_does_not_stop_the_run(displayed):
    run = Run(5)
    wrong = monitor(run.steps(), run, sample=lambda: 1 / 0, sample_seconds=0, every_seconds=100)
    messages = [displayed[0].children[-1].value for _ in wrong]
    assert len(messages) == 5 and all("division by zero" in message for message in messages[1:])
    assert "5 of 5 updates" in displayed[0].children[0].value
    assert "division by zero" in displayed[0].children[-1].value
    broken = Run(5)
    broken.config = None
    assert len(list(monitor(broken.steps(), broken, every_seconds=0))) == 5
    assert "num_updates" in displayed[1].children[-1].value


def test_a_loss_curve_is_drawn_to_scale():
    svg = loss_svg([1.0, 0.1, 0.01], [1.0, 0.5, 0.2, 0.1], total=3, smooth=1)
    grey, raw, mean = (
        [tuple(map(float, p.split(","))) for p in points.split()]
        for points in attributes(svg, "polyline", "points")
    )
    assert [x for x, _ in raw] == [48, 300, 552] and raw == mean
    assert raw[1][1] == pytest.approx((raw[0][1] + raw[2][1]) / 2, abs=0.11)  # log axis: half-way
    assert len(grey) == 3 and "a recorded run" in svg
    assert "loss 0.0100 after 3 of 3" in svg
    assert "no loss yet" in loss_svg([], total=10)
    assert "nan" not in loss_svg([1.0, float("nan"), 0.5], total=3, smooth=1).split("polyline")[2]
