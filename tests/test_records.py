"""What is remembered: frozen, comparable, and the same on every machine."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fukusen.records import SEVERITIES, Finding, Item, ItemResult, Measurement, Spec, Undefined, digest_of

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
NAMES = st.from_regex(r"[a-z][a-z_]{0,10}", fullmatch=True).filter(lambda name: name not in ("cls", "name"))
PARAMETERS = st.dictionaries(NAMES, SCALARS, max_size=4)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
RECORDS = [
    Undefined("the map is constant"),
    Spec.of("occlusion", grid=7),
    Measurement("shift_share", 0.5, "a.png"),
    Finding("shift_share", "image", "high", 0.9, 0.1, "A claim.", "a.png"),
    Item("a.png", "/in/a.png", "cat"),
    ItemResult(Item("a.png", "/in/a.png"), "k", "failed", "the file is empty"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_frozen_and_travels(record: Any) -> None:
    """It cannot be changed, and comes out of a pickle as it went in."""
    field = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, field, "changed")
    assert pickle.loads(pickle.dumps(record)) == record  # noqa: S301 - our own bytes


def test_a_spec_is_the_same_in_any_order() -> None:
    """Its parameters are sorted by name, so that equal specs are equal and hash alike."""
    one, other = Spec.of("lrp", b=2, a=1), Spec.of("lrp", a=1, b=2)
    assert one == other
    assert hash(one) == hash(other)
    assert one.parameters == (("a", 1), ("b", 2))
    assert one != Spec.of("lrp", a=1, b=3)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (Spec.of("grad_cam"), "grad_cam"),
        (Spec.of("occlusion", grid=7, fill="mean"), "occlusion(fill='mean', grid=7)"),
        (Spec.of("x", deep=None, on=True, share=0.5), "x(deep=None, on=True, share=0.5)"),
    ],
)
def test_a_spec_is_written_as_a_call(spec: Spec, text: str) -> None:
    """Without brackets where it has no parameters."""
    assert str(spec) == text


@given(NAMES, PARAMETERS)
def test_a_spec_comes_back_from_json(name: str, parameters: dict[str, Any]) -> None:
    """Through text, as it stands in audit.json."""
    spec = Spec.of(name, **parameters)
    assert Spec.from_json(json.loads(json.dumps(spec.as_json()))) == spec


def test_digests_are_those_of_every_machine() -> None:
    """Audits of today are found by those of tomorrow, so these must never change."""
    assert digest_of({"b": [1, 2.5, None], "a": "複線"}) == "e28a50103723d614"
    assert digest_of([]) == "4f53cda18c2baa0c"
    assert digest_of([], length=4) == "4f53"


@given(JSON, JSON)
def test_digests_tell_data_apart(one: Any, other: Any) -> None:
    """The same for the same JSON, and another for another."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest_of(one) == digest_of(other)) == same
    assert re.fullmatch("[0-9a-f]{16}", digest_of(one))


@given(st.dictionaries(st.text(), SCALARS, max_size=5))
def test_digests_do_not_depend_on_the_order(data: dict[str, Any]) -> None:
    """A dict that was filled in another order is the same data."""
    assert digest_of(dict(reversed(data.items()))) == digest_of(data)


def test_a_finding_is_json() -> None:
    """With every field, and its evidence as a dict of its own."""
    evidence = {"images": 3, "layer": "_bn1"}
    finding = Finding("shift_share", "model", "high", 0.9, 0.1, "A claim.", priority=0.7, evidence=evidence)
    told = finding.as_json()
    assert told == {
        "check": "shift_share",
        "scope": "model",
        "severity": "high",
        "value": 0.9,
        "bound": 0.1,
        "claim": "A claim.",
        "item": None,
        "method": None,
        "score": None,
        "priority": 0.7,
        "evidence": {"images": 3, "layer": "_bn1"},
    }
    assert json.loads(json.dumps(told)) == told
    told["evidence"]["images"] = 4
    assert finding.evidence["images"] == 3


def test_severities_go_from_least_to_most() -> None:
    """Their order is what graver means."""
    assert SEVERITIES == ("low", "medium", "high")


def test_what_is_not_known_is_none_and_never_zero() -> None:
    """A failed picture has no prediction, and a measurement of the model no picture."""
    failed = RECORDS[-1]
    assert (failed.predicted, failed.predicted_name, failed.probability, failed.thumbnail) == (None, None, None, None)
    measured = Measurement("head_mean_row", Undefined("there is no last linear layer"))
    assert (measured.item, measured.method, measured.score, measured.layer) == (None, None, None, None)
    assert measured.value == Undefined("there is no last linear layer")
