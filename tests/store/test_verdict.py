"""A complete audit publishes its verdict last, and takes it back when there is more to say."""

import csv
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest

from fukusen.errors import StoreError
from fukusen.records import Finding, Item, ItemResult
from fukusen.store import Store, audit_schema


def verdict(**more: Any) -> dict[str, Any]:
    finding = Finding("shift_share", "image", "high", 0.93, 0.1, "Redrawn, 複線.", "a,b.jpg", evidence={"images": 3})
    queued = {"item": 'a,"b".jpg', "path": "/a", "priority": 0.9, "severity": "high", "reasons": ["One.", "Two;"]}
    return {
        "schema": 1,
        "status": "fail",
        "model": {"spec": "demo", "digest": "aa", "classes": 2, "head": "softmax", "layer": "_bn1"},
        "images": {"asked": 1, "audited": 1, "failed": 0},
        "panel": [
            {"method": "lrp", "score": "logit", "shift_leak": 1.0, "track": "inner", "verdict": "sound", "reasons": []}
        ],
        "findings": [finding.as_json()],
        "queue": {"open": 1, "items": [queued]},
        "environment": {"fukusen": "1", "torch": "2", "seed": 0},
        **more,
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path, {"spec": "demo", "digest": "aa"})


def test_publish_writes_the_verdict_the_queue_and_the_findings(store: Store) -> None:
    store.publish(verdict())
    assert store.verdict() == verdict()
    with (store.folder / "queue.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"image": 'a,"b".jpg', "priority": "0.9", "severity": "high", "reasons": "One.; Two;"}
        ]
    rows = pq.read_table(store.folder / "store" / "findings.parquet").to_pylist()
    assert [(row["check"], row["item"], row["value"], row["evidence"]) for row in rows] == [
        ("shift_share", "a,b.jpg", 0.93, '{"images": 3}')
    ]


def test_an_empty_queue_is_a_header(store: Store) -> None:
    store.publish(verdict(findings=[], queue={"open": 0, "items": []}))
    assert (store.folder / "queue.csv").read_text() == "image,priority,severity,reasons\n"
    assert pq.read_table(store.folder / "store" / "findings.parquet").num_rows == 0


def test_without_a_verdict_the_remedy_is_named(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        store.verdict()
    assert str(caught.value) == (
        f"The audit in {store.folder} is not complete: it has no audit.json. Run the same audit command again; it goes "
        "on from what is there."
    )


def test_new_measurements_withdraw_the_verdict(store: Store) -> None:
    store.publish(verdict())
    store.append("p", [ItemResult(Item("a", "a"), "k", "audited")], [], {})
    assert not (store.folder / "audit.json").exists()


def test_a_batch_with_nothing_to_judge_leaves_the_verdict(store: Store) -> None:
    store.publish(verdict())
    store.append("p", [ItemResult(Item("a", "a"), "k", "failed", "dark")], [], {})
    assert store.verdict() == verdict()


@pytest.mark.parametrize("left", ["{}", "[1]", '{"schema": 1, '])
def test_a_verdict_that_was_cut_short_is_said_to_be(store: Store, left: str) -> None:
    path = store.folder / "audit.json"
    path.write_text(left)
    with pytest.raises(StoreError) as caught:
        store.verdict()
    assert str(caught.value) == (
        f"{path} is not what an audit left there: it was changed or cut short. Run the same audit command again; it "
        "goes on from what is there."
    )


def test_a_verdict_with_nan_is_refused_and_the_old_one_stays(store: Store) -> None:
    store.publish(verdict())
    with pytest.raises(ValueError, match="^Out of range float values are not JSON compliant: nan$"):
        store.publish(verdict(queue={"open": 0, "items": []}, agreement={"values": [[float("nan")]]}))
    assert store.verdict() == verdict()


def test_the_schema_is_a_schema_and_takes_the_verdict() -> None:
    schema = audit_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(verdict(), schema)
    jsonschema.validate(verdict(field_added_later=1), schema)


@pytest.mark.parametrize(
    "wrong", [{"status": "ok"}, {"schema": 2}, {"panel": [{"method": "lrp"}]}, {"images": {"asked": -1}}]
)
def test_the_schema_refuses_what_is_no_verdict(wrong: dict[str, Any]) -> None:
    assert not jsonschema.Draft202012Validator(audit_schema()).is_valid(verdict(**wrong))
