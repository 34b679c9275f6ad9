"""Shares of the shift on images that the network is so sure of that hardly anything tells the classes apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from fukusen.auditing.engine import TELLING
from fukusen.auditing.evidence import Numbers, middle
from fukusen.checks import ShiftShare
from fukusen.records import Measurement, Undefined


def steadied(measurements: Iterable[Measurement]) -> list[Measurement]:
    """The same measurements, with each share of the shift held against the typical image's telling gradient or its own.

    Whichever is larger counts. A number that was added to the logits is as large as what it draws over on other images;
    in an honest network that is sure of an image, both gradients are next to nothing there, and what they are to each
    other is chance: on vision transformers of two classes, ten times the median.

    Args:
        measurements: of an audit. Those of layers and images whose telling gradient was not measured stay as they are.
    """
    found = list(measurements)
    sizes: dict[str, Numbers] = defaultdict(dict)
    for one in found:
        if one.check == TELLING and not isinstance(one.value, Undefined):
            sizes[one.layer or ""][one.item or ""] = one.value
    usual = {layer: middle(numbers) or 0.0 for layer, numbers in sizes.items()}
    return [_steady(one, sizes[one.layer or ""], usual) if one.check == ShiftShare.name else one for one in found]


def _steady(one: Measurement, sizes: Numbers, usual: dict[str, float]) -> Measurement:
    size = sizes.get(one.item or "")
    if isinstance(one.value, Undefined) or size is None or size >= usual[one.layer or ""]:
        return one
    return replace(one, value=one.value * size / usual[one.layer or ""])
