"""Sliders: callbacks fired by hand, pictures compared with the pure render functions."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from ipywidgets import HTML, Image, Label
from PIL import Image as Picture

from cdiff_helpers.data import to_image_range
from cdiff_helpers.sampling import denoise
from cdiff_helpers.visualization import tile_images
from cdiff_helpers.widgets import (
    GAP,
    class_picker,
    film,
    noising_slider,
    render_noising,
    render_samples,
)

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
