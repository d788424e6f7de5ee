"""What a trial works with: an answer that is asked with care, and inputs drawn from a seed."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn

from cdiff_helpers.validation import format_value

GAP = "There is still a gap here: write your answer first."


class Wrong(Exception):
    """What is wrong with an answer, in a sentence for its author.

    `stop` says it in a form that is the same wherever the trial runs, to tell known mistakes by.
    """

    def __init__(self, sentence: str, stop: str):
        super().__init__(sentence)
        self.stop = stop


class Draw:
    """Inputs from a seed: the same on every platform, whatever torch's version."""

    def __init__(self, *seeds: int):
        self.rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seeds)))

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number between low and high."""
        return low + (high - low) * float(self.rng.random())

    def uniform(self, *shape: int) -> Tensor:
        """Numbers between 0 and 1: float64."""
        return torch.from_numpy(self.rng.random(shape))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers: float64."""
        return torch.from_numpy(self.rng.standard_normal(shape))

    def labels(self, count: int, classes: int = 10) -> Tensor:
        """Whole numbers in 0 … classes - 1: int64 (count,)."""
        return torch.from_numpy(self.rng.integers(0, classes, count))

    def alpha_bar(self, num_steps: int) -> Tensor:
        """A table ᾱ that falls from almost 1 to almost 0: float64 (num_steps,)."""
        steps = 0.2 + self.uniform(num_steps)
        return torch.exp(-6 * (steps.cumsum(0) / steps.sum()) ** 2)

    def generator(self) -> torch.Generator:
        """A generator for an answer that draws at random itself."""
        return torch.Generator().manual_seed(self.whole(0, 2**31 - 1))


class Answer:
    """An answer as a trial asks it: whatever goes wrong in it becomes `Wrong`."""

    def __init__(self, value):
        if value is None or value is Ellipsis:
            raise Wrong(GAP, "gap")
        self.value = value
        self.returned: list[tuple[Tensor, Tensor]] = []  # so far, and what they were then

    def __call__(
        self, *args, shape: tuple[int, ...] | None = None, dtype: str = "float", **keywords
    ) -> Tensor:
        """What the answer returns for these arguments, as `tensor` gives it."""
        return self.tensor(self.ask(self.value, *args, **keywords), shape=shape, dtype=dtype)

    def ask(self, function: Callable, *args, nothing: bool = False, **keywords):
        """function(*args, **keywords), which may not change its arguments.

        With `nothing` it may return None.
        """
        if not callable(function):
            sentence = f"this is {format_value(function)}; expected a function, without brackets."
            raise Wrong(sentence, "no function")
        given, lists = list(tensors_in((args, keywords))), [a for a in args if isinstance(a, list)]
        before, items = [tensor.clone() for tensor in given], [list(each) for each in lists]
        try:
            value = function(*args, **keywords)
        except (Exception, SystemExit) as error:
            if isinstance(error, NotImplementedError) and not str(error):  # torch's have a text
                raise Wrong(GAP, "gap") from error
            sentence = f"your function raised {one_line(error)}"
            raise Wrong(sentence, f"raised {type(error).__name__}") from error
        if not all(map(same, before, given)):
            sentence = "your function changes a tensor that it was given. Work on a new one."
            raise Wrong(sentence, "changes its input")
        if [list(map(id, each)) for each in items] != [list(map(id, each)) for each in lists]:
            raise Wrong("your function changes a list that it was given.", "changes a list")
        if not all(same(*pair) for pair in self.returned):
            sentence = "your function changes what it has returned before: return a new tensor."
            raise Wrong(sentence, "changes its result")
        self.returned += [(tensor, tensor.clone()) for tensor in tensors_in(value)]
        if value is None and not nothing:
            raise Wrong("your function returns None. Is there a return at its end?", "None")
        return value

    def several(self, count: int, *args, **keywords) -> tuple:
        """What the answer returns for these arguments, as that many values."""
        values = self.ask(self.value, *args, **keywords)
        if not isinstance(values, tuple | list | Tensor) or len(values) != count:
            sentence = f"you return {format_value(values)}; expected {count} values."
            raise Wrong(sentence, f"not {count} values")
        return tuple(values)

    def tensor(
        self, value, *, shape: tuple[int, ...] | None = None, dtype: str = "float"
    ) -> Tensor:
        """A returned value as a finite float64 tensor of that shape, gradients kept.

        `dtype` is what it has to hold: "float" (any numbers), "whole" (an integer type) or "uint8".
        """
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            sentence = f"you return {format_value(value)}; expected a tensor or numbers."
            if hasattr(value, "indices"):
                sentence += " What sorts or finds extremes returns values and indices: take one."
            raise Wrong(sentence, f"returns {type(value).__name__}") from error
        whole = not value.is_floating_point() and not value.is_complex()
        fits = {"float": not value.is_complex(), "whole": whole and value.dtype != torch.bool}
        if not fits.get(dtype, str(value.dtype) == f"torch.{dtype}"):
            kind = {"whole": "whole numbers", "float": "real numbers"}.get(dtype, dtype)
            sentence = f"you return numbers of type {str(value.dtype)[6:]}; expected {kind}."
            raise Wrong(sentence, f"type {str(value.dtype)[6:]}")
        if shape is not None and tuple(value.shape) != tuple(shape):
            size = tuple(shape) or "a single number"
            sentence = f"you return the shape {tuple(value.shape)}; expected {size}."
            raise Wrong(sentence, f"shape {tuple(value.shape)}")
        value = value.cpu().double()
        if not value.isfinite().all():
            sentence = "some of your values are not finite (inf or nan): is something divided by 0?"
            raise Wrong(sentence, "not finite")
        return value

    def number(self, names: tuple[str, ...] = ()) -> list[float]:
        """A predicted number, or with `names` a dict's numbers under them: [float, …]."""
        values = [self.value]
        if names:
            kind = f"expected a dict with a number for each of {', '.join(map(repr, names))}"
            if not isinstance(self.value, dict):
                raise Wrong(f"this is {format_value(self.value)}; {kind}.", "no dict")
            if unknown := [key for key in self.value if key not in names]:
                raise Wrong(f"your dict has the key {unknown[0]!r}; {kind}.", "another key")
            values = [self.value.get(name) for name in names]
        if any(value in (None, ...) for value in values if not isinstance(value, Tensor)):
            raise Wrong(GAP, "gap")
        return [one_number(value) for value in values]


def one_number(value) -> float:
    """A finite number, also numpy's or torch's; raises Wrong for anything else."""
    if isinstance(value, Tensor | np.ndarray | np.generic) and np.prod(value.shape) == 1:
        value = value.item()
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not -1e300 < value < 1e300:  # nor nan
        raise Wrong(f"this is {format_value(value)}; expected a number.", "no number")
    return float(value)


def sketch(values: Tensor, count: int = 16) -> Tensor:
    """`count` entries of a long table, evenly spaced, its ends among them."""
    return values[torch.linspace(0, len(values) - 1, count).round().long()]


def digest(name: str, value: float) -> Tensor:
    """A predicted number as 16 bytes that do not show it: float64 (16,).

    The seed is part of the name, so what is shown is of no use in marking. It keeps an answer from
    being read by accident; who wants to can try numbers until one passes.
    """
    text = f"{name}: {round(value, 6) + 0.0:.10g}"
    return torch.tensor(list(hashlib.sha256(text.encode()).digest()[:16])).double()


def gradient(value: Tensor, *parameters: Tensor) -> Tensor:
    """The gradient of a returned scalar by the parameters, flat; Wrong where none flows."""
    if not value.requires_grad:
        sentence = (
            "no gradient flows from what you return to the network's parameters: is it a plain "
            "number, detached, or computed under torch.no_grad()?"
        )
        raise Wrong(sentence, "no gradient")
    grads = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([each.flatten() for each in grads])


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same, nan included."""
    return one.shape == other.shape and bool(
        ((one == other) | (one != one) & (other != other)).all()
    )


def tensors_in(thing) -> Iterator[Tensor]:
    """The tensors that an answer is given, also in lists, dicts, frames and modules."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, np.ndarray) and thing.dtype.kind in "fiub":
        yield torch.as_tensor(thing)  # on the same memory
    elif isinstance(thing, nn.Module):
        yield from thing.state_dict().values()
    elif isinstance(thing, list | tuple):
        for each in thing:
            yield from tensors_in(each)
    elif isinstance(thing, dict) or is_dataclass(thing):
        yield from tensors_in(list((thing if isinstance(thing, dict) else vars(thing)).values()))


def one_line(error: BaseException) -> str:
    """An exception as "ValueError: its first line"."""
    line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
