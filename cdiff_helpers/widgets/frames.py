"""Frames for a film, with the words that stand below each: film(*noising_frames(…)).

Home: notebook 07, used in 03 and 06.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cdiff_helpers import validation
from cdiff_helpers.data import to_image_range
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.sampling import Frame, sample_conditional_images


def noising_frames(
    process: DiffusionProcess, x0: Tensor, times: Sequence[int], *, seed: int = 0
) -> tuple[list[Tensor], list[str]]:
    """Pictures x0 (N, 3, H, W) in [-1, 1] at each of the times, under one noise: frames, words.

    A frame is a tensor (N, 3, H, W) in [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(x0.shape, generator=generator, device="cpu").to(x0.device)
    frames = []
    for time in times:
        t = torch.full((len(x0),), time, device=x0.device)
        frames.append(to_image_range(process.add_noise(x0, t, noise)[0]))
    return frames, [f"t = {time}: {mixture(process, time)}" for time in times]


def sampling_frames(
    process: DiffusionProcess, frames: Sequence[Frame], *, count: int = 16
) -> tuple[list[Frame], list[str]]:
    """`count` of denoise's frames, evenly chosen, both ends among them: frames, words."""
    validation.frames(frames)
    places = torch.linspace(0, len(frames) - 1, min(count, len(frames))).round().int().tolist()
    chosen = [frames[i] for i in places]
    return chosen, [
        f"t = {frame.t}: left x_t, {mixture(process, frame.t)}; right the network's guess x̂₀"
        if frame.t >= 0
        else "clean: the finished pictures, on both sides"
        for frame in chosen
    ]


def guidance_frames(
    model: Callable,
    process: DiffusionProcess,
    labels: Sequence[int],
    scales: Sequence[float],
    **options,
) -> tuple[list[Tensor], list[str]]:
    """The labels' pictures at each guidance scale, from the same noise: frames, words.

    A frame is a tensor (N, 3, 32, 32) in [0, 1]; the options are the sampler's.
    """
    frames = [
        sample_conditional_images(model, process, labels, guidance_scale=scale, **options)
        for scale in scales
    ]
    meaning = {0: ": the class has no say", 1: ": the plain conditional network"}
    return frames, [f"guidance scale {scale:g}{meaning.get(scale, '')}" for scale in scales]


def mixture(process: DiffusionProcess, t: int) -> str:
    """What x_t is made of at time t, in words with numbers."""
    kept = float(process.alpha_bar[t])
    return f"ᾱ = {kept:.3f}, so {kept**0.5:.2f} × the picture + {(1 - kept) ** 0.5:.2f} × the noise"
