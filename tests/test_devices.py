"""Accelerators, pretended: what a card refuses, where the host would wait, what moves between them.

Real ones are asked in test_gpu.py.
"""

import copy
import itertools
import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image

from cdiff_helpers.__main__ import main
from cdiff_helpers.data import ResidentLoader, make_loader
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.evaluation import classify, load_judge, nearest_training, score, standard_places
from cdiff_helpers.evaluation.scores import coverage, load_statistics
from cdiff_helpers.runtime import (
    PRESETS,
    autocast_dtype,
    course_preset,
    environment_report,
    machine,
    pick_device,
)
from cdiff_helpers.sampling import sample_conditional_images
from cdiff_helpers.training import (
    OutOfMemory,
    TrainConfig,
    TrainState,
    load_checkpoint,
    load_ema_model,
    open_run,
    save_checkpoint,
    train,
)
from cdiff_helpers.visualization import plot_noising
from cdiff_helpers.widgets import noising_frames
from tests.support import runs
from tests.support.notebooks import HOUSE, NOTEBOOKS
from tests.support.pretended_device import pretended
from tests.support.systems import posix_only

DEVICES = {"A100": ("cuda", (8, 0)), "T4": ("cuda", (7, 5)), "Apple": ("mps", (0, 0))}
FEW = TrainConfig(num_updates=3, batch_size=8)
LONG = pytest.mark.slow  # cases that plain pytest leaves to the others of their kind


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch):
    monkeypatch.delenv("CDIFF_PRESET")
    machine.print_once.cache_clear()
    with pretended(*DEVICES[request.param]) as device:
        yield device


def network():
    """Small enough for float16, which CPUs compute slowly."""
    return runs.network(**runs.TINY)


def trained(kind, bundle, config=FEW, steps=3):
    """A small run that has done some steps on a device of that kind."""
    state = TrainState(network().to(kind), config)
    process = DiffusionProcess(runs.NUM_STEPS).to(kind)
    loader = ResidentLoader(bundle, config.batch_size, config.seed, kind)
    list(itertools.islice(train(state, process, loader), steps))
    return state


def test_the_device_and_its_preset_are_chosen(device):
    assert pick_device() == torch.device(device.device.type)
    assert course_preset().name == {"cuda": "gpu", "mps": "mps"}[device.device.type]


def test_a_preset_is_of_the_device_that_is_asked_for(device):
    assert course_preset(device=torch.device("cpu")) is PRESETS["cpu"]


def test_training_waits_for_the_device_once_in_twenty_steps(device, bundle):
    config = TrainConfig(num_updates=60, batch_size=8, loss_weighting="velocity")
    state = TrainState(network().to(device.device), config)
    process = DiffusionProcess(runs.NUM_STEPS).to(device.device)
    few = type(bundle)(bundle.images[:60], bundle.labels[:60], bundle.classes, "bundled")
    steps = train(state, process, ResidentLoader(few, 8, 0, device.device))
    next(steps)
    device.waits.clear()
    assert len(list(itertools.islice(steps, 20))) == 20
    epochs = 0 if device.device.type == "cuda" else 2  # begun meanwhile: their order is copied
    assert sum(device.waits.values()) == 1 + epochs, device.waits
    assert state.losses.isfinite().all() and state.ema.num_updates == 21


def test_a_step_left_out_in_float16_leaves_weights_and_goes_on_in_the_schedule(bundle):
    with pretended("cuda", (7, 5)) as device:
        state = trained("cuda", bundle, steps=1)
        assert state.scaler.is_enabled()
        state.scaler._scale.fill_(float("inf"))  # every gradient overflows
        before = [p.detach().clone() for p in state.model.parameters()]
        rate, generator = state.scheduler.get_last_lr(), state.generator.get_state()
        steps = train(state, DiffusionProcess(runs.NUM_STEPS).to("cuda"), loader_of(bundle))
        next(steps)
        assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters()))
        assert state.scheduler.get_last_lr() != rate
        assert not torch.equal(generator, state.generator.get_state())
        assert device.ops["aten::_fused_adamw_"]


def loader_of(bundle):
    return ResidentLoader(bundle, FEW.batch_size, FEW.seed, "cuda")


@pytest.mark.parametrize("solver", ["dpm++2m", "ddim", pytest.param("ddpm", marks=LONG)])
def test_every_solver_draws_as_on_the_cpu(solver, device, small_model, short_process):
    options = {"solver": solver, "num_steps": 4, "guidance_scale": 2.5, "precision": "float32"}
    on_cpu = sample_conditional_images(small_model, short_process, [1, 2, 3], **options)
    model, process = small_model.to(device.device), short_process.to(device.device)
    images = sample_conditional_images(model, process, [1, 2, 3], **options)
    assert images.device == device.device and torch.allclose(images.cpu(), on_cpu, atol=1e-4)


def test_the_default_solver_waits_no_more_for_more_steps(device, small_model, short_process):
    model, process = small_model.to(device.device), short_process.to(device.device)
    waits = []
    for num_steps in (4, 12):
        device.waits.clear()
        sample_conditional_images(model, process, [1, 2], num_steps=num_steps)
        waits.append(sum(device.waits.values()))
    assert waits[0] == waits[1] < 8


def test_sampling_on_cuda_computes_in_the_devices_format(device, small_model, short_process):
    model, process = small_model.to(device.device), short_process.to(device.device)
    seen = []
    model.stem.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    for precision in ("auto", "float32"):
        sample_conditional_images(model, process, [1], num_steps=1, precision=precision)
    assert seen == [autocast_dtype(device.device) or torch.float32, torch.float32]
    with pytest.raises(ValueError, match="precision is 'half'; expected one of auto, float32"):
        sample_conditional_images(model, process, [1], num_steps=1, precision="half")


def test_the_judge_scores_on_the_device(bundle):
    images, labels = bundle.images[:40], bundle.labels[:40]
    on_cpu = score(images, labels, allow_few=True)
    with pretended("cuda") as device:
        on_device = score(images, labels, allow_few=True)
        assert device.ops["aten::convolution"]
    assert on_device["agreement"] == on_cpu["agreement"]
    assert on_device["judge_fd"] == pytest.approx(on_cpu["judge_fd"], rel=1e-3)


# --- from one device to another


@pytest.mark.parametrize("there", DEVICES)
def test_a_run_of_a_gpu_opens_on_the_cpu_and_goes_on(there, bundle, tmp_path, capsys):
    with pretended(*DEVICES[there]) as device:
        save_checkpoint(tmp_path, trained(device.device.type, bundle, steps=2))
    content = (tmp_path / "latest" / "state.pt").read_bytes()
    assert f"{DEVICES[there][0]}:0".encode() in content  # as a real one's state says
    state = load_checkpoint(tmp_path)
    assert state.index == 2 and state.device.type == "cpu"
    steps = train(state, DiffusionProcess(runs.NUM_STEPS), runs_loader(bundle))
    assert [step.index for step in steps] == [2] and state.losses.isfinite().all()
    words = ["sample", "--checkpoint", tmp_path, "--classes", "cat", "--out", tmp_path / "x.png"]
    assert main([*map(str, words), "--per-class", "1", "--device", "cpu"]) == 0


def runs_loader(bundle):
    return ResidentLoader(bundle, FEW.batch_size, FEW.seed)


@pytest.mark.parametrize(
    ("there", "here"),
    [("cpu", "T4"), ("T4", "A100"), ("A100", "T4"), ("Apple", "T4"),
     *(pytest.param(*pair, marks=LONG) for pair in
       [("cpu", "A100"), ("cpu", "Apple"), ("T4", "T4"), ("T4", "Apple")])],
)  # fmt: skip
def test_a_run_goes_on_on_every_device(there, here, bundle, tmp_path):
    """A disabled scaler leaves an empty state, and AdamW's kernels are of where it is."""
    if there == "cpu":
        save_checkpoint(tmp_path, trained("cpu", bundle, steps=2))
    else:
        with pretended(*DEVICES[there]) as device:
            save_checkpoint(tmp_path, trained(device.device.type, bundle, steps=2))
    with pretended(*DEVICES[here]) as device:
        model = network().to(device.device)
        state = open_run(tmp_path, model, FEW)
        process = DiffusionProcess(runs.NUM_STEPS).to(device.device)
        loader = ResidentLoader(bundle, FEW.batch_size, FEW.seed, device.device)
        assert [step.index for step in train(state, process, loader)] == [2]
        assert state.losses.isfinite().all()
        assert state.optimizer.param_groups[0]["fused"] is True
        save_checkpoint(tmp_path, state)
    state = load_checkpoint(tmp_path)
    assert state.index == 3 and not state.optimizer.param_groups[0]["fused"]


def test_sampling_needs_two_files_of_a_run(bundle, tmp_path, capsys):
    save_checkpoint(tmp_path / "run", trained("cpu", bundle))
    for name in ("state.pt", "model.safetensors", "losses.json"):
        (tmp_path / "run" / "latest" / name).write_bytes(b"damaged")
    whole = load_ema_model(tmp_path / "run")
    (tmp_path / "two").mkdir()
    for name in ("config.json", "ema.safetensors"):
        content = (tmp_path / "run" / "latest" / name).read_bytes()
        (tmp_path / "two" / name).write_bytes(content)
    pair = load_ema_model(tmp_path / "two")
    for one, other in zip(whole.parameters(), pair.parameters()):
        assert torch.equal(one, other) and not one.requires_grad
    words = ["sample", "--checkpoint", str(tmp_path / "two"), "--classes", "cat,dog"]
    assert main([*words, "--out", str(tmp_path / "x.png"), "--device", "cpu"]) == 0
    assert main(["train", "--out", str(tmp_path / "two"), "--source", "bundled"]) == 2
    assert "holds a run already" in capsys.readouterr().err
    (tmp_path / "two" / "config.json").write_text('{"model": {"depth": 3}}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"does not know \(depth\)"):
        load_ema_model(tmp_path / "two")
    (tmp_path / "run" / "latest" / "ema.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"is damaged \(latest/ema.safetensors"):
        load_ema_model(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="there is no run in"):
        load_ema_model(tmp_path / "nothing")


def test_the_last_batch_on_a_device_is_filled(device, bundle):
    few = type(bundle)(bundle.images[:20], bundle.labels[:20], bundle.classes, "bundled")
    plain = [y for _, y in ResidentLoader(few, 8, seed=3)]
    for size in (8, 64):
        loader = ResidentLoader(few, size, seed=3, device=device.device)
        batches = [(x0.cpu(), y.cpu()) for x0, y in loader]
        assert len(batches) == len(loader) == -(-20 // size)
        assert {len(x0) for x0, _ in batches} == {size}
        order = torch.cat([y for _, y in batches])
        assert torch.equal(order[:20], torch.cat(plain))  # each once, as on the CPU
        assert torch.equal(order[20:], order[: len(order) - 20].repeat(9)[: len(order) - 20])


# --- cards that cannot, and settings of the user's


def test_a_card_without_kernels_is_left_aside_with_a_sentence(monkeypatch, capsys):
    monkeypatch.delenv("CDIFF_PRESET")
    machine.print_once.cache_clear()
    with pretended("cuda", (6, 0), kernels=False):
        assert pick_device().type == course_preset().name == "cpu"
        told = environment_report()
        with pytest.raises(ValueError, match=r"'cuda' cannot be used here \(CUDA error: no kernel"):
            pick_device("cuda")
    words = capsys.readouterr().out
    assert words.count("Pretended cannot compute with torch") == 1  # said once
    assert "no kernel image is available" in words and "not P100" in words
    assert told["device"].startswith("cpu") and "Pretended" in told["to do"]
    assert "no kernel image" in told["to do"] and "not P100" in told["to do"]


def test_a_card_that_is_full_is_not_called_too_old(monkeypatch, capsys):
    machine.print_once.cache_clear()
    with pretended("cuda"):
        monkeypatch.setattr(machine, "device_error", lambda name: "CUDA out of memory. Tried")
        assert pick_device().type == "cpu"
    words = capsys.readouterr().out
    assert "Close the other notebooks" in words and "P100" not in words


@pytest.mark.parametrize(("gib", "batch"), [(80, 1024), (15, 1024), (8, 512), (6, 512), (4, 256)])
def test_a_small_card_gets_smaller_batches_and_more_of_them(gib, batch, monkeypatch, capsys):
    monkeypatch.delenv("CDIFF_PRESET")
    machine.print_once.cache_clear()
    with pretended("cuda", (7, 5), memory=gib * 2**30):
        preset = course_preset()
        assert course_preset("gpu") == preset and course_preset("cpu") is PRESETS["cpu"]
    assert preset.batch_size == batch and preset.num_updates * batch == 3_500 * 1_024
    words = capsys.readouterr().out
    assert words.count(f"{gib} GiB: ") == (batch < 1024) and preset.name == "gpu"


@pytest.mark.parametrize(
    "words",
    ["CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"],
)
def test_a_full_card_is_known_by_the_libraries_words_too(words, batches, short_process):
    state = TrainState(network(), FEW)
    state.network.stem.register_forward_hook(lambda *_: fail(f"CUDA error: {words} when calling"))
    with pytest.raises(OutOfMemory, match="does not hold a batch of 8"):
        next(train(state, short_process, batches))


def fail(words):
    raise RuntimeError(words)


def test_a_default_device_of_the_users_own_changes_nothing(bundle, monkeypatch):
    """torch.set_default_device: what draws says where."""
    with pretended("cuda"):
        torch.set_default_device("cuda")
        try:
            state = trained("cuda", bundle)
            few = type(bundle)(bundle.images[:20], bundle.labels[:20], bundle.classes, "bundled")
            labels = [y.cpu() for _, y in make_loader(few, 8, seed=3)]
            process = DiffusionProcess(runs.NUM_STEPS)
            images = sample_conditional_images(state.ema.model, process, [1, 2], num_steps=2)
            plot_noising(process, few[0][0].to("cuda"), [0, 10])
            noising_frames(process, few[0][0][None].to("cuda"), [0, 10])
            features = classify(load_judge("cuda"), few.images)[0]
            nearest_training(features, load_statistics(), standard_places(bundle))
            coverage(features, load_statistics().features)
        finally:
            torch.set_default_device(None)
        assert images.is_cuda and state.losses.isfinite().all()
    assert torch.equal(torch.cat(labels), torch.cat([y for _, y in make_loader(few, 8, seed=3)]))


def test_a_default_type_of_the_users_own_changes_nothing(bundle):
    """torch.set_default_dtype: what draws says how."""
    model = network()  # its first weights are torch's to draw

    def drawn():
        state = TrainState(copy.deepcopy(model), FEW)
        list(train(state, DiffusionProcess(runs.NUM_STEPS), runs_loader(bundle)))
        images = sample_conditional_images(
            state.ema.model, DiffusionProcess(runs.NUM_STEPS), [1, 2], num_steps=2
        )
        return images, state.losses, score(bundle.images[:40], bundle.labels[:40], allow_few=True)

    usual = drawn()
    torch.set_default_dtype(torch.float64)
    try:
        other = drawn()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(usual[0], other[0]) and torch.equal(usual[1], other[1])
    assert other[0].dtype == torch.float32 and usual[2]["agreement"] == other[2]["agreement"]


# --- CUDA graphs


def test_graphs_are_asked_for_and_training_goes_on_without_them(bundle, capsys):
    config = TrainConfig(num_updates=3, batch_size=8, cuda_graphs=True)
    with pretended("cuda"):  # it can record nothing
        assert trained("cuda", bundle, config).losses.isfinite().all()
    assert capsys.readouterr().out.count("Training without CUDA graphs (") == 1
    plain, asked = trained("cpu", bundle), trained("cpu", bundle, config)
    assert "on CUDA, not a ConditionalUNet on cpu" in capsys.readouterr().out
    assert torch.equal(plain.losses, asked.losses)


def test_graphs_serve_the_batches_that_they_were_recorded_for(batches, monkeypatch):
    """The recorder is a stand-in: it counts, and calls the network."""
    counted = []

    def recorder(network, example):
        assert [tuple(x.shape) for x in example] == [(8, 3, 32, 32), (8,), (8,)]
        assert not torch.is_autocast_cache_enabled() and network.training
        forward = network.forward
        network.forward = lambda *args: counted.append(len(args[0])) or forward(*args)
        return network

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", recorder)
    with pretended("cuda"):
        state = TrainState(network().to("cuda"), TrainConfig(num_updates=3, cuda_graphs=True))
        process = DiffusionProcess(runs.NUM_STEPS).to("cuda")
        list(train(state, process, batches))  # of 8, 8 and 4 images
        assert counted == [8, 8] and state.losses.isfinite().all()
        assert "forward" not in vars(state.model)  # the model itself is as it was


def test_graphs_are_a_way_of_computing_and_no_other_run(bundle, tmp_path):
    save_checkpoint(tmp_path, trained("cpu", bundle, steps=2))
    config = TrainConfig(num_updates=3, batch_size=8, cuda_graphs=True)
    assert open_run(tmp_path, network(), config).config == config
    with pytest.raises(ValueError, match="cuda_graphs is 1; expected True or False"):
        TrainConfig(cuda_graphs=1)


# --- notebooks

PRETEND = """
from tests.support.pretended_device import pretended

pretending = pretended{device}
accelerator = pretending.__enter__()  # for as long as the kernel lives
"""
ASK = "assert device.type == accelerator.device.type and len(accelerator.ops) > 50"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "name"), [("05", "A100"), ("08", "Apple")])
def test_a_notebook_runs_on_the_device(number, name, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HOUSE))  # the kernel's, for tests.support
    (path,) = (path for path in NOTEBOOKS if path.name.startswith(number))
    notebook = nbformat.read(path, as_version=4)
    first = PRETEND.format(device=DEVICES[name])
    notebook.cells = [*map(nbformat.v4.new_code_cell, (first, ASK))]
    notebook.cells[1:1] = nbformat.read(path, as_version=4).cells
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": path.parent}})
    client.execute()  # raises where a cell does


# --- a machine without Jupyter

BARE = """
torch torchvision numpy matplotlib pillow safetensors tqdm requests filelock packaging pytest
"""


def with_requirements(names):
    """Installed distributions of these names, and of all that they require."""
    found, names = {}, [*names]
    while names:
        name = names.pop().lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # for another system
            continue
        names += [
            re.match(r"[\w.-]+", each)[0]
            for each in found[name].requires or []
            if "extra ==" not in each
        ]
    return found.values()


@posix_only
def test_the_gpus_tests_start_where_there_is_no_jupyter(tmp_path):
    for each in with_requirements(BARE.split()):
        for top in {file.parts[0] for file in each.files if ".." not in file.parts}:
            source, link = Path(each.locate_file(top)), tmp_path / top
            if source.exists() and not link.exists():
                link.symlink_to(source)
    assert not (tmp_path / "nbformat").exists() and not (tmp_path / "xdist").exists()
    command = [sys.executable, "-S", "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, cwd=HOUSE, env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Jupyter is not installed" in done.stdout
    assert re.search(r"7 (skipped|passed)", done.stdout), done.stdout


# --- the shell


@pytest.mark.slow
def test_the_shell_trains_goes_on_draws_and_scores(device, tmp_path, capsys):
    run, scores = tmp_path / "run", tmp_path / "scores.json"
    words = ["train", "--out", run, "--source", "bundled", "--batch-size", "8", "--updates", "2"]
    assert main(list(map(str, words))) == 0
    assert (
        main(["train", "--out", str(run), "--resume", "--extend", "1", "--source", "bundled"]) == 0
    )
    words = ["--classes", "cat,dog", "--per-class", "1", "--out", tmp_path / "x.png"]
    assert main(["sample", *map(str, words)]) == 0
    assert main(["sample", "--checkpoint", str(run), *map(str, words)]) == 0
    with Image.open(tmp_path / "x.png") as image:
        assert image.size[0] > 32
    words = ["evaluate", "--num-images", "20", "--allow-few", "--num-steps", "2", "--json", scores]
    assert main(list(map(str, words))) == 0
    assert 0 <= json.loads(scores.read_text(encoding="utf-8"))["agreement"] <= 1
