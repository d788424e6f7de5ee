"""Hidden checks of notebook 07."""

import ipywidgets as widgets
import numpy as np
import torch

from cdiff_helpers.checks.verdict import Wrong, call, call_tensor, diagnose

from .draws import share, whole


def bordered_grid(answer, generator) -> None:
    n, columns, gap = (whole(generator, 1, 7), whole(generator, 1, 4), whole(generator, 1, 3))
    h, w = whole(generator, 2, 5), whole(generator, 2, 5)
    images = torch.rand(n, 3, h, w, generator=generator)
    rows = -(-n // columns)
    wanted = np.full((gap + rows * (h + gap), gap + columns * (w + gap), 3), 128, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (h + gap), gap + i % columns * (w + gap)
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        wanted[top : top + h, left : left + w] = pixels
    value = np.asarray(call(answer, images, columns, gap))
    if value.shape != wanted.shape or not np.array_equal(value, wanted):
        raise Wrong(f"{n} pictures in {columns} columns with a gap of {gap} come out otherwise.")


def as_bytes(answer, generator) -> None:
    x = 1.6 * torch.rand(whole(generator, 1, 4), 3, 5, 6, generator=generator) - 0.9
    x = x * 2 * share(generator)
    wanted = ((x.double() + 1) / 2).clamp(0, 1).mul(255)
    value = torch.as_tensor(call(answer, x.clone())).double()
    if value.shape != x.shape or (value - wanted).abs().max() > 0.5 + 1e-3:
        raise Wrong("some bytes are not (x + 1) / 2 of their own value.")


def exponential_mean(answer, generator) -> None:
    values = torch.rand(whole(generator, 1, 30), generator=generator, dtype=torch.float64)
    keep = share(generator)
    wanted = []
    for n in range(len(values)):
        weights = keep ** torch.arange(n, -1, -1, dtype=torch.float64)
        wanted.append(float((weights * values[: n + 1]).sum() / weights.sum()))
    value = call_tensor(answer, values.tolist(), keep, shape=(len(values),))
    diagnose(value, torch.tensor(wanted), {}, 1e-5)


def live_picture(answer, generator) -> None:
    slider = widgets.IntSlider(whole(generator, 0, 50), 0, 50)
    image = call(answer, slider, lambda value: f"number {value}".encode())
    for _ in range(5):
        slider.value = whole(generator, 0, 50)
        if image.value != f"number {slider.value}".encode():
            raise Wrong(f"at {slider.value} the picture is another's.")


HIDDEN = {
    "bordered_grid": bordered_grid,
    "as_bytes": as_bytes,
    "exponential_mean": exponential_mean,
    "live_picture": live_picture,
}
