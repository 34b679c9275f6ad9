"""What is remembered: Spec, Undefined, Measurement, Finding; frozen, JSON-able, no torch."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fukusen.errors import CallError

Scalar = None | bool | int | float | str
Severity = Literal["low", "medium", "high"]
Scope = Literal["model", "image"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high")


@dataclass(frozen=True)
class Undefined:
    """There is no such number (or map), and this is why.

    Args:
        reason: one clause in plain words, without a full stop.
    """

    reason: str


Value = float | Undefined


@dataclass(frozen=True)
class Spec:
    """A registered thing as data: its name and its parameters, enough to build it again.

    Args:
        name: the registered name.
        parameters: the values of its fields, sorted by name.

    Example:
        >>> str(Spec.of("occlusion", grid=7))
        'occlusion(grid=7)'
    """

    name: str
    parameters: tuple[tuple[str, Scalar], ...] = ()

    @classmethod
    def of(cls, name: str, **parameters: Scalar) -> Spec:
        """A spec from keyword arguments."""
        return cls(name, tuple(sorted(parameters.items())))

    @classmethod
    def parse(cls, text: str) -> Spec:
        """The spec that ``str`` wrote: a name, or a name with parameters in brackets.

        Raises:
            CallError: it is neither.

        Example:
            >>> Spec.parse("occlusion(grid=7, fill='zero')") == Spec.of("occlusion", grid=7, fill="zero")
            True
        """
        name, bracket, inside = text.strip().partition("(")
        if not bracket:
            return cls(name)
        try:
            call = ast.parse(f"f({inside}", mode="eval").body
            if isinstance(call, ast.Call) and not call.args and all(one.arg for one in call.keywords):
                values = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
                if all(isinstance(value, Scalar) for value in values.values()):
                    return cls.of(name, **values)
        except (SyntaxError, ValueError):
            pass  # said below, like every other text that is no spec
        raise CallError(
            f"{text!r} is neither a name nor a name with parameters, such as name(size=7, fill='zero'). "
            "Numbers, texts in quotes, True, False and None can be parameters."
        )

    def as_json(self) -> dict[str, Any]:
        """The spec as a JSON-able dict with the keys ``name`` and ``parameters``."""
        return {"name": self.name, "parameters": dict(self.parameters)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Spec:
        """The spec that ``as_json`` wrote."""
        return cls.of(data["name"], **data["parameters"])

    def __str__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.parameters)
        return f"{self.name}({inside})" if inside else self.name


def digest_of(data: object, length: int = 16) -> str:
    """A short name for JSON-able data that is the same on every machine.

    Args:
        data: anything ``json.dumps`` takes.
        length: how many hexadecimal digits of the SHA-256 to keep.

    Returns:
        Lower-case hexadecimal digits.
    """
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True)
class Measurement:
    """One number (or the reason why there is none) about one image, or about the model.

    Args:
        check: the check or agreement that measured it.
        value: the number, or ``Undefined`` with its reason.
        item: the image's item name; None when it is about the model itself.
        method: the method whose map was measured, where one was.
        score: the score of that map, where one was.
        against: what the map was compared with, where it was compared.
        layer: where in the network, where that matters (a layer's name or ``"input"``).
    """

    check: str
    value: Value
    item: str | None = None
    method: str | None = None
    score: str | None = None
    against: str | None = None
    layer: str | None = None


@dataclass(frozen=True)
class Finding:
    """A measurement out of its bounds, said in words that a person can act on.

    Args:
        check: the check that measured it.
        scope: whether it speaks of the whole model or of one image.
        severity: ``low``, ``medium`` or ``high``.
        value: what was measured.
        bound: the bound that it broke.
        claim: the finding in plain words, one or two sentences.
        item: the image's item name, for scope ``image``.
        method: the method concerned, where only one is.
        score: the score concerned, where only one is.
        priority: how early a person should look at it; larger is sooner, 0 to 1.
        evidence: further JSON-able facts (counts, quantiles, places).
    """

    check: str
    scope: Scope
    severity: Severity
    value: float
    bound: float
    claim: str
    item: str | None = None
    method: str | None = None
    score: str | None = None
    priority: float = 0.0
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The finding as it stands in audit.json."""
        return {**asdict(self), "evidence": dict(self.evidence)}


@dataclass(frozen=True)
class Item:
    """One picture that an audit was asked to look at.

    Args:
        name: unique within the audit: the path relative to the folder asked for, with forward slashes.
        path: where the file is.
        label: the true class or folder name, where one is known.
    """

    name: str
    path: str
    label: str | None = None


@dataclass(frozen=True)
class ItemResult:
    """What became of one picture.

    Args:
        item: the picture.
        key: digest of the file's bytes; a changed file is another picture.
        status: ``audited`` or ``failed``.
        reason: why it failed; empty when it did not.
        predicted: index of the predicted class; None when failed.
        predicted_name: that class's name.
        probability: the model's probability for it, 0 to 1.
        thumbnail: the picture as the network saw it (cropped, at most 224 pixels a side), as WebP bytes.
    """

    item: Item
    key: str
    status: Literal["audited", "failed"]
    reason: str = ""
    predicted: int | None = None
    predicted_name: str | None = None
    probability: float | None = None
    thumbnail: bytes | None = None
