"""The shift on images that the network is sure of is held against what tells classes apart on the typical image."""

from __future__ import annotations

import pytest

from fukusen.auditing.steadied import steadied
from fukusen.records import Measurement, Undefined


def measured(sizes: dict[str, float], shares: dict[str, float], layer: str = "0") -> list[Measurement]:
    told = [Measurement("telling_gradient", size, item, layer=layer) for item, size in sizes.items()]
    return [*told, *(Measurement("shift_share", share, item, layer=layer) for item, share in shares.items())]


def shares(found: list[Measurement], layer: str = "0") -> dict[str, float]:
    return {one.item: one.value for one in found if one.check == "shift_share" and one.layer == layer}


SURE = {"a": 1.0, "b": 1.0, "sure": 0.01, "c": 2.0}


def test_next_to_nothing_against_next_to_nothing_is_no_shift() -> None:
    """A common gradient of 0.05 where 1 tells the classes apart elsewhere."""
    found = shares(steadied(measured(SURE, {"a": 0.2, "b": 0.1, "sure": 5.0, "c": 0.1})))
    assert found == {"a": 0.2, "b": 0.1, "sure": pytest.approx(0.05), "c": 0.1}


def test_a_number_that_a_mark_adds_stays_as_large_as_it_is() -> None:
    """As large as on an image of which the network is not sure."""
    found = shares(steadied(measured(SURE, {"a": 0.2, "b": 40.0, "sure": 4000.0, "c": 0.1})))
    assert (found["b"], found["sure"]) == (40.0, pytest.approx(40.0))


def test_layers_are_told_apart_and_what_was_not_measured_stays() -> None:
    other = [*measured({}, {"sure": 5.0}, "1"), Measurement("added_shift", 5.0, "sure", layer="0")]
    without = Measurement("shift_share", Undefined("the logits do not depend on this layer"), "d", layer="0")
    found = steadied([*measured(SURE, {"sure": 5.0}), *other, without])
    assert shares(found, "1") == {"sure": 5.0}
    assert found[-2:] == [other[-1], without]
    assert steadied(other) == other


def test_where_nothing_tells_classes_apart_on_most_images_each_is_taken_as_it_is() -> None:
    found = shares(steadied(measured({"a": 0.0, "b": 0.0, "c": 1.0}, {"c": 3.0})))
    assert found == {"c": 3.0}
