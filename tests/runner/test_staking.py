"""What a wrong decision costs puts images of costly classes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from fukusen.auditing import Found, facts_of, judge, make_plan
from fukusen.errors import CallError, UnknownName
from fukusen.models import wrap
from fukusen.records import Item, ItemResult, Measurement
from fukusen.runner import stakes_of

CLASSES = ("scratch", "crack", "none")


def test_the_largest_cost_is_one_and_the_others_follow() -> None:
    """A class that is not named costs what the cheapest one does."""
    assert stakes_of({"crack": 50, "scratch": 10}, CLASSES) == {"scratch": 0.2, "crack": 1.0, "none": 0.2}


def test_they_are_read_from_a_table(tmp_path: Path) -> None:
    """As spreadsheets write one, with a mark at the beginning and an empty line at the end."""
    table = tmp_path / "costs.csv"
    table.write_bytes(b"\xef\xbb\xbfClass,Cost\r\ncrack,4\r\nnone,1\r\n\r\n")
    assert stakes_of(table, CLASSES) == {"scratch": 0.25, "crack": 1.0, "none": 0.25}


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("crack,1\n", CallError, r"need the columns class and cost, in this order. Got \['crack', '1'\] instead"),
        ("", CallError, r"need the columns class and cost"),
        (
            "class,cost\ncrack,much\n",
            CallError,
            "Line 2 of .* must hold a class and a number. Got 'crack,much'",
        ),
        ("class,cost\ncrack\n", CallError, "Line 2 of .*Got 'crack' instead"),
        ("class,cost\ncrack,-1\n", CallError, "The cost of the class 'crack' must be a number larger than 0. Got -1.0"),
        ("class,cost\ncrack,nan\n", CallError, "must be a number larger than 0"),
        ("class,cost\ncrak,1\n", UnknownName, "no class of this model named 'crak'. Did you mean 'crack'"),
        ("class,cost\n", CallError, "No class has a cost"),
    ],
)
def test_what_is_no_such_table_is_refused(text: str, error: type[Exception], told: str, tmp_path: Path) -> None:
    table = tmp_path / "costs.csv"
    table.write_text(text)
    with pytest.raises(error, match=told):
        stakes_of(table, CLASSES)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="costs.csv cannot be read"):
        stakes_of(tmp_path / "costs.csv", CLASSES)


def test_costly_classes_come_first_in_the_queue() -> None:
    """Of the same finding, and also where the other image's is graver, as far as the costs are apart."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model = wrap(net, classes=CLASSES, input_size=(3, 16, 16), head="softmax")
    results = [
        ItemResult(Item(name, name), "key", "audited", predicted=0, predicted_name=kind, probability=0.9)
        for name, kind in [*zip(CLASSES, CLASSES, strict=True), *((f"{number}", CLASSES[2]) for number in range(37))]
    ]
    measured = [
        Measurement("track_contradiction", value, name, against="outer/log_odds")
        for name, value in zip(CLASSES, (-0.9, -0.5, 0.9), strict=True)
    ]

    def queue(**more: Any) -> list[tuple[str, float]]:
        found = Found(facts_of(model), results, measured, **more)
        return [(row["item"], row["priority"]) for row in judge(make_plan(), model, found).queue]

    plain = dict(queue())
    assert list(plain) == ["scratch", "crack"]
    weighed = queue(stakes=stakes_of({"crack": 10, "scratch": 1}, CLASSES))
    assert weighed == [("crack", plain["crack"]), ("scratch", pytest.approx(plain["scratch"] / 10, abs=1e-4))]
