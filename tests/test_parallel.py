"""Several processes: they compute one gradient, and write one run."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from cdiff_helpers import commands, parallel
from cdiff_helpers.__main__ import main
from cdiff_helpers.data import ResidentLoader, load_cifar10
from cdiff_helpers.parallel import Rank, average_gradients, process_group
from cdiff_helpers.training import TrainConfig, TrainState, load_checkpoint
from cdiff_helpers.unet import ConditionalUNet
from tests.support import runs
from tests.support.notebooks import HOUSE

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def state_and_batch():
    """A small network with something to say, and a batch of noisy pictures."""
    torch.manual_seed(0)
    model = ConditionalUNet(num_steps=20, channels=(16, 32), emb_dim=32)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    batch = torch.randn(6, 3, 32, 32), torch.arange(6), torch.arange(6)
    return TrainState(model, TrainConfig(num_updates=4, batch_size=6)), batch


def gradients(state, xt, t, y):
    state.network(xt, t, y).square().mean().backward()
    return torch.cat([p.grad.flatten() for p in state.model.parameters()])


def test_shares_of_a_batch_make_up_the_batch(bundle):
    whole = list(ResidentLoader(bundle, 64, seed=3))
    halves = [list(ResidentLoader(bundle, 64, seed=3, share=(k, 2))) for k in (0, 1)]
    assert len(whole) == len(halves[0]) == len(ResidentLoader(bundle, 64, share=(1, 2)))
    for (x0, y), (x_even, y_even), (x_odd, y_odd) in zip(whole, *halves):
        assert torch.equal(torch.stack([x_even, x_odd], 1).flatten(0, 1), x0)
        assert torch.equal(torch.stack([y_even, y_odd], 1).flatten(), y)


def test_a_last_batch_too_small_to_share_is_left_out(bundle):
    few = type(bundle)(bundle.images[:10], bundle.labels[:10], bundle.classes, "bundled")
    for size, sizes in ((3, [1, 1, 1]), (4, [2, 2, 1]), (7, [3, 1])):
        for k in (0, 1):
            loader = ResidentLoader(few, size, share=(k, 2))
            assert [len(y) for _, y in loader] == sizes and len(loader) == len(sizes)


def test_one_process_alone_is_the_plain_loop(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    state, _ = state_and_batch()
    with process_group("cpu") as rank:
        assert (rank.index, rank.count, rank.device.type) == (0, 1, "cpu")
        average_gradients(state, rank)
    assert state.network is state.model


def test_no_process_waits_in_a_barrier_while_another_fetches_the_data(monkeypatch, tmp_path):
    events, asked = [], {}

    @contextlib.contextmanager
    def noted(rank):
        events.append("one by one")
        yield
        events.append("the others may go on")

    def fetch(*args, **options):
        events.append("data")
        return load_cifar10(source="bundled")

    monkeypatch.setattr(commands, "main_process_first", noted)
    monkeypatch.setattr(commands, "load_cifar10", fetch)
    words = ["--preset", "reduced", "--updates", "1", "--batch-size", "2", "--device", "cpu"]
    assert main(["train", "--out", str(tmp_path / "run"), *words]) == 0
    assert events == ["data", "one by one", "the others may go on"]
    monkeypatch.setenv("LOCAL_RANK", "0")
    join = lambda backend, **options: asked.update(options)  # noqa: E731
    for name, value in {"init_process_group": join, "destroy_process_group": lambda: None,
                        "get_rank": lambda: 0, "get_world_size": lambda: 1}.items():  # fmt: skip
        monkeypatch.setattr(parallel.dist, name, value)
    with process_group("cpu"):
        assert asked["timeout"] >= timedelta(minutes=30)  # NCCL's own is ten minutes


def test_a_batch_that_cannot_be_shared_is_named():
    state, _ = state_and_batch()
    with pytest.raises(ValueError, match="batch_size is 6; expected a multiple of the 4"):
        average_gradients(state, Rank(0, 4, torch.device("cpu")))


@pytest.mark.slow
def test_the_averaged_gradient_is_the_joint_batchs(tmp_path):
    done = subprocess.run(
        [*TORCHRUN, "-m", __name__, str(tmp_path)],
        cwd=HOUSE, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    state, batch = state_and_batch()
    joint = gradients(state, *batch)
    for k in (0, 1):
        assert torch.allclose(torch.load(tmp_path / f"{k}.pt"), joint, atol=1e-6)
    seeds = [torch.load(tmp_path / f"{k}.random.pt") for k in (0, 1)]
    assert not torch.equal(*seeds)


@pytest.mark.slow
def test_torchrun_trains_one_run_and_goes_on_with_it(tmp_path):
    def train(*more):
        words = ["train", "--out", "run", "--updates", "3", "--batch-size", "8", "--device", "cpu"]
        command = [*TORCHRUN, "-m", "cdiff_helpers", *words, "--source", "bundled", *more]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")

    done = train()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained 3 updates") == 1 and done.stdout.count("CIFAR-10:") == 1
    losses = json.loads((tmp_path / "run" / "latest" / "losses.json").read_text(encoding="utf-8"))
    assert len(losses) == 3 and load_checkpoint(tmp_path / "run").index == 3
    assert "is finished" in train("--resume").stdout
    refused = train()
    assert refused.returncode != 0 and "holds a run already" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_processes_are_stopped_and_resumed_to_the_same_weights(number, tmp_path):
    """Against two that were not stopped: the same weights, averages and losses, bit for bit."""

    def start(folder, *more):
        words = ["train", "--out", folder, "--updates", "60", "--batch-size", "8", "--seed", "3"]
        words += ["--device", "cpu", "--source", "bundled", *more]
        code = f"import sys\nfrom tests.support import runs\nsys.exit(runs.shell({words!r}))"
        (tmp_path / "shell.py").write_text(code, encoding="utf-8")
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "encoding": "utf-8"}
        paths = os.pathsep.join([str(HOUSE), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [*TORCHRUN, "shell.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, **pipes
        )

    whole = start("whole")
    said = whole.communicate(timeout=300)[1]
    assert whole.returncode == 0, said
    stopped = start("cut")
    while stopped.poll() is None and "loss=" not in stopped.stderr.read(80):
        pass
    stopped.send_signal(number)  # torchrun hands it to both of its processes
    said = stopped.communicate(timeout=120)[1]
    assert said.count("updates; run the same command with --resume to go on") == 1, said
    reached = load_checkpoint(tmp_path / "cut").index
    assert 0 < reached < 60
    resumed = start("cut", "--resume")
    said = resumed.communicate(timeout=300)[1]
    assert resumed.returncode == 0, said
    one, other = (load_checkpoint(tmp_path / folder) for folder in ("whole", "cut"))
    assert one.index == 60 and runs.same(one, other)


if __name__ == "__main__":  # one of torchrun's processes
    folder = Path(sys.argv[1])
    with process_group("cpu") as rank:
        state, batch = state_and_batch()
        average_gradients(state, rank)
        assert not state.network.broadcast_buffers  # all of them are constants
        share = [part[rank.index :: rank.count] for part in batch]
        torch.save(gradients(state, *share), folder / f"{rank.index}.pt")
        drawn = torch.rand(9, generator=state.generator)
        torch.save(drawn, folder / f"{rank.index}.random.pt")
