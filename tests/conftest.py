"""What many tests start from."""

import pytest
import torch

from cdiff_helpers.data import download, load_cifar10, sources
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.unet import ConditionalUNet


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def bundle():
    return load_cifar10(source="bundled")


@pytest.fixture
def batches(bundle):
    return [
        (torch.stack([bundle[i][0] for i in part]), bundle.labels[part.start : part.stop])
        for part in (range(8), range(8, 16), range(16, 20))
    ]


@pytest.fixture
def process():
    return DiffusionProcess()


@pytest.fixture
def short_process():
    return DiffusionProcess(20)


@pytest.fixture
def small_model():
    """A quick network whose last layer already says something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ConditionalUNet(num_steps=20, channels=(16, 32), emb_dim=32)
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture(scope="session")
def made_up():
    """A small set in both published forms."""
    from tests.support.small_set import (
        in_both_forms,  # it needs torchvision, which takes a second to import
    )

    return in_both_forms()


@pytest.fixture
def no_npm(monkeypatch):
    monkeypatch.setattr(download.shutil, "which", lambda _: None)


@pytest.fixture
def offline(monkeypatch, made_up, no_npm):
    """No server answers, and npm is not there."""
    from tests.support.small_set import mirrors

    mirrors(monkeypatch, made_up, "http://127.0.0.1:9/x")  # nobody listens on the discard port
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(sources, "failures", {})
