"""The user's network in evaluation mode and uncompiled for as long as a pass lasts, and then exactly as it was."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass
class _Held:
    """How many passes hold a module in evaluation mode, and the flag that the last of them puts back."""

    flag: bool
    passes: int = 0


@dataclass
class _Compiled:
    """How many passes keep torch.compile's code from running, and what puts it back to work."""

    passes: int = 0
    stance: AbstractContextManager[Any] | None = None


_HELD: dict[nn.Module, _Held] = {}
_COMPILED = _Compiled()
_GUARD = threading.Lock()


def _hold(modules: list[nn.Module]) -> None:
    with _GUARD:
        # Compiled code hides its layers from hooks and modes. Nothing is compiled where the compiler was never loaded.
        if _COMPILED.passes == 0 and "torch._dynamo" in sys.modules:
            _COMPILED.stance = torch.compiler.set_stance("force_eager")
            _COMPILED.stance.__enter__()
        _COMPILED.passes += 1
        for module in modules:
            held = _HELD.setdefault(module, _Held(module.training))
            held.passes += 1
            if module.training:
                module.training = False


def _let_go(modules: list[nn.Module]) -> None:
    with _GUARD:
        _COMPILED.passes -= 1
        if _COMPILED.passes == 0 and _COMPILED.stance is not None:
            _COMPILED.stance.__exit__(None, None, None)
            _COMPILED.stance = None
        for module in modules:
            held = _HELD[module]
            held.passes -= 1
            if held.passes == 0:
                del _HELD[module]
                if module.training != held.flag:
                    module.training = held.flag


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Every module's ``training`` flag is False inside, and what it was afterwards, also after an exception.

    What ``torch.compile`` has made runs uncompiled inside, in every thread, which changes no result. Any number of
    threads may hold a network, or two networks that share a part, at once: the flags go back when the last one lets go.
    ``train()`` is not called, so overridden versions of it do nothing.
    """
    modules = list(net.modules())
    _hold(modules)
    try:
        yield
    finally:
        _let_go(modules)
