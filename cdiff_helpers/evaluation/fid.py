"""The true FID, through torch-fidelity: pip install torch-fidelity.

Home: notebook 08. Its Inception network (95 MB) is downloaded once; a GPU is all but needed.
"""

import importlib.util
import pickle
import socket
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from cdiff_helpers.data import ImageSet
from cdiff_helpers.data.images import to_uint8
from cdiff_helpers.runtime import pick_device

SOCKET_TIMEOUT = 20  # seconds to wait for a server that is silent


class SingleImages(TensorDataset):
    """uint8 images (N, 3, 32, 32) as torch-fidelity takes them: one tensor at a time."""

    def __getitem__(self, i: int) -> Tensor:  # type: ignore[override]
        return self.tensors[0][i]


def true_fid(images: Tensor, real: ImageSet, weights: str | Path | None = None) -> float:
    """The FID of images (N, 3, 32, 32) in [0, 1] against all of `real`, by torch-fidelity.

    The statistics of `real` are computed once and kept in torch-fidelity's cache. `weights` and
    the RuntimeErrors are `inception_weights`'.
    """
    weights = inception_weights(weights)
    from torch_fidelity import calculate_metrics

    result = calculate_metrics(
        input1=SingleImages(to_uint8(images)),
        input2=SingleImages(real.images),
        input2_cache_name=f"cifar10-{real.source}-{len(real)}",
        fid=True,
        cuda=pick_device().type == "cuda",
        feature_extractor_weights_path=str(weights),
        verbose=True,
    )
    return result["frechet_inception_distance"]


def inception_weights(path: str | Path | None = None) -> Path:
    """The Inception network's file, downloaded into torch's cache if None; it can run no code.

    Raises RuntimeError where torch-fidelity is not installed, or the file cannot be downloaded or
    holds anything but tensors: torch-fidelity itself would run what a file says.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise RuntimeError("--fid needs torch-fidelity; pip install torch-fidelity.")
    path = Path(path) if path else cached_inception()
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RuntimeError(f"{path} is no file of weights ({error}); remove it.") from error
    return path


def cached_inception() -> Path:
    """The Inception network's file in torch's cache, downloaded where it is not there yet."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3 as URL

    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(URL).path).name
    digest = path.stem.split("-")[-1]  # its name ends in the first digits of its SHA-256
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SOCKET_TIMEOUT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            torch.hub.download_url_to_file(URL, str(path), hash_prefix=digest)
    except (OSError, RuntimeError) as error:
        raise RuntimeError(
            f"the Inception network of the FID cannot be fetched ({error}). Every other score "
            f"needs no network: leave --fid out. Or bring {URL} here, as {path}."
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return path
