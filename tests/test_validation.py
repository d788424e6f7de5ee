"""One meaning of whole numbers and seeds everywhere, and guards at the doors alone."""

import sys

import numpy as np
import pytest
import torch

from cdiff_helpers import validation
from cdiff_helpers.data import ResidentLoader, load_cifar10, make_loader
from cdiff_helpers.diffusion import DiffusionProcess, cosine_alpha_bar
from cdiff_helpers.runtime import seed_everything
from cdiff_helpers.sampling import denoise, respaced_times, sample_conditional_images
from cdiff_helpers.training import EMA, TrainConfig, TrainState, load_checkpoint, save_checkpoint
from cdiff_helpers.unet import ConditionalUNet, SinusoidalPositionEmbeddings
from cdiff_helpers.visualization import plot_losses, plot_noising, show_images, tile_images

TINY = {"num_steps": 20, "channels": (4,), "emb_dim": 8}
WHOLE = pytest.mark.parametrize(
    "n", [np.int64(4), np.uint8(4), np.array(4), torch.tensor(4)], ids=lambda n: type(n).__name__
)
process, x0 = DiffusionProcess(20), torch.zeros(3, 32, 32)
model = ConditionalUNet(**TINY)


@WHOLE
def test_whole_numbers_of_every_kind_are_whole_numbers_everywhere(n, tmp_path):
    data = load_cifar10(source="bundled")
    assert type(validation.whole("n", n)) is int
    assert DiffusionProcess(n).num_steps == 4 and len(cosine_alpha_bar(n)) == 4
    assert SinusoidalPositionEmbeddings(n)(torch.arange(2)).shape == (2, 4)
    network = ConditionalUNet(num_classes=n, num_steps=n, channels=(n,), emb_dim=n)
    assert network.config == {"num_classes": 4, "num_steps": 4, "channels": [4], "emb_dim": 4}
    assert respaced_times(20, n) == [19, 13, 6, 0]
    for num_steps in (n, [n, 0], np.array([4, 0]), torch.tensor([4, 0])):
        options = {"num_steps": num_steps, "seed": n, "guidance_interval": (n, n)}
        images = sample_conditional_images(model, process, [n], batch_size=n, **options)
        assert images.shape == (1, 3, 32, 32)
    for loader in (make_loader(data, n, n), ResidentLoader(data, n, n)):
        assert len(next(iter(loader))[1]) == 4
    config = TrainConfig(num_updates=n, batch_size=n, seed=n)
    state = TrainState(ConditionalUNet(**TINY), config)
    save_checkpoint(tmp_path / "run", state)
    assert load_checkpoint(tmp_path / "run").config == config
    assert plot_noising(process, x0, np.array([0, 4]), seed=n) and plot_losses([1.0], smooth=n)
    assert tile_images(x0[None], n).shape == (32, 128, 3) and show_images(x0[None], columns=n)
    seed_everything(n)


@pytest.mark.parametrize(
    "bad", [True, np.bool_(True), torch.tensor(True), 4.0, "4", None, [4], torch.tensor([4]), -1]
)
def test_what_is_no_whole_number_is_refused_by_one_sentence(bad):
    for call in (
        lambda: DiffusionProcess(bad),
        lambda: ConditionalUNet(num_classes=bad),
        lambda: TrainConfig(batch_size=bad),
        lambda: make_loader([0], bad),
        lambda: seed_everything(bad),
        lambda: tile_images(x0[None], bad),
    ):
        with pytest.raises(ValueError, match=r"is .*; expected a whole number"):
            call()


def test_numbers_of_every_kind_become_pythons(tmp_path):
    config = TrainConfig(learning_rate=np.float32(1e-3), betas=np.array([0.5, 0.9]), warmup=0)
    assert type(config.learning_rate) is float and config.betas == (0.5, 0.9)
    state = TrainState(ConditionalUNet(**TINY), config)
    save_checkpoint(tmp_path / "run", state)
    assert load_checkpoint(tmp_path / "run").config == config
    assert type(EMA(state.model, decay=np.float64(0.5)).decay) is float


def test_seeds_have_one_range_everywhere():
    data, highest = load_cifar10(source="bundled"), 2**63 - 1
    for seed in (0, highest):
        seed_everything(seed)
        assert next(iter(make_loader(data, 2, seed)))[1].shape == (2,)
        assert next(iter(ResidentLoader(data, 2, seed)))[1].shape == (2,)
        assert TrainState(ConditionalUNet(**TINY), TrainConfig(seed=seed)).generator
        assert (
            sample_conditional_images(model, process, [1], seed=seed, num_steps=1).isfinite().all()
        )
        assert plot_noising(process, x0, [0], seed=seed)
    for seed in (-1, highest + 1, True, 1.0, "a", None):
        for call in (
            seed_everything,
            lambda seed: make_loader(data, 2, seed),
            lambda seed: ResidentLoader(data, 2, seed),
            lambda seed: TrainConfig(seed=seed),
            lambda seed: sample_conditional_images(model, process, [1], seed=seed),
            lambda seed: plot_noising(process, x0, [0], seed=seed),
        ):
            with pytest.raises(ValueError, match=r"seed is .*; expected a whole number from 0 to"):
                call(seed)
    with pytest.raises(ValueError, match=f"from 0 to {highest - 1}"):  # two images, two seeds
        sample_conditional_images(model, process, [1, 2], seed=highest)


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpm++2m"])
def test_guards_stand_at_the_door_and_not_in_the_loop(solver):
    """Three guided images in 20 steps: 334 calls of guards when each step made them anew."""
    calls = []

    def count(frame, event, _):
        code = frame.f_code
        if event == "call" and (
            code.co_filename == validation.__file__ or code.co_name.startswith("check_")
        ):
            calls.append(code.co_name)

    sys.setprofile(count)
    try:
        list(denoise(model, process, [1, 2, 3], solver=solver, num_steps=20, guidance_scale=2.0))
    finally:
        sys.setprofile(None)
    assert 0 < len(calls) <= 40, calls
