"""Weights from files that cannot run code: safetensors, and checkpoints that torch loads with ``weights_only``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fukusen.errors import ModelError
from fukusen.models.reasons import reason

Weights = dict[str, Tensor]
_NESTS = ("state_dict", "model_state_dict", "model", "net", "ema")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
# Endings of files that hold a program, and of those that may hold one or weights alone.
RUNNING = (".pt2", ".ts", ".torchscript", ".pkl", ".pickle")
PICKLED = (".pt", ".pth", ".ckpt", ".bin")
_TRUST = "Where you trust whoever made the file, say --trust (fukusen.load(..., trust=True))."


def remedy_for(spec: str) -> str | None:
    """What to do when that is given where a model is meant; None when it looks like nothing that we know."""
    ending = Path(spec).suffix.lower()
    if spec.lower().startswith("hf-hub:"):
        return f"Say hf:{spec.partition(':')[2]}, or timm:{spec} for a model of timm's."
    if ending in RUNNING:
        return (
            f"Files of the kind {ending} can run code when they are loaded. Save the weights as safetensors instead, "
            f"and name their architecture: timm:NAME with --weights (weights=...). {_TRUST}"
        )
    if ending in (".safetensors", *PICKLED):
        return (
            "It holds weights but no architecture: name one, such as timm:NAME or model.py:function, and give the file "
            "with --weights (weights=...)."
            if _holds_weights(Path(spec))
            else "It holds more than weights, or is damaged: loading it could run code, so it was not loaded. Save its "
            f"state_dict as safetensors, and name the architecture: timm:NAME with --weights (weights=...). {_TRUST}"
        )
    if ending == ".py":
        return f"Name the function in it that returns the network, as in {spec}:function."
    return None


def _holds_weights(file: Path) -> bool:
    """Whether a file holds nothing but weights, as far as can be told without running code; so does one that is not."""
    if not file.is_file():
        return True
    try:
        load_tensors(file)
    except ModelError:
        return False
    return True


def load_tensors(file: str | Path) -> Weights:
    """The named tensors in a weights file, with the wrappings of training loops taken off.

    Args:
        file: safetensors, or a checkpoint that ``torch.load`` reads with ``weights_only=True``.

    Raises:
        ModelError: no such file, not such a file, or one that would have to run code.
    """
    path = Path(file)
    if not path.is_file():
        raise ModelError(f"There is no weights file {str(path)!r}.")
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"The file {str(path)!r} is not valid safetensors: {reason(error)}.") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"The weights file {str(path)!r} cannot be read: {reason(error)}.") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise ModelError(
            f"The file {str(path)!r} holds more than weights, or is damaged: loading it could run code, so it was not "
            f"loaded. Save the state_dict alone, best as safetensors. (torch says: {_first_sentence(error)}.)"
        ) from error
    return _state_dict(content, path)


def _first_sentence(error: Exception) -> str:
    return reason(error).split(". ")[0].split(" Please ")[0]


def _state_dict(content: object, path: Path) -> Weights:
    while isinstance(content, Mapping):
        inner = next((content[name] for name in _NESTS if isinstance(content.get(name), Mapping)), None)
        if not inner:
            break
        content = inner
    found = content.items() if isinstance(content, Mapping) else ()
    weights = {str(name): value for name, value in found if isinstance(value, Tensor)}
    if not weights:
        raise ModelError(f"The file {str(path)!r} holds no named weights. Save the network's state_dict().")
    return weights


def _fitting(weights: Weights, names: set[str]) -> Weights:
    """The weights under the network's own names, without the prefixes that training loops have put before all."""
    best = weights
    while prefix := next((one for one in _PREFIXES if all(name.startswith(one) for name in weights)), None):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
        if len(names & set(weights)) > len(names & set(best)):
            best = weights
    return best


def _placed(weights: Weights, net: nn.Module, file: str | Path) -> None:
    own = net.state_dict()
    # Checkpoints from before torch 0.4.1 do not count batches; the count changes nothing in evaluation mode.
    missing = sorted(name for name in set(own) - set(weights) if not name.endswith("num_batches_tracked"))
    spare = sorted(set(weights) - set(own))
    wrong = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or spare or wrong:
        parts = [("missing", missing), ("unknown", spare), ("of another shape", wrong)]
        told = "; ".join(f"{len(names)} {what} ({', '.join(names[:3])})" for what, names in parts if names)
        raise ModelError(
            f"The weights in {str(file)!r} do not fit the architecture: {told}. Name the architecture that they were "
            "trained with."
        )
    net.load_state_dict(weights)


def read_weights(file: str | Path, net: nn.Module) -> None:
    """Load a weights file into a network that is ours; every tensor must find its place.

    Raises:
        ModelError: the weights do not fit the architecture; the message names the first misfits.
    """
    _placed(_fitting(load_tensors(file), set(net.state_dict())), net, file)


def filled(make: Callable[..., nn.Module], file: str | Path) -> tuple[nn.Module, bool]:
    """An architecture with the weights in a file, and with as many classes as they have.

    Args:
        make: the architecture's constructor, which takes ``num_classes``.
        file: the weights.

    Returns:
        The network, and whether it has the architecture's usual number of classes.

    Raises:
        ModelError: the weights do not fit the architecture.
    """
    net = make()
    weights = _fitting(load_tensors(file), set(net.state_dict()))
    count = class_count(weights, net)
    if count is not None:
        net = make(num_classes=count)
    _placed(weights, net, file)
    return net, count is None


def class_count(weights: Weights, net: nn.Module) -> int | None:
    """How many classes the weights were trained for, where the last matrix differs from the network's in rows only."""
    name, value = [(name, value) for name, value in net.state_dict().items() if value.dim() >= 2][-1]
    theirs = weights.get(name)
    if theirs is None or theirs.shape[1:] != value.shape[1:] or theirs.shape[0] == value.shape[0]:
        return None
    return int(theirs.shape[0])
