"""Results and measurements survive the trip to Parquet and back."""

import math
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from fukusen.records import Item, ItemResult, Measurement, Undefined
from fukusen.store.tables import (
    ITEMS,
    MEASUREMENTS,
    items_table,
    measurements_table,
    packed,
    read_items,
    read_measurements,
    unpacked,
)

words = st.text(max_size=8)
maybe = st.none() | words
numbers = st.floats(allow_nan=False, allow_infinity=False)
measurements = st.builds(
    Measurement,
    check=words,
    value=numbers | st.builds(Undefined, words),
    item=maybe,
    method=maybe,
    score=maybe,
    against=maybe,
    layer=maybe,
)
results = st.builds(
    ItemResult,
    item=st.builds(Item, words, words, maybe),
    key=words,
    status=st.sampled_from(["audited", "failed"]),
    reason=words,
    predicted=st.none() | st.integers(0, 2**40),
    predicted_name=maybe,
    probability=st.none() | st.floats(0, 1),
    thumbnail=st.none() | st.binary(max_size=20),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(results, max_size=4))
def test_results_round_trip(given_results: list[ItemResult]) -> None:
    assert list(read_items(unpacked(packed(items_table("p", given_results)), ITEMS))) == given_results


@settings(max_examples=50, deadline=None)
@given(st.lists(measurements, max_size=4))
def test_measurements_round_trip(given_measurements: list[Measurement]) -> None:
    table = unpacked(packed(measurements_table("p", given_measurements)), MEASUREMENTS)
    assert list(read_measurements(table)) == given_measurements


def test_a_number_that_is_none_becomes_a_reason() -> None:
    values: list[Any] = [math.nan, math.inf, -math.inf]
    table = measurements_table("p", [Measurement("c", value) for value in values])
    said = [f"the check returned {value}, which is not a finite number" for value in ("nan", "inf", "-inf")]
    assert [measurement.value for measurement in read_measurements(table)] == [Undefined(reason) for reason in said]
