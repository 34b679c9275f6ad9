"""What a method is: a frozen dataclass whose fields are its parameters, and which holds no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, cast, runtime_checkable

from fukusen.arrays import Maps
from fukusen.errors import CallError
from fukusen.models import Classifier, Layer, layer_named
from fukusen.records import Spec, Undefined
from fukusen.registry import Registry, spec_of
from fukusen.scores import Score
from fukusen.tape import Tape

Track = Literal["inner", "outer"]
Family = Literal["cam", "gradient", "path", "relevance", "attention", "perturbation"]
Reading = Literal["positive", "magnitude"]
Explained = Maps | Undefined


@runtime_checkable
class Method(Protocol):
    """A way to make maps.

    ``track``: whether it reads the network's insides or its behaviour alone. ``reading``: which part of the signed map
    people look at. ``cost``: its passes in words. ``fits``: the networks that it can be right on, in words.
    ``single_pass``: whether it needs no pass beyond the tape's own. ``at_input``: whether it needs gradients at the
    input.

    Five facts are given only where they differ from the usual: ``leak_share``, see below; ``class_agnostic = True``
    where the maps are the same for every class and score, because no gradient of a score is read; ``homogeneous =
    False`` where a gradient k times as large does not give a map k times as large; ``keeps_positive = True`` where
    positive gradients alone are added up; and ``reads_layer``, whether the maps are read at the classifier's layer, as
    those of the family ``cam`` are.
    """

    name: ClassVar[str]
    track: ClassVar[Track]
    family: ClassVar[Family]
    reading: ClassVar[Reading]
    source: ClassVar[str]
    cost: ClassVar[str]
    fits: ClassVar[str]
    single_pass: ClassVar[bool]
    at_input: ClassVar[bool]

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """One signed map per image for each score, or why there is none.

        All scores are given at once, so that the passes they can share are shared.

        Args:
            tape: the forward pass to explain.
            scores: what about the target class is explained.

        Returns:
            For each score maps of shape (b, h, w) at native resolution, positive where the evidence speaks for the
            class; or ``Undefined``.
        """
        ...


class Methods(Registry[Method]):
    """The methods by name; ``NAME@LAYER`` is the method of that name read at that layer."""

    def build(self, spec: str | Spec | Method) -> Method:
        """The method itself from its name, its spec, or itself.

        Raises:
            UnknownName: no such name.
            CallError: a parameter that the method does not have or a bad value of one, or a layer for a method that
                reads none.
        """
        asked = Spec.parse(spec) if isinstance(spec, str) else spec
        if not isinstance(asked, Spec) or "@" not in asked.name:
            return super().build(asked)
        name, _, layer = asked.name.partition("@")
        return at_layer(super().build(Spec(name, asked.parameters)), layer)


methods = Methods("method")


@dataclass(frozen=True)
class AtLayer:
    """A method read at a layer of the user's choice, beside the same method at the classifier's own.

    Whatever is not said here is as for the method itself.

    Args:
        method: one that reads a layer.
        layer: its name in the network, as ``name`` or ``name#call``.
    """

    method: Method
    layer: str

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "method":  # copies ask for these before there is a method
            raise AttributeError(name)
        return getattr(self.method, name)

    @property
    def name(self) -> str:
        """The method's name, and the layer's behind an @."""
        return f"{self.method.name}@{self.layer}"

    @property
    def spec(self) -> Spec:
        """The method's own parameters under this name."""
        return Spec(self.name, spec_of(self.method).parameters)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """The method's maps at the layer, which the tape must keep."""
        return self.method.maps(tape.read_at(layer_named(tape.classifier, self.layer)), scores)


def at_layer(method: Method, layer: str) -> Method:
    """The method read at that layer.

    Raises:
        CallError: it reads none, or the layer has no name.
    """
    if not layer:
        raise CallError(f"The method '{method.name}@' names no layer. Say one behind the @, or leave the @ out.")
    if not reads_layer(method):
        raise CallError(f"The method {method.name!r} reads no layer that could be chosen. Leave @{layer} out.")
    return cast(Method, AtLayer(method, layer))


def reads_layer(method: Method) -> bool:
    """Whether its maps are read at the classifier's layer."""
    return bool(getattr(method, "reads_layer", method.family == "cam")) and not isinstance(method, AtLayer)


def also_at(chosen: Sequence[Method], layers: Sequence[str]) -> list[Method]:
    """The methods, and those of them that read a layer again at each of these."""
    return [*chosen, *(at_layer(method, layer) for layer in layers for method in chosen if reads_layer(method))]


def layers_of(chosen: Sequence[Method], model: Classifier) -> tuple[Layer, ...]:
    """The layers that a tape must keep for these methods: the classifier's own, and those that are named.

    Raises:
        UnknownName: the network has no layer of that name.
        CallError: the layer's output has no rows and columns.
    """
    own = [] if model.layer is None else [model.layer]
    named = [layer_named(model, method.layer) for method in chosen if isinstance(method, AtLayer)]
    return tuple(dict.fromkeys([*own, *named]))


def resolution_of(method: Method, model: Classifier) -> tuple[int, int] | None:
    """Rows and columns of the method's maps, at native resolution; None where only a forward pass tells."""
    if isinstance(method, AtLayer):
        return layer_named(model, method.layer).shape[1:]
    if method.family == "cam":
        return None if model.layer is None else model.layer.shape[1:]
    grid = getattr(method, "grid", None)
    if isinstance(grid, int):
        return grid, grid
    return None if method.family == "attention" else model.input_shape[1:]


def is_class_agnostic(method: Method | type[Method]) -> bool:
    """Whether the maps are the same for every class and score."""
    return bool(getattr(method, "class_agnostic", False))


def is_homogeneous(method: Method | type[Method]) -> bool:
    """Whether a gradient k times as large gives a map k times as large."""
    return bool(getattr(method, "homogeneous", True))


def keeps_positive(method: Method) -> bool:
    """Whether positive gradients alone are added up, so that what cancels in a sum shows."""
    return bool(getattr(method, "keeps_positive", False))


def leak_share(method: Method) -> float:
    """How much of a score's shift leak enters the method's maps.

    Returns:
        1 for most methods; 0 where no score is read, or where what is explained cancels every shift; in between where
        it cancels a part.
    """
    return 0.0 if is_class_agnostic(method) else float(getattr(method, "leak_share", 1.0))
