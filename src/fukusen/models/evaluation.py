"""The user's network in evaluation mode for as long as a pass lasts, and then exactly as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn


@dataclass
class _Held:
    """How many passes hold a module in evaluation mode, and the flag that the last of them puts back."""

    flag: bool
    passes: int = 0


_HELD: dict[nn.Module, _Held] = {}
_GUARD = threading.Lock()


def _hold(modules: list[nn.Module]) -> None:
    with _GUARD:
        for module in modules:
            held = _HELD.setdefault(module, _Held(module.training))
            held.passes += 1
            if module.training:
                module.training = False


def _let_go(modules: list[nn.Module]) -> None:
    with _GUARD:
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

    Any number of threads may hold a network, or two networks that share a part, at once: the flags go back when the
    last one lets go. ``train()`` is not called, so overridden versions of it do nothing.
    """
    modules = list(net.modules())
    _hold(modules)
    try:
        yield
    finally:
        _let_go(modules)
