"""The true FID, through torch-fidelity: pip install torch-fidelity.

Home: notebook 08. Its Inception network (95 MB) is downloaded once; a GPU is all but needed.
"""

import importlib.util
import pickle
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor
from torch.utils.data import Subset

from cdiff_helpers.data import ImageSet
from cdiff_helpers.data.images import to_uint8
from cdiff_helpers.runtime import pick_device


def true_fid(images: Tensor, real: ImageSet, weights: str | Path) -> float:
    """The FID of images (N, 3, 32, 32) in [0, 1] against all of `real`, by torch-fidelity.

    The statistics of `real` are computed once and kept in torch-fidelity's cache; `weights` is the
    file that `inception_weights` returns.
    """
    from torch_fidelity import calculate_metrics

    sets: list[Any] = [to_uint8(images), real.images]
    ours, theirs = (Subset(tensor, range(len(tensor))) for tensor in sets)  # one image at a time
    result = calculate_metrics(
        input1=ours,
        input2=theirs,
        input2_cache_name=f"cifar10-{real.source}-{len(real)}",
        fid=True,
        cuda=pick_device().type == "cuda",
        feature_extractor_weights_path=str(weights),
    )
    return result["frechet_inception_distance"]


def inception_weights() -> Path:
    """The Inception network's file in torch's cache, downloaded there first; it can run no code.

    Raises RuntimeError where torch-fidelity is not installed, or the file cannot be downloaded or
    holds anything but tensors: torch-fidelity itself would run what a file says.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise RuntimeError("--fid needs torch-fidelity; pip install torch-fidelity.")
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3 as URL

    path = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(URL).path).name)
    socket.setdefaulttimeout(20)  # seconds to wait for a server that is silent
    try:
        torch.hub.load_state_dict_from_url(URL, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RuntimeError(
            f"the Inception network of the FID cannot be fetched or read ({error}). Every other "
            f"score needs no network: leave --fid out. Or bring {URL} here, as {path}."
        ) from error
    finally:
        socket.setdefaulttimeout(None)
    return path
