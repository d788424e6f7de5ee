"""A pretended accelerator: tensors that say cuda:0 (or mps:0), and compute on the CPU.

`with pretended("cuda", (7, 5)) as device:` finds, where there is no card, what one would refuse:
tensors of two devices in one operation, `.numpy()`, a generator of another device, float64 on MPS,
a card that is not there. `device.waits` counts by source line where the host waits for the device,
`device.ops` the operations that it launches. It has no kernels of its own, so it says nothing about
their speed, their rounding, or the types they support.
"""

import collections
import contextlib
import threading
import traceback
import types
from pathlib import Path
from unittest import mock

import torch
import torch._dynamo  # it looks at what is patched below, so it has to be there before
from torch.nn.utils import clip_grad
from torch.optim import optimizer as optimizers
from torch.overrides import TorchFunctionMode
from torch.utils import _device, _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
WAITING = {  # operations whose result the host reads
    aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default,
    aten.masked_select.default, aten.is_nonzero.default, aten._unique2.default,
}  # fmt: skip
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten._unsafe_index.Tensor}
CPU, RealGenerator = torch.device("cpu"), torch.Generator
THEIRS = (torch.__path__[0], __file__, contextlib.__file__)
current = None  # the device that is pretended at the moment


class Accelerator:
    """The pretended device: what it is, and what was seen of it."""

    def __init__(self, kind: str, capability: tuple[int, int], kernels: bool):
        self.device, self.capability, self.kernels = torch.device(kind, 0), capability, kernels
        self.waits, self.ops = collections.Counter(), collections.Counter()
        self.generators = set()  # those that draw on it, by their place in memory
        self.saved = {}  # what torch.save was given, by its place in memory

    def wait(self, what: str) -> None:
        """Note that the host waits, and for which line of ours."""
        for frame, line in traceback.walk_stack(None):
            if not frame.f_code.co_filename.startswith(THEIRS):
                self.waits[f"{Path(frame.f_code.co_filename).name}:{line} {what}"] += 1
                return

    def refuse_float64(self, dtype: torch.dtype | None) -> None:
        if self.device.type == "mps" and dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")


class DeviceTensor(torch.Tensor):
    """A tensor that says it is on the device; `elem`, on the CPU, holds its numbers."""

    @staticmethod
    def __new__(cls, elem, requires_grad=False):
        current.refuse_float64(elem.dtype)
        tensor = torch.Tensor._make_subclass(cls, elem, requires_grad)
        tensor.elem = elem
        return tensor

    device = property(lambda self: current.device)
    is_cuda = property(lambda self: current.device.type == "cuda")
    is_mps = property(lambda self: current.device.type == "mps")
    is_cpu = False

    def get_device(self):
        return 0

    def numpy(self, *_, **__):
        raise TypeError(f"can't convert {self.device} device type tensor to numpy.")

    def __array__(self, *_, **__):
        return self.numpy()

    def tolist(self):
        current.wait("tolist")
        return self.elem.tolist()

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            with torch.no_grad():
                copy = DeviceTensor(self.elem.clone())
            copy.requires_grad_(self.requires_grad)
            copy._is_param = getattr(self, "_is_param", False)
            memo[id(self)] = copy
        return memo[id(self)]

    def __reduce_ex__(self, protocol):  # torch.save writes the numbers, and the device beside them
        numbers = self.elem.detach().clone()
        current.saved[numbers.untyped_storage().data_ptr()] = numbers
        return numbers.__reduce_ex__(protocol)

    def __repr__(self, **_):
        return f"{self.elem.detach()!r} on {self.device}"

    def __format__(self, spec):
        return format(self.item(), spec) if self.dim() == 0 else repr(self)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


class GeneratorKind(type(RealGenerator)):
    def __instancecheck__(cls, value):
        return isinstance(value, RealGenerator)


class DeviceGenerator(RealGenerator, metaclass=GeneratorKind):
    """torch.Generator on the pretended device, with a state of another size than the CPU's."""

    def __new__(cls, device="cpu"):
        return RealGenerator.__new__(cls) if is_pretended(device) else RealGenerator(device)

    def __init__(self, device="cpu"):
        current.generators.add(self._cdata)

    device = property(lambda self: current.device)

    def get_state(self):
        return torch.cat([super().get_state(), torch.zeros(1, dtype=torch.uint8)])

    def set_state(self, state):
        return super().set_state(state[:-1].clone())


def is_pretended(device) -> bool:
    return device is not None and torch.device(device).type == current.device.type


def run(func, args, kwargs):
    """One operation: on the CPU, after what the device would have refused was refused."""
    if func is torch.ops.prim.device.default:
        return args[0].device
    leaves, device = tree_leaves((args, kwargs)), kwargs.get("device")
    ours = [x for x in leaves if isinstance(x, DeviceTensor)]
    others = [x for x in leaves if isinstance(x, torch.Tensor) and type(x) is not DeviceTensor]
    if device is not None and torch._C._current_autograd_node() is not None and ours:
        device = current.device  # autograd takes our tensors' options for the CPU's
    there = is_pretended(device) or (bool(ours) and device is None)
    if there or ours:
        current.ops[func.name()] += 1
    if there:
        current.refuse_float64(kwargs.get("dtype"))
        if not current.kernels and func is not aten.empty.memory_format:
            raise RuntimeError(
                "CUDA error: no kernel image is available for execution on the device"
            )
        refuse_generators(leaves)
    note_waits(func, args, ours, there)
    if func is not aten.copy_.default and func is not aten._to_copy.default:
        refuse_mixture(func, args, ours, others)
    plain = {k: v for k, v in kwargs.items() if k not in ("device", "pin_memory")}
    plain |= {} if device is None else {"device": CPU}
    args, plain = tree_map(lambda x: x.elem if isinstance(x, DeviceTensor) else x, (args, plain))
    out, known = func(*args, **plain), {id(x.elem): x for x in ours}
    if not there:
        return out
    return tree_map(lambda x: on_device(x, known) if isinstance(x, torch.Tensor) else x, out)


def on_device(x: torch.Tensor, known: dict[int, DeviceTensor]) -> DeviceTensor:
    """The tensor on the device: the one that was there already where it was changed in place."""
    if isinstance(x, DeviceTensor):
        return x
    return known[id(x)] if id(x) in known else DeviceTensor(x)


def refuse_generators(leaves) -> None:
    for each in leaves:
        if isinstance(each, RealGenerator) and each._cdata not in current.generators:
            kinds = f"Expected a '{current.device.type}' device type for generator but found"
            raise RuntimeError(f"{kinds} '{each.device.type}'")


def refuse_mixture(func, args, ours, others) -> None:
    """A number of the CPU may meet the device's tensors, an index may be copied there."""
    if func in INDEXING and ours:
        if not isinstance(args[0], DeviceTensor):
            raise RuntimeError("indices should be either on cpu or on the same device")
        others = [x for x in args[2:3] if type(x) is torch.Tensor]
    wrong = [x for x in others if x.dim() or func is aten.cat.default]
    if ours and wrong:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, "
            f"{current.device} and cpu! ({func.name()})"
        )


def note_waits(func, args, ours, there: bool) -> None:
    """The host waits for copies from and to memory that is not pinned, and for what it reads."""
    if func in (aten._to_copy.default, aten.copy_.default):
        source = args[0 if func is aten._to_copy.default else 1]
        target = there if func is aten._to_copy.default else isinstance(args[0], DeviceTensor)
        if isinstance(source, DeviceTensor) != target and not hasattr(source, "pinned"):
            current.wait("copy to the device" if target else "copy from the device")
    elif func in INDEXING and ours:
        places = [x for x in args[1] if x is not None]
        if any(type(x) is torch.Tensor or x.dtype == torch.bool for x in places):
            current.wait("index")
    elif func in WAITING and ours:
        current.wait(func.name())


class Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


class Home(torch.autograd.Function):
    """From the device to the CPU, with gradients."""

    @staticmethod
    def forward(ctx, x):
        return x.elem.detach().clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient if isinstance(gradient, DeviceTensor) else DeviceTensor(gradient)


class Names(TorchFunctionMode):
    """Calls that name a device: torch itself takes our tensors for the CPU's."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.device:
            return func(*args, **kwargs)
        default = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
        if default is not None and func in _device._device_constructors():
            kwargs |= {"device": kwargs.get("device") or default.device}  # the user's default
        places = [x for x in (*args, *kwargs.values()) if isinstance(x, str | torch.device)]
        for place in places:
            if str(place).startswith(f"{current.device.type}:") and torch.device(place).index:
                raise RuntimeError("CUDA error: invalid device ordinal")
        moved = func in (torch.Tensor.to, torch.Tensor.cpu) and isinstance(args[0], DeviceTensor)
        home = func is torch.Tensor.cpu or "cpu" in map(str, places) or plain(args[1:], kwargs)
        if moved and home:
            current.wait("copy from the device")
            dtype = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.dtype)]
            return Home.apply(args[0]).to(*dtype)
        if func is torch.Tensor.pin_memory:
            pinned = args[0].clone()
            pinned.pinned = True
            return pinned
        if func in (torch.tensor, torch.as_tensor) and is_pretended(kwargs.get("device")):
            made = func(*args, **kwargs | {"device": CPU})
            return made if isinstance(made, DeviceTensor) else made.detach().to(current.device)
        return func(*map(numbered, args), **{k: numbered(v) for k, v in kwargs.items()})


def plain(args, kwargs) -> bool:
    """Whether .to(other) was asked for with a tensor of the CPU."""
    return any(type(x) is torch.Tensor for x in (*args, *kwargs.values()))


def numbered(place):
    """The device with its number, where it was named without one."""
    named = isinstance(place, str | torch.device) and str(place) == current.device.type
    return current.device if named else place


def settings(device: Accelerator, memory: int):
    """What torch says of the device, as (owner, name, value)."""
    kind, nothing = device.device.type, lambda *_, **__: None
    types_known = [*_foreach_utils._foreach_supported_types, DeviceTensor]
    init = torch.amp.autocast_mode.autocast.__init__

    def autocast(self, device_type, *args, **kwargs):
        init(self, "cpu" if device_type == kind else device_type, *args, **kwargs)

    group = clip_grad._group_tensors_by_device_and_dtype

    def grouped(*args):  # it asks C++, which takes our tensors for the CPU's
        return {(x[0][0].device, dtype): (x, n) for (_, dtype), (x, n) in group(*args).items()}

    yield torch.amp.autocast_mode.autocast, "__init__", autocast
    for module in (clip_grad, optimizers):
        yield module, "_group_tensors_by_device_and_dtype", grouped
    location = torch.serialization.location_tag

    def tag(storage):
        return str(device.device) if storage.data_ptr() in device.saved else location(storage)

    yield torch.serialization, "location_tag", tag
    start = threading.Thread.run

    def run_pretending(thread):  # modes are a thread's own
        with Operations(), Names():
            start(thread)

    yield threading.Thread, "run", run_pretending
    yield torch, "Generator", DeviceGenerator
    yield _foreach_utils, "_foreach_supported_types", types_known
    yield optimizers, "_foreach_supported_types", types_known
    for name in ("_cuda_graph_capture_health_check", "_accelerator_graph_capture_health_check"):
        if hasattr(torch.optim.Optimizer, name):
            yield torch.optim.Optimizer, name, nothing
    if kind == "mps":
        yield torch.backends.mps, "is_available", lambda: True
        yield torch.mps, "empty_cache", nothing
        yield torch.cuda, "is_available", lambda: False
        return
    card = types.SimpleNamespace(name="Pretended", total_memory=memory)
    answers = {
        "is_available": True, "device_count": 1, "current_device": 0, "is_initialized": True,
        "get_device_capability": device.capability, "get_device_properties": card,
        "get_device_name": card.name, "get_arch_list": ["sm_75", "sm_80", "sm_90"],
        "mem_get_info": (memory, memory), "get_rng_state": torch.zeros(16, dtype=torch.uint8),
        "get_rng_state_all": [torch.zeros(16, dtype=torch.uint8)], "is_bf16_supported": True,
    }  # fmt: skip
    for name, answer in answers.items():
        yield torch.cuda, name, lambda *_, answer=answer, **__: answer
    for name in ("_lazy_init", "set_device", "empty_cache", "set_rng_state", "set_rng_state_all",
                 "manual_seed", "manual_seed_all", "reset_peak_memory_stats"):  # fmt: skip
        yield torch.cuda, name, nothing
    yield torch.cuda, "synchronize", lambda *_: device.wait("synchronize")


@contextlib.contextmanager
def pretended(kind: str, capability=(8, 0), *, memory: int = 16 * 2**30, kernels: bool = True):
    """Within the block there is a device of that kind; `kernels` False: it computes nothing."""
    global current
    current = device = Accelerator(kind, capability, kernels)
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with contextlib.ExitStack() as stack:
            for owner, name, value in settings(device, memory):
                stack.enter_context(mock.patch.object(owner, name, value))
            stack.enter_context(Operations())
            stack.enter_context(Names())
            yield device
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
        current = None
