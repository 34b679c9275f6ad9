"""Networks from files that can run code when they are loaded: pickles, TorchScript and exported programs."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fukusen.errors import FukusenError, ModelError
from fukusen.models.carried import PLACE, completed
from fukusen.models.factories import beside
from fukusen.models.found import Found
from fukusen.models.preprocessing import assumed_for
from fukusen.models.reasons import reason

RAN = "Code in {file} may have run when it was loaded: it was trusted (--trust, trust=True)."
IN_ONE_PIECE = (
    "A TorchScript archive is one piece: no layer in it can be read, so there are no class activation maps and no "
    "relevance maps of it."
)
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_HOLDERS = ("model", "net", "ema", "state_dict")


class Scripted(nn.Module):
    """A TorchScript archive as a network; its weights can be seen, and hooks inside it cannot be set.

    Args:
        script: what ``torch.jit.load`` returned.
        file_digest: names the file, so that two archives with the same weights and other code differ.
    """

    def __init__(self, script: torch.jit.ScriptModule, file_digest: str) -> None:
        super().__init__()
        self.pieces = (script,)  # in a tuple, where torch does not take it for a module that hooks can be set on
        self.file_digest = file_digest
        for parameter in script.parameters():
            parameter.requires_grad_(False)
        self._show()

    def _show(self) -> None:
        """The archive's own weights, under names that a module without parts can have."""
        (script,) = self.pieces
        for name, parameter in script.named_parameters():
            # A second view of the same numbers: the archive's own is no Parameter.
            self.register_parameter(name.replace(".", "/"), nn.Parameter(parameter.detach(), requires_grad=False))
        for name, buffer in script.named_buffers():
            self.register_buffer(name.replace(".", "/"), buffer)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Scripted:
        self.pieces[0]._apply(fn, recurse)
        self._show()
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> Scripted:
        return Scripted(copy.deepcopy(self.pieces[0], memo), self.file_digest)

    def forward(self, images: Tensor) -> Any:
        """Whatever the archive returns."""
        return self.pieces[0](images)


def load_trusted(file: Path) -> Found:
    """The network in a pickle, a TorchScript archive or an exported program, after running whatever it says.

    What it prints goes to stderr; modules in its folder can be imported.

    Raises:
        ModelError: there is no such file, it cannot be loaded, or there is no network in it.
    """
    if not file.is_file():
        raise ModelError(f"There is no file {str(file)!r} to load a model from.")
    reading = {"program": _program, "script": _script, "pickle": _pickled}[_kind(file)]
    try:
        with beside(file.resolve().parent), contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = reading(file)
    except FukusenError:
        raise
    except (AttributeError, ImportError) as error:
        raise ModelError(
            f"The file {str(file)!r} needs code that is not here: {reason(error)}. Put the Python file with its "
            "classes beside it, or write a file model.py with a function that returns the network, and name it as "
            "model.py:function."
        ) from error
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"The file {str(file)!r} cannot be loaded: {type(error).__name__}: {reason(error)}. Save it again with the "
            "version of torch that is installed here."
        ) from error
    return replace(found, net=found.net.eval(), notes=_notes(file, found))


def _notes(file: Path, found: Found) -> tuple[str, ...]:
    return RAN.format(file=file), *found.notes


def _kind(file: Path) -> str:
    if not zipfile.is_zipfile(file):
        return "pickle"
    with zipfile.ZipFile(file) as archive:
        inside = [name.partition("/")[2] or name for name in archive.namelist()]
    if any(name == "archive_format" or name.startswith("serialized_exported_program") for name in inside):
        return "program"
    return "script" if any(name.startswith("code/") for name in inside) else "pickle"


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _unpickled(file: Path) -> Any:
    if not zipfile.is_zipfile(file):
        with file.open("rb") as content:
            first = pickle.load(content)  # noqa: S301 - the user trusts the file
        if first != _LEGACY_MAGIC:
            return first
    return torch.load(file, map_location="cpu", weights_only=False)


def _pickled(file: Path) -> Found:
    content = _unpickled(file)
    if isinstance(content, Mapping):
        content = next((content[name] for name in _HOLDERS if isinstance(content.get(name), nn.Module)), content)
    if isinstance(content, torch.jit.ScriptModule):
        return _as_found(content, file)
    if isinstance(content, nn.Module):
        return Found(content)
    if isinstance(content, Mapping):
        raise ModelError(
            f"The file {str(file)!r} holds no network. It may hold weights: name their architecture, such as timm:NAME "
            "or model.py:function, and give the file with --weights (weights=...)."
        )
    raise ModelError(
        f"The file {str(file)!r} holds no network but {'None' if content is None else 'a ' + type(content).__name__}. "
        "Save the torch.nn.Module itself, or its weights as safetensors."
    )


def _script(file: Path) -> Found:
    return _as_found(torch.jit.load(str(file), map_location="cpu"), file)


def _as_found(script: torch.jit.ScriptModule, file: Path) -> Found:
    return Found(Scripted(script.eval(), _digest(file)), notes=(IN_ONE_PIECE,))


def _program(file: Path) -> Found:
    beside_it = {PLACE: ""}
    program = torch.export.load(file, extra_files=beside_it)
    taken = next(node for node in program.graph.nodes if node.name == program.graph_signature.user_inputs[0])
    shape = [side if isinstance(side, int) else None for side in taken.meta["val"].shape]
    if len(shape) != 4:
        raise ModelError(
            f"The program {str(file)!r} must take images of shape (b, c, h, w). It takes {len(shape)} axes."
        )
    if shape[0] is not None:
        raise ModelError(
            f"The program {str(file)!r} was exported for batches of exactly {shape[0]}. Export it from a batch of two, "
            "with an axis of any length: dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)."
        )
    net = torch.export.unflatten(program)
    for module in net.modules():
        # What export has noted about shapes is of no use any more, and cannot be copied.
        graph = getattr(module, "graph", None)
        for node in graph.nodes if isinstance(graph, torch.fx.Graph) else ():
            node.meta.clear()
    net.file_digest = _digest(file)  # type: ignore[assignment]
    preprocess, size, note = assumed_for((shape[1], shape[2], shape[3]), "An exported program")
    return completed(Found(net, preprocess, input_size=size, notes=note), beside_it[PLACE])
