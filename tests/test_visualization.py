"""Figures: what is drawn is what was given, axes are named, alternative text is there."""

import io
from types import SimpleNamespace

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from cdiff_helpers.data import CLASS_NAMES
from cdiff_helpers.sampling import denoise
from cdiff_helpers.visualization import (
    new_figure,
    plot_beta_schedule,
    plot_denoising,
    plot_losses,
    plot_noising,
    png_bytes,
    running_mean,
    show_images,
    tile_images,
    visualize_conditional_generation,
)


def drawn(figure):
    """The figure as pixels, which also proves that it can be drawn."""
    assert isinstance(figure, Figure) and len(figure.alt) > 15
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def test_a_grid_shows_each_picture_with_its_title():
    images = torch.rand(5, 3, 8, 8)
    figure = show_images(images, list("abcde"), columns=3)
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in shown] == list("abcde") and len(figure.axes) == 6
    for axis, image in zip(shown, images):
        assert np.array_equal(axis.images[0].get_array(), image.permute(1, 2, 0))
        assert axis.images[0].get_interpolation() == "nearest"
    assert drawn(figure).std() > 10


def test_rows_are_named():
    figure = show_images(torch.rand(4, 3, 8, 8), columns=2, rows=["cat", "dog"])
    assert [axis.get_ylabel() for axis in figure.axes[::2]] == ["cat", "dog"]


def test_the_schedule_figure_draws_the_tables(process):
    figure = plot_beta_schedule(process)
    lines = {line.get_label(): line.get_ydata() for axis in figure.axes for line in axis.lines}
    tables = list(lines.values())
    for table, name in zip(tables, ("betas", "alphas", "alpha_bar")):
        assert np.allclose(table, getattr(process, name)), name
    assert all(axis.get_xlabel() and axis.get_ylabel() for axis in figure.axes)
    drawn(figure)


def test_noising_keeps_the_picture_at_first_and_loses_it_at_last(process, bundle):
    x0 = bundle[0][0]
    figure = plot_noising(process, x0, [0, 500, 999])
    first, _, last = (axis.images[0].get_array() for axis in figure.axes)
    picture = ((x0 + 1) / 2).permute(1, 2, 0).numpy()
    assert abs(first - picture).mean() < 0.02 < 0.2 < abs(last - picture).mean()
    assert "t = 500" in figure.axes[1].get_title() and "0.4" in figure.axes[1].get_title()
    drawn(figure)


def test_whole_numbers_of_numpy_and_torch_are_timesteps_and_counts(process, bundle):
    x0, times = bundle[0][0], np.linspace(0, 999, 5).astype(int)
    figure = plot_noising(process, x0, times, seed=np.int64(3))
    assert [axis.get_title()[:8] for axis in figure.axes][-1] == "t = 999\n"
    assert len(plot_noising(process, x0, torch.tensor([0, 9])).axes) == 2
    assert len(show_images(torch.rand(4, 3, 8, 8), columns=np.int64(2)).axes) == 4
    assert tile_images(torch.rand(4, 3, 8, 8), torch.tensor(2)).shape == (16, 16, 3)
    assert len(plot_losses([1.0, 0.5], smooth=np.int64(2)).axes) == 1


def test_a_process_and_frames_of_ones_own_are_drawn(bundle):
    class Process:
        """What a student's class has, and no base class of ours."""

        num_steps, betas = 4, torch.tensor([0.1, 0.2, 0.3, 0.4])
        alphas, alpha_bar = 1 - betas, (1 - betas).cumprod(0)

        def add_noise(self, x0, t, noise):
            alpha_bar = self.alpha_bar[t].view(-1, 1, 1, 1)
            return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise, noise

    x0 = bundle[0][0]
    assert len(plot_beta_schedule(Process()).axes) == 2
    assert len(plot_noising(Process(), x0, [0, 3]).axes) == 2
    frames = [SimpleNamespace(t=t, xt=x0[None], x0=x0[None]) for t in (3, 0, -1)]
    titles = [axis.get_title() for axis in plot_denoising(frames).axes]
    assert titles == ["t = 3", "t = 0", "clean", "", "", ""]


def test_the_running_mean_is_numpys():
    values = np.random.default_rng(0).random(20)
    expected = [values[max(0, i - 4) : i + 1].mean() for i in range(20)]
    assert np.allclose(running_mean(values, 5), expected)


def test_the_loss_figure_draws_raw_smooth_and_reference():
    losses = [torch.tensor(1.0 / (i + 1)) for i in range(30)]
    figure = plot_losses(losses, reference=[1.0] * 40, smooth=10)
    behind, raw, smooth = (line.get_ydata() for line in figure.axes[0].lines)
    assert len(behind) == 40 and np.allclose(raw, losses)
    assert np.allclose(smooth, running_mean(losses, 10))
    drawn(figure)


def test_denoising_shows_noise_first_and_the_clean_picture_last(small_model, short_process):
    frames = list(denoise(small_model, short_process, [1], solver="ddim", num_steps=9))
    figure = plot_denoising(frames, columns=4)
    titles = [axis.get_title() for axis in figure.axes[:4]]
    assert titles[0] == "t = 19" and titles[-1] == "clean"
    above, below = (figure.axes[i].images[0].get_array() for i in (3, 7))
    assert np.array_equal(above, below)
    drawn(figure)


def test_one_sample_per_class_under_its_name(small_model, short_process):
    figure = visualize_conditional_generation(
        small_model, short_process, solver="ddim", num_steps=2
    )
    assert [axis.get_title() for axis in figure.axes] == list(CLASS_NAMES)
    drawn(figure)


def test_tiles_stand_row_by_row_and_the_rest_is_white():
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 2, 2) / 4
    pixels = tile_images(images, columns=2)
    assert pixels.shape == (4, 4, 3) and pixels.dtype == np.uint8
    assert pixels[::2, ::2, 0].tolist() == [[0, 64], [128, 255]]
    enlarged = np.asarray(Image.open(io.BytesIO(png_bytes(pixels, 3))))
    assert enlarged.shape == (12, 12, 3) and np.array_equal(enlarged[1::3, 1::3], pixels)


def test_a_figure_shows_itself_with_its_alternative_text(monkeypatch):
    shown = {}
    monkeypatch.setattr("IPython.display.display", lambda b, **k: shown.update(bundle=b, **k))
    figure, _ = new_figure("a line that falls", size=(2, 1))
    figure._ipython_display_()
    assert shown["bundle"]["image/png"][:4] == b"\x89PNG"
    assert shown["metadata"]["image/png"]["alt"] == "a line that falls"
    assert "a line that falls" in repr(figure)
