"""Functions of torch that run by a method's own rules for a while, in one thread, with the network left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]
Rule = Callable[[Function, tuple[Any, ...], dict[str, Any]], Any]
_SPACES = (torch, torch.Tensor, torch.nn.functional, torch._C._nn, torch.special)


def functions(*names: str) -> frozenset[Function]:
    """Every function of these names, wherever torch keeps it, with the operators and the ones that work in place.

    Args:
        names: as in ``torch.relu``; an operator by its plain name, ``add`` for ``+`` and ``+=``.
    """
    forms = [form for name in names for form in (name, f"{name}_", f"__{name}__", f"__r{name}__", f"__i{name}__")]
    return frozenset(getattr(space, form) for space in _SPACES for form in forms if hasattr(space, form))


def tensors(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """The tensors among the arguments of a call, also those in its lists."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from (one for one in value if isinstance(one, Tensor))


def _works_in_place(func: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    name = getattr(func, "__name__", "")
    named = (name.endswith("_") and not name.endswith("__")) or (name.startswith("__i") and name.endswith("__"))
    return named or kwargs.get("inplace") is True or (len(args) > 1 and args[-1] is True)


class Intercepted(TorchFunctionMode):
    """Within it, the functions that have a rule run as the rule says.

    A rule is given the function, its arguments and its keywords, and returns what the function is to return. It never
    sees an operation in place: it is given one that leaves its arguments alone, and its result is written where the
    network expects it.

    Args:
        rules: which function runs by which rule.
    """

    def __init__(self, rules: Mapping[Function, Rule]) -> None:
        super().__init__()
        self._rules = rules

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        rule, keywords = self._rules.get(func), kwargs or {}
        if rule is None or not any(True for _ in tensors(args, keywords)):
            return func(*args, **keywords)
        if not (args and isinstance(args[0], Tensor) and _works_in_place(func, args, keywords)):
            return rule(func, args, keywords)

        def apart(first: Tensor, *rest: Any, **more: Any) -> Any:
            return func(first.clone(), *rest, **more)

        # What the rule keeps must not be what is about to be written over.
        return args[0].copy_(rule(apart, (args[0].clone(), *args[1:]), keywords))
