"""The true FID, through torch-fidelity: pip install torch-fidelity.

Home: notebook 08. Its Inception network (95 MB) is fetched once; a GPU is all but needed.
"""

import importlib.util
import pickle
import socket
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cdiff_helpers.data import ImageSet
from cdiff_helpers.runtime import pick_device

PATIENCE = 20  # seconds that a silent server is waited for


class Pictures(Dataset):
    """uint8 pictures (N, 3, 32, 32) as torch-fidelity takes them: one tensor at a time."""

    def __init__(self, images: Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.images[i]


def true_fid(images: Tensor, real: ImageSet, weights: str | Path | None = None) -> float:
    """The FID of pictures (N, 3, 32, 32) in [0, 1] against all of `real`, by torch-fidelity.

    `weights` is the Inception network's file; None fetches it into torch's own cache. Raises
    RuntimeError where torch-fidelity is not installed or the file cannot be had. What it sees in
    `real` is computed once and kept, in torch-fidelity's cache.
    """
    weights = inception_weights(weights)
    from torch_fidelity import calculate_metrics

    result = calculate_metrics(
        input1=Pictures((images * 255).round().to(torch.uint8)),
        input2=Pictures(real.images),
        input2_cache_name=f"cifar10-{real.source}-{len(real)}",
        fid=True,
        cuda=pick_device().type == "cuda",
        feature_extractor_weights_path=str(weights),
        verbose=True,
    )
    return result["frechet_inception_distance"]


def inception_weights(path: str | Path | None = None) -> Path:
    """The Inception network's file for torch-fidelity, fetched where none is given, and checked.

    Raises RuntimeError where torch-fidelity is not installed or the file cannot be had.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise RuntimeError("--fid needs torch-fidelity; pip install torch-fidelity.")
    return checked(Path(path) if path else fetch_inception())


def fetch_inception() -> Path:
    """The Inception network's file in torch's cache, fetched where it is not there yet.

    Raises RuntimeError that says why, and how to carry it here, where it cannot be had.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3 as URL

    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(URL).path).name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = path.stem.split("-")[-1]  # its name ends in the first digits of its sha256
    try:
        with patience():
            torch.hub.download_url_to_file(URL, str(path), hash_prefix=digest)
    except (OSError, RuntimeError) as error:
        raise RuntimeError(
            f"the Inception network of the FID cannot be fetched ({error}). Every other score "
            f"needs no network: leave --fid out. Or bring {URL} here, as {path}."
        ) from error
    return path


def checked(path: Path) -> Path:
    """The path, if the file there holds tensors and nothing that could run; else RuntimeError.

    torch-fidelity itself would run whatever a file says.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RuntimeError(f"{path} is no file of weights ({error}); remove it.") from error
    return path


@contextmanager
def patience():
    """Within this block no socket waits longer than PATIENCE seconds."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
