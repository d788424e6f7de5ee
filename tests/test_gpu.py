"""On a real CUDA device: pytest -m gpu, which needs neither Jupyter nor a network.

test_devices.py asks most questions of a pretended one.
"""

import itertools

import pytest
import torch

from cdiff_helpers.data import ResidentLoader
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.evaluation import load_judge, score
from cdiff_helpers.runtime import course_preset, device_error
from cdiff_helpers.runtime.machine import STEP_BYTES
from cdiff_helpers.sampling import sample_conditional_images
from cdiff_helpers.training import (
    RECIPE,
    OutOfMemory,
    TrainConfig,
    TrainState,
    load_checkpoint,
    save_checkpoint,
    train,
)
from cdiff_helpers.unet import ConditionalUNet

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(error := device_error("cuda")), reason=f"needs CUDA: {error}"),
]
TF32 = 5e-3  # what the default precision of convolutions on Ampere cards may move a sample by


def trained(loader, device="cuda", **settings):
    """A state after the first steps of the course's network."""
    torch.manual_seed(0)
    state = TrainState(ConditionalUNet().to(device), TrainConfig(num_updates=5, **settings))
    list(train(state, DiffusionProcess().to(device), loader))
    return state


def test_training_and_sampling_run_on_a_gpu(bundle):
    state = trained(ResidentLoader(bundle, 64, 0, "cuda"))
    assert state.losses.isfinite().all() and state.optimizer.param_groups[0]["fused"]
    options = {"solver": "ddim", "num_steps": 5, "guidance_scale": 2.0}
    process = DiffusionProcess()
    on_gpu = [
        sample_conditional_images(
            state.ema.model, process.to("cuda"), [1, 2], **options, precision=precision
        ).cpu()
        for precision in ("float32", "auto")
    ]
    on_cpu = sample_conditional_images(state.ema.model.cpu(), process.cpu(), [1, 2], **options)
    assert torch.allclose(on_gpu[0], on_cpu, atol=TF32)
    assert (on_gpu[1] - on_cpu).square().mean().sqrt() < 0.02  # in 16 bits


def test_a_step_of_the_gpu_preset_fits_the_card(bundle):
    torch.cuda.reset_peak_memory_stats()
    preset = course_preset("gpu")
    config = TrainConfig.for_preset(preset, **RECIPE)
    state = TrainState(ConditionalUNet().to("cuda"), config)
    loader = ResidentLoader(bundle, config.batch_size, 0, "cuda")
    steps = itertools.islice(train(state, DiffusionProcess().to("cuda"), loader), 3)
    assert all(step.loss.isfinite() for step in steps)
    peak = torch.cuda.max_memory_allocated()
    assert peak < config.batch_size * STEP_BYTES + 2**30, f"{peak / 2**30:.1f} GiB"


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_cuda_graphs_train_as_the_network_itself_does(precision, bundle, capsys):
    loader = ResidentLoader(bundle, 64, 0, "cuda")
    plain, graphs = (
        trained(loader, precision=precision, cuda_graphs=asked) for asked in (False, True)
    )
    assert "without CUDA graphs" not in capsys.readouterr().out
    assert torch.allclose(plain.losses, graphs.losses, rtol=0.02)


def test_a_run_of_a_gpu_goes_on_on_the_cpu_and_back(bundle, tmp_path):
    config = TrainConfig(num_updates=6, batch_size=8)
    places = ["cuda", "cpu", "cuda"]
    state = TrainState(ConditionalUNet(channels=(16, 32)).to("cuda"), config)
    for k, device in enumerate(places):
        state = load_checkpoint(tmp_path, device=device) if k else state
        loader = ResidentLoader(bundle, config.batch_size, config.seed, device)
        list(itertools.islice(train(state, DiffusionProcess().to(device), loader), 2))
        save_checkpoint(tmp_path, state)
    assert state.index == 6 and state.losses.isfinite().all()


def test_the_judge_scores_on_the_gpu_as_on_the_cpu(bundle):
    few = {"images": bundle.images[:200], "labels": bundle.labels[:200], "allow_few": True}
    on_gpu, on_cpu = (score(judge=load_judge(device), **few) for device in ("cuda", "cpu"))
    assert abs(on_gpu["agreement"] - on_cpu["agreement"]) <= 0.01
    assert on_gpu["judge_fd"] == pytest.approx(on_cpu["judge_fd"], rel=0.02)


def test_a_full_gpu_is_told_and_left_usable(bundle):
    x0, y = torch.zeros(4096, 3, 32, 32), torch.zeros(4096, dtype=torch.int64)
    process = DiffusionProcess().to("cuda")
    model = ConditionalUNet().to("cuda")
    state = TrainState(model, TrainConfig(num_updates=2, batch_size=4096))
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        with pytest.raises(OutOfMemory, match=r"batch_size=2048 .*GiB are free|GiB are free.*2048"):
            list(train(state, process, [(x0, y)]))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    small = TrainState(model, TrainConfig(num_updates=1, batch_size=4))
    assert len(list(train(small, process, [(x0[:4], y[:4])]))) == 1
