"""One name for a model: its weights, its code and its preprocessing; whatever changes one of them changes the name."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fukusen.models.integers import computes_in_integers
from fukusen.models.sources import Sources

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, np.generic)
# Weights and submodules are told by name elsewhere; the flags and these hooks change no output in evaluation mode.
_SKIPPED = {"training", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}
# What torch.compile leaves on a module: it computes the same.
_SKIPPED |= {"_compiled_call_impl", "_is_torch_compile"}
_MACHINERY = sys.stdlib_module_names - {"argparse", "types"} | {"torch"}
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def _tensor_bytes(value: Tensor) -> bytes:
    if value.is_quantized:
        return _integer_bytes(value)
    flat = value.detach().cpu().contiguous().reshape(-1)
    return f"{value.dtype}{tuple(value.shape)}".encode() + flat.view(torch.uint8).numpy().tobytes()


def _integer_bytes(value: Tensor) -> bytes:
    """A quantised tensor's integers, and what one of them stands for."""
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        scale = f"{value.q_scale()}{value.q_zero_point()}".encode()
    else:
        scale = _tensor_bytes(value.q_per_channel_scales()) + _tensor_bytes(value.q_per_channel_zero_points())
    return f"{value.qscheme()}".encode() + scale + _tensor_bytes(value.int_repr())


class _Parts:
    """What a network is made of, as bytes in a fixed order; nothing in it differs between two loads of one file."""

    def __init__(self) -> None:
        self._sources = Sources(self.of_value)
        self._met: dict[int, Any] = {}

    def of_value(self, value: Any) -> Iterator[bytes]:
        """What a value contributes: itself if plain, else its kind and what is in it, each thing once."""
        if isinstance(value, _PLAIN):
            yield repr(value).encode()
        elif isinstance(value, Tensor):
            yield _tensor_bytes(value)
        elif isinstance(value, np.ndarray) and value.dtype != object:
            yield f"{value.dtype}{value.shape}".encode() + value.tobytes()
        elif id(value) in self._met:
            yield b"met before"
        else:
            if not isinstance(value, tuple):
                self._met[id(value)] = value
            yield from self._of_thing(value)

    def _of_thing(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, list | tuple):
            yield from self._of_series(value)
        elif isinstance(value, set | frozenset):
            yield from sorted(b"".join(self.of_value(part)) for part in value)
        elif isinstance(value, Mapping):
            yield from self._of_series([part for pair in value.items() for part in pair])
        elif isinstance(value, nn.Module):
            yield from self.of_module(value)
        elif isinstance(value, type):
            yield value.__qualname__.encode()
            yield from self._sources.of_class(value)
        else:
            yield from self._of_callable(inspect.unwrap(value) if callable(value) else value)

    def _of_series(self, values: Any) -> Iterator[bytes]:
        yield f"{len(values)} parts".encode()
        for part in values:
            yield from self.of_value(part)

    def _of_callable(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, functools.partial):
            yield from self._of_series([value.func, value.args, value.keywords])
        elif isinstance(value, MethodType):
            yield from self._of_series([value.__func__, value.__self__])
        elif isinstance(value, FunctionType):
            yield value.__qualname__.encode()
            yield from self._sources.of_function(value)
            cells = [_content(cell) for cell in value.__closure__ or ()]
            yield from self._of_series([value.__defaults__, value.__kwdefaults__, *cells])
        else:
            yield from self._of_object(value)

    def _of_object(self, value: Any) -> Iterator[bytes]:
        """The class of an object, and its attributes unless it is the machinery of Python or torch: loggers, locks."""
        kind = type(value)
        yield kind.__qualname__.encode()
        if kind.__module__.partition(".")[0] in _MACHINERY:
            return
        yield from self._sources.of_class(kind)
        fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
        names = {field.name for field in fields} or set(getattr(value, "__dict__", {}))
        yield from self._of_series([part for name in sorted(names) for part in (name, getattr(value, name))])

    def of_module(self, net: nn.Module) -> Iterator[bytes]:
        """A network's weights by name, and the code and the plain attributes of every module in it."""
        for name, value in (*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)):
            yield name.encode()
            yield _tensor_bytes(value)
        yield from self.of_code(net)

    def of_code(self, net: nn.Module) -> Iterator[bytes]:
        """The code and the plain attributes of every module in a network."""
        for name, module in net.named_modules(remove_duplicate=False):
            yield f"{name}:{type(module).__qualname__}".encode()
            self._met[id(module)] = module
            if type(module).__module__ == "torch._dynamo.eval_frame":
                continue  # what torch.compile has put around the next module, which computes the same
            yield from self._sources.of_class(type(module))
            for attribute, value in sorted(vars(module).items()):
                if attribute not in _SKIPPED and "_hooks" not in attribute:
                    yield attribute.encode()
                    yield from self.of_value(value)
            yield from self._of_hidden(module)
            for attribute in _HOOKS:
                yield from self._of_series(
                    [hook for hook in vars(module).get(attribute, {}).values() if not passing(hook)]
                )

    def _of_hidden(self, module: nn.Module) -> Iterator[bytes]:
        """Weights and code that torch keeps out of Python's sight: those of quantised layers, and of TorchScript."""
        if computes_in_integers(module):
            held: dict[str, Any] = {}
            module._save_to_state_dict(held, "", keep_vars=True)
            yield from self.of_value(held)
        if isinstance(module, torch.jit.ScriptModule) and hasattr(module, "inlined_graph"):
            yield str(module.code).encode()


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the name is bound after the function was made, and not yet
        return None


def passing(hook: Any) -> bool:
    """Whether a hook is our own, there for one pass of another thread."""
    return getattr(hook, "__module__", "") in (
        "fukusen.models.classifier",
        "fukusen.models.looking",
        "fukusen.models.tracing",
    )


def _probe_picture() -> Image.Image:
    """The same coloured picture on every machine, with structure at every scale."""
    rows, columns = np.mgrid[0:192, 0:256]
    channels = [
        (rows * 5 + columns * 3) % 256,
        (rows * columns // 16) % 256,
        (rows // 8 * 37 + columns // 8 * 101) % 256,
    ]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def digest_model(net: nn.Module, preprocess: Callable[[Image.Image], Tensor] | None) -> str:
    """Sixteen hexadecimal digits that name a network with its preprocessing.

    Covered: every parameter and buffer; the plain attributes of every module; the text of the files that its classes
    and its forward and backward hooks come from, with the values and the files that those import from outside installed
    packages; and what the preprocessing makes of a fixed picture.

    Args:
        net: the network.
        preprocess: from a picture to a tensor; None where only tensors are explained.

    Returns:
        The first 64 bits of a SHA-256, in hexadecimal.
    """
    total = hashlib.sha256()
    for part in _Parts().of_module(net):
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
    if preprocess is not None:
        made = preprocess(_probe_picture()).detach().cpu().double()
        total.update(str(tuple(made.shape)).encode())
        total.update((made * 1024).round().numpy().tobytes())
    return total.hexdigest()[:16]


def digest_code(net: nn.Module) -> str:
    """Sixteen hexadecimal digits that name a network's code alone: other weights do not change them.

    Args:
        net: the network.

    Returns:
        The first 64 bits of a SHA-256, in hexadecimal.
    """
    total = hashlib.sha256()
    for part in _Parts().of_code(net):
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
    return total.hexdigest()[:16]
