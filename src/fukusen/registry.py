"""A name for a thing, and the thing's spec back from it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from fukusen.errors import CallError, UnknownName, require
from fukusen.records import Spec


@runtime_checkable
class Named(Protocol):
    """What a registry holds: a frozen dataclass with a class-level name and source."""

    name: ClassVar[str]
    source: ClassVar[str]


T = TypeVar("T")
_EXTENDING = threading.RLock()  # a module that is loaded may ask for names itself
C = TypeVar("C")


class Registry(Generic[T]):
    """The things of one kind by name; a name is given once and never overwritten.

    Packages add their own through the entry point group ``fukusen.<kind>s``: each entry is loaded the first
    time that the registry is asked for a name, and its module registers what it defines.

    Args:
        kind: what is registered, in the singular (``"method"``).
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, type[T]] = {}
        self._extended = False

    def register(self, thing: type[C]) -> type[C]:
        """Add a class under its ``name``; usable as a decorator.

        Raises:
            CallError: the name is taken by another class.
        """
        name: str = thing.name  # type: ignore[attr-defined]
        taken = self._things.get(name)
        if taken is not None and taken is not thing:
            raise CallError(f"The {self.kind} name {name!r} is taken by {taken.__module__}.{taken.__qualname__}.")
        self._things[name] = thing  # type: ignore[assignment]
        return thing

    def _extend(self) -> None:
        if self._extended:
            return
        with _EXTENDING:
            for entry in entry_points(group=f"fukusen.{self.kind}s"):
                entry.load()
            self._extended = True

    def names(self) -> tuple[str, ...]:
        """Every registered name, in order of registration."""
        self._extend()
        return tuple(self._things)

    def get(self, name: str) -> type[T]:
        """The class of that name.

        Raises:
            UnknownName: no such name; the message suggests the nearest.
        """
        self._extend()
        if name not in self._things:
            raise UnknownName(self.kind, name, self._things)
        return self._things[name]

    def build(self, spec: str | Spec | T) -> T:
        """The thing itself from its name, alone or with parameters in brackets, its spec, or itself.

        Raises:
            UnknownName: no such name.
            CallError: a parameter that the thing does not have, or a bad value of one.
        """
        if isinstance(spec, str):
            spec = Spec.parse(spec)
        if not isinstance(spec, Spec):
            rule = f"the name of a {self.kind}, its Spec, or the {self.kind} itself"
            require(isinstance(spec, Named), "build", self.kind, rule, spec)
            return spec
        maker: Callable[..., T] = self.get(spec.name)
        known = {field.name for field in dataclasses.fields(maker)}  # type: ignore[arg-type]
        for name, _ in spec.parameters:
            if name not in known:
                raise UnknownName(f"parameter of the {self.kind} {spec.name!r}", name, known)
        return maker(**dict(spec.parameters))


def spec_of(thing: Any) -> Spec:
    """The spec of a registered thing: its name and the values of its fields.

    Args:
        thing: an instance of a registered frozen dataclass, or what has a ``spec`` of its own.

    Returns:
        A spec from which ``Registry.build`` makes an equal thing.
    """
    own = getattr(thing, "spec", None)
    if isinstance(own, Spec):
        return own
    values = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    return Spec.of(thing.name, **values)
