"""Checkpoints: all that a run needs to go on, saved on the way and loaded again.

What is loaded may be a stranger's: nothing of it runs, and no size in it is believed before the
files agree on it.
"""

import hashlib
import inspect
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from cdiff_helpers import __version__, validation
from cdiff_helpers.console import safe_print
from cdiff_helpers.runtime import pick_device
from cdiff_helpers.training import storage
from cdiff_helpers.training.interrupts import Interrupted, interrupts_held
from cdiff_helpers.training.loop import Diverged, OutOfMemory, Step, check_finite, differences
from cdiff_helpers.training.state import TrainConfig, TrainState, global_random, reseed
from cdiff_helpers.unet import ConditionalUNet

STATEFUL = ("optimizer", "scheduler", "scaler")
STOPS = (Interrupted, Diverged, OutOfMemory)  # what ends a run before its time
CODE = ("diffusion.py", "unet.py", "data/loaders.py", "training/*.py")  # what decides a run
MAX_STEPS = 100_000  # of a saved network: a hundred times DDPM's, whose tables take megabytes


def save_checkpoint(folder: str | Path, state: TrainState) -> None:
    """Save the run as `latest` in a folder, made where it is missing, and keep the one before.

    Raises OSError for a folder that cannot be written, ValueError for one that holds other files
    under a run's names, and Diverged rather than save such a run; whatever was saved there stays.
    """
    check_finite(state)
    folder, contents = storage.run_folder(folder), checkpoint_bytes(state)
    storage.refuse_other_files(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        storage.replace_latest(folder, contents)
    except OSError as error:
        size = sum(map(len, contents.values())) / 1e6
        raise OSError(
            f"the run could not be saved in {folder} ({error.strerror or error}); expected "
            f"{3 * size:.0f} MB free in a folder that can be written. Choose another folder, or "
            "make room: what was saved there before is whole."
        ) from error
    state.saved_index = state.index


def checkpoint_bytes(state: TrainState) -> dict[str, bytes]:
    """The contents of a checkpoint's files, by their names."""
    model = plain_settings(getattr(state.model, "config", None))
    training = plain_settings(asdict(state.config))
    config = {"training": training, "code": code_version(), "model": model}
    rest = {name: getattr(state, name).state_dict() for name in STATEFUL}
    rest |= {"index": state.index, "ema_updates": getattr(state.ema, "num_updates", state.index)}
    rest |= {"generator": state.generator.get_state(), "global_random": global_random()}
    rest |= {"data_order": state.data_order}
    buffer = io.BytesIO()
    torch.save(rest, buffer)
    return {
        "config.json": json.dumps(config, indent=2).encode(),
        "losses.json": json.dumps(state.losses.tolist()).encode(),
        "model.safetensors": tensor_bytes(state.model, state.index),
        "ema.safetensors": tensor_bytes(state.ema.model, state.index),
        "state.pt": buffer.getvalue(),
    }


def plain_settings(settings: Any) -> dict | None:
    """Settings as JSON gives them back, numpy's numbers as Python's; None where it is no dict."""
    text = json.dumps(settings, default=lambda value: getattr(value, "tolist", value.__str__)())
    return json.loads(text) if isinstance(settings, dict) else None


def tensor_bytes(model: nn.Module, index: int) -> bytes:
    """The model's weights as the bytes of a safetensors file that says after which update."""
    tensors = {plain(name): value.contiguous() for name, value in model.state_dict().items()}
    return save_tensors(tensors, metadata={"index": str(index)})


def plain(name: str) -> str:
    """A weight's name without the prefix that torch.compile gives whatever it wraps."""
    return name.replace("_orig_mod.", "")


def code_version() -> str:
    """The package's version, torch's, and a digest of the modules that decide how a run goes."""
    package, digest = Path(__file__).parent.parent, hashlib.sha256()
    for path in (path for pattern in CODE for path in sorted(package.glob(pattern))):
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return f"cdiff-helpers {__version__}, code {digest.hexdigest()[:12]}, torch {torch.__version__}"


def load_checkpoint(
    folder: str | Path,
    model: nn.Module | None = None,
    device: str | torch.device = "cpu",
    *,
    state_class: Callable[..., TrainState] = TrainState,
) -> TrainState:
    """The run that `save_checkpoint` wrote, ready to go on.

    Where the newest checkpoint is damaged, that is printed and the one before is used. `model` is
    needed only for a network that is not a ConditionalUNet; its weights are replaced. A
    `state_class` of one's own makes the state. Raises FileNotFoundError where there is no run, and
    ValueError where it is damaged, of another network or of a newer version.
    """
    folder, device = storage.run_folder(folder), pick_device(str(device))
    contents = storage.read_newest(folder)
    with as_written(folder):
        config, losses = (json.loads(contents[name]) for name in ("config.json", "losses.json"))
        weights = [load_tensors(contents[name]) for name in storage.WEIGHT_FILES]
        # On the CPU, wherever it was saved; the optimizer moves its own to the model's device
        rest = torch.load(io.BytesIO(contents["state.pt"]), map_location="cpu", weights_only=True)
        refuse_unknown(config, "training", TrainConfig)
        settings = TrainConfig(**config["training"])
        model = known_network(config, weights[0]) if model is None else model
        refuse_differences(config["model"], getattr(model, "config", config["model"]))
    state = state_class(model.to(device), settings)
    with as_written(folder):
        for each, tensors in zip((state.model, state.ema.model), weights):
            load_weights(each, tensors)
        restore(state, rest, losses)
    return state


def load_ema_model(folder: str | Path, device: str | torch.device = "cpu") -> ConditionalUNet:
    """The EMA model of a run, in eval mode, from `config.json` and `ema.safetensors` alone.

    Nothing else of the run need be in the folder; the two are verified where its `SHA256SUMS` is.
    Raises FileNotFoundError where they are not there, and ValueError where they are damaged or of
    another network.
    """
    folder, device = storage.run_folder(folder), pick_device(str(device))
    contents = storage.read_newest(folder, storage.SAMPLED)
    with as_written(folder):
        weights = load_tensors(contents["ema.safetensors"])
        model = known_network(json.loads(contents["config.json"]), weights)
        load_weights(model, weights)
    return model.to(device).eval().requires_grad_(False)


@contextmanager
def as_written(folder: Path) -> Iterator[None]:
    """Within this block whatever is refused or cannot be read is a ValueError with the folder."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # json, safetensors, zip and pickle each have their own
        message = f"cannot go on: {error}"
        if type(error) is not ValueError:
            wrong = f"{type(error).__name__}: {error}"
            message = f"was not written by save_checkpoint ({wrong}). Start one in another folder."
        raise ValueError(f"the run in {folder} {message}") from error


def refuse_unknown(config: dict, part: str, constructor: Callable) -> None:
    """Raise ValueError with the settings that only another version of this package knows."""
    unknown = sorted(set(config[part]) - set(inspect.signature(constructor).parameters))
    if unknown:
        raise ValueError(
            f"it has settings that this version does not know ({', '.join(unknown)}). It was saved "
            f"by {config.get('code', 'another version')!r}; this is {code_version()}. Install that "
            "version, or begin a run in another folder."
        )


def known_network(config: dict, weights: dict[str, Tensor]) -> ConditionalUNet:
    """A run's ConditionalUNet with fresh weights, whose sizes are those of the saved ones.

    Nothing is allocated before that is known: a stranger's `config.json` can name any size.
    """
    network = config["model"]
    if network is None:
        found = "it is of another network than a ConditionalUNet"
        validation.refuse(found, "that network, too", "Call load_checkpoint(folder, model).")
    refuse_unknown(config, "model", ConditionalUNet)
    validation.whole("num_steps", network["num_steps"], 1, MAX_STEPS)
    if len(network["channels"]) > len(weights):
        raise ValueError("channels has more levels than there are weights")
    with torch.device("meta"):  # the weights' shapes, without their memory
        sizes = ConditionalUNet(**network)
    load_weights(sizes, weights, assign=True)
    return ConditionalUNet(**network)


def refuse_differences(saved: dict | None, asked: Any) -> None:
    """Raise ValueError with each setting in which a saved run differs from what is asked for."""
    if different := differences(plain_settings(asked) or {}, plain_settings(saved) or {}):
        expected = "the settings it was begun with, or another folder for a new run"
        validation.refuse(f"it is another one ({different})", expected)


def load_weights(model: nn.Module, weights: dict[str, Tensor], *, assign: bool = False) -> None:
    """Put a run's weights into the network; raise ValueError where they do not fit."""
    names = {plain(name): name for name in model.state_dict()}
    weights = {names.get(plain(name), name): values for name, values in weights.items()}
    for name, _ in model.named_parameters():  # a buffer may hold infinity
        if name in weights and not weights[name].isfinite().all():
            found = f"its weights are not all finite numbers ({name})"
            validation.refuse(found, "those of a run that has not diverged", "Start a new one.")
    try:
        model.load_state_dict(weights, assign=assign)
    except RuntimeError as error:
        first = str(error).partition("\n\t")[2].partition("\n")[0]
        expected = f"those of a {type(model).__name__} with these sizes"
        validation.refuse(f"its weights are of another network ({first})", expected)


def restore(state: TrainState, rest: dict, losses: list[float]) -> None:
    """Put the rest of a checkpoint into the state, whatever device and precision it is from."""
    state.index = validation.whole("index", rest["index"], 0, state.config.num_updates)
    if len(losses) != state.index or not torch.tensor(losses).isfinite().all():
        validation.refuse(f"losses.json holds {len(losses)}", f"{state.index} finite numbers")
    state.loss_record[: state.index] = torch.tensor(losses)
    here, there = state.optimizer.state_dict(), rest["optimizer"]
    for parameter, moments in zip(state.model.parameters(), there["state"].values()):
        for value in moments.values():
            if (value.ndim and value.shape != parameter.shape) or not value.isfinite().all():
                raise ValueError("the optimizer's moments are not finite, or of other weights")
    kernels = {name: here["param_groups"][0][name] for name in ("fused", "foreach")}  # the device's
    groups = [group | kernels for group in there["param_groups"]]
    state.optimizer.load_state_dict(there | {"param_groups": groups})
    state.scheduler.load_state_dict(rest["scheduler"])
    if rest["scaler"]:  # empty where the forward pass was not in float16
        state.scaler.load_state_dict(rest["scaler"])
    state.ema.num_updates = validation.whole("ema_updates", rest["ema_updates"], 0)
    state.saved_index = state.index
    state.data_order, state.global_random = rest["data_order"], rest["global_random"]
    restore_generator(state, rest["generator"])


def restore_generator(state: TrainState, saved: Tensor) -> None:
    """Go on with the saved random stream; on another kind of device with one for this index."""
    if saved.shape == state.generator.get_state().shape:
        state.generator.set_state(saved)
    else:
        reseed(state.generator, state.config.seed, state.index)


def open_run(
    folder: str | Path,
    model: nn.Module,
    config: TrainConfig,
    *,
    state_class: Callable[..., TrainState] = TrainState,
) -> TrainState:
    """The run in the folder, ready to go on, or a new one, saved at once: for a cell run twice.

    The model's weights become the run's; `state_class` as in `load_checkpoint`. Raises ValueError
    for another run, its differences named, or others' files there, and OSError where none can be.
    """
    validation.network(model)
    folder, device = storage.run_folder(folder), next(model.parameters()).device
    if not storage.holds_run(folder):
        state = state_class(model, config)
        save_checkpoint(folder, state)  # a folder that cannot be written is found out now
        return state
    state = load_checkpoint(folder, model, device, state_class=state_class)
    asked = asdict(config)
    saved = {name: getattr(state.config, name, None) for name in asked}
    with as_written(folder):
        refuse_differences(saved | {"cuda_graphs": asked.get("cuda_graphs")}, asked)
    state.config = config  # its way of computing may be another one
    end = " It is finished." if state.index >= config.num_updates else ""
    safe_print(f"{folder} holds this run, {state.index} of {config.num_updates} updates done.{end}")
    return state


def extended(state: TrainState, num_updates: int) -> TrainState:
    """A finished run with so many updates more: a new cycle of the learning rate begins.

    Weights, EMA, AdamW's moments, random states and the data's order go on; the rate warms up and
    falls again, since the first cycle has ended near 0. Raises ValueError for an unfinished run.
    """
    num_updates, done = validation.whole("num_updates", num_updates), state.config.num_updates
    if state.index < done:
        found = f"the run has done {state.index} of {done} updates"
        validation.refuse(found, "a finished one", "Resume it to its end first.")
    config = replace(state.config, num_updates=done + num_updates, cycle_start=done)
    new = TrainState(state.model, config)
    rates = new.optimizer.state_dict()["param_groups"]
    new.optimizer.load_state_dict(state.optimizer.state_dict() | {"param_groups": rates})
    for name in ("network", "ema", "generator", "data_order", "index", "global_random"):
        setattr(new, name, getattr(state, name))
    new.loss_record[:done] = state.losses
    return new


def checkpointed(
    steps: Iterable[Step],
    state: TrainState,
    folder: str | Path,
    every_seconds: float = 60,
    *,
    go_on: str = "run the cell again, or train with --resume,",
) -> Iterator[Step]:
    """The same steps, with the run saved every so often, at the end, and when it is interrupted.

    An interrupt (Ctrl-C, Jupyter's Stop, SIGTERM) waits until the present update is whole; then the
    run is saved and Interrupted raised, a KeyboardInterrupt that says how to `go_on`. A run that
    fails within an update, diverges or runs out of memory keeps the checkpoint that it has.
    """
    every_seconds = validation.number("every_seconds", every_seconds, 0, hint=", such as 60")
    saved, failed = time.monotonic(), False
    with interrupts_held() as interrupted:
        try:
            for step in steps:
                yield step
                if interrupted():
                    raise Interrupted(number=interrupted())
                if time.monotonic() - saved >= every_seconds:
                    failed = True  # until it is saved: a full disk is not tried twice
                    save_checkpoint(folder, state)
                    saved, failed = time.monotonic(), False
        except STOPS as stop:
            raise with_resume_hint(stop, folder, state, go_on) from None
        finally:
            if state.whole and not failed:
                save_checkpoint(folder, state)


def with_resume_hint(
    stop: BaseException, folder: str | Path, state: TrainState, go_on: str
) -> BaseException:
    """The same exception, which also says what is saved in the folder and how to go on."""
    if isinstance(stop, Interrupted):
        done = f"{state.index} of {state.config.num_updates} updates"
        stop.args = (f"the run is saved in {folder} after {done}; {go_on} to go on",)
    elif state.saved_index is None:
        stop.args = (f"{stop} Nothing of it was saved in {folder} yet.",)
    else:
        stop.args = (f"{stop} The run in {folder} is as it was after {state.saved_index} updates.",)
    return stop
