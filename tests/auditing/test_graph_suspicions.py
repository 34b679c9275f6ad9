"""What the model has in it is told by kind and place, in a true sentence, and as a reason to look alone."""

from __future__ import annotations

import pytest

from fukusen.auditing.bounds import bounds_for
from fukusen.auditing.evidence import Evidence
from fukusen.auditing.graph_suspicions import graph_findings
from fukusen.auditing.suspicions import Case
from fukusen.checks.graph import KINDS, OPAQUE
from fukusen.models.tracing import ROOT
from fukusen.records import Finding, Measurement


def _findings(*measured: tuple[str, str | None, float]) -> list[Finding]:
    found = [Measurement("graph_scan", value, against=kind, layer=layer) for kind, layer, value in measured]
    return list(graph_findings(Case(Evidence(found), bounds_for(10))))


def test_nothing_found_is_no_finding() -> None:
    assert _findings(*((kind, None, 0.0) for kind in KINDS)) == []
    assert list(graph_findings(Case(Evidence([Measurement("graph_scan", OPAQUE)]), bounds_for(10)))) == []


@pytest.mark.parametrize(
    ("kind", "one", "more"),
    [
        ("stop_gradient", "one value that depends on the image is taken in without its gradient", "2 values that"),
        ("custom_backward", "one backward pass on the way to the outputs is not torch's own", "2 backward passes on"),
        ("hook", "one hook replaces what is put out or meets the gradients", "2 hooks replaces"),
        ("flat_function", "one function of what the image becomes is flat but for leaps", "2 functions of"),
        ("added_to_all", "one number that depends on the image is added to the outputs of all", "2 numbers that"),
    ],
)
def test_each_kind_is_told_with_its_module(kind: str, one: str, more: str) -> None:
    (inner, own) = _findings((kind, "body.3", 1.0), (kind, ROOT, 2.0))
    assert inner.claim.startswith(f"In the module body.3, {one}")
    assert own.claim.startswith(f"In the network's own forward, each of {more}")
    assert {found.severity for found in (inner, own)} == {"medium"}
    assert (inner.check, inner.scope, inner.item, inner.value, inner.bound) == ("graph_scan", "model", None, 1.0, 0.0)
    assert inner.evidence == {"kind": kind, "layer": "body.3", "count": 1}
    for claim in (inner.claim, own.claim):
        assert "heatmaps" in claim or "heatmap " in claim
        assert "Ask the supplier" in claim


def test_every_kind_has_words() -> None:
    assert len(_findings(*((kind, "head", 1.0) for kind in KINDS))) == len(KINDS)
