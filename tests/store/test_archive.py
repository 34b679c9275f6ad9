"""One audit's folder: what goes in comes out, once, and nothing of anybody else's is touched."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fukusen.errors import CallError, StoreError
from fukusen.records import Item, ItemResult, Measurement, Undefined
from fukusen.store import Store

MODEL = {"spec": "demo", "digest": "aa11"}
PLAN = "p1"


def audited(name: str, key: str = "k", **more: Any) -> ItemResult:
    return ItemResult(Item(name, f"/photos/{name}", "cat"), key, "audited", "", 3, "cat", 0.75, b"RIFF", **more)


def failed(name: str, reason: str) -> ItemResult:
    return ItemResult(Item(name, f"/photos/{name}"), "", "failed", reason)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "audit", MODEL)


def test_an_empty_store_has_nothing_to_tell(store: Store) -> None:
    assert store.done(PLAN) == frozenset()
    assert store.results(PLAN) == ()
    assert store.measurements(PLAN) == ()
    assert store.maps(PLAN, "a.jpg") == {}


def test_what_is_appended_is_read_back_by_another_store(store: Store) -> None:
    results = (audited("a.jpg"), failed("b.jpg", "not a picture"), audited("ねこ <b>.jpg"))
    measurements = (
        Measurement("shift_share", 0.0, None, layer="_bn1"),
        Measurement("faithfulness", Undefined("the map is empty"), "a.jpg", "lrp", "logit"),
        Measurement("spearman", -0.5, "a.jpg", "lrp", "logit", against="occlusion:logit"),
    )
    signed = np.array([[[1.0, -4.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]])
    store.append(PLAN, results, measurements, {("lrp", "logit"): signed, ("cam", "logit"): Undefined("no such layer")})
    again = Store.open(store.folder)
    assert again.model == MODEL
    assert again.results(PLAN) == results
    assert again.measurements(PLAN) == measurements
    assert again.done(PLAN) == {("a.jpg", "k"), ("b.jpg", ""), ("ねこ <b>.jpg", "k")}
    maps = again.maps(PLAN, "a.jpg")
    assert maps["cam", "logit"] == Undefined("no such layer")
    assert np.array_equal(maps["lrp", "logit"], signed[0])
    assert np.array_equal(again.maps(PLAN, "ねこ <b>.jpg")["lrp", "logit"], signed[1])
    assert again.maps(PLAN, "b.jpg") == {}


def test_plans_are_kept_apart(store: Store) -> None:
    store.append("p1", [audited("a.jpg")], [Measurement("c", 1.0, "a.jpg")], {})
    store.append("p2", [audited("b.jpg")], [Measurement("c", 2.0, "b.jpg")], {})
    assert store.done("p1") == {("a.jpg", "k")}
    assert store.measurements("p2") == (Measurement("c", 2.0, "b.jpg"),)


def test_of_an_image_measured_twice_the_later_part_counts_once(store: Store) -> None:
    first = [Measurement("c", 1.0, "a.jpg"), Measurement("only_first", 1.0, "a.jpg"), Measurement("d", 1.0)]
    store.append(PLAN, [audited("a.jpg"), audited("b.jpg")], first, {("m", "s"): np.ones((2, 1, 1))})
    again = [Measurement("c", 2.0, "a.jpg"), Measurement("d", 2.0)]
    store.append(PLAN, [audited("a.jpg")], again, {("m", "s"): -np.ones((1, 1, 1))})
    assert [result.item.name for result in store.results(PLAN)] == ["a.jpg", "b.jpg"]
    assert store.measurements(PLAN) == (Measurement("d", 2.0), Measurement("c", 2.0, "a.jpg"))
    assert store.maps(PLAN, "a.jpg")["m", "s"] == -1.0
    assert store.maps(PLAN, "b.jpg")["m", "s"] == 1.0


def test_a_changed_file_is_another_picture_and_its_old_measurements_do_not_count(store: Store) -> None:
    store.append(PLAN, [audited("a.jpg", "old")], [Measurement("c", 1.0, "a.jpg")], {})
    store.append(PLAN, [audited("a.jpg", "new")], [], {})
    assert store.done(PLAN) == {("a.jpg", "new")}
    assert [result.key for result in store.results(PLAN)] == ["new"]
    assert store.measurements(PLAN) == ()


def test_a_later_pass_over_measured_images_adds_to_them(store: Store) -> None:
    store.append(PLAN, [audited("a.jpg")], [Measurement("c", 1.0, "a.jpg")], {})
    store.append(PLAN, [], [Measurement("d", 2.0, "a.jpg")], {})
    assert store.measurements(PLAN) == (Measurement("c", 1.0, "a.jpg"), Measurement("d", 2.0, "a.jpg"))


def test_results_are_in_the_same_order_however_the_run_was_cut(tmp_path: Path) -> None:
    whole, cut = Store.create(tmp_path / "whole", MODEL), Store.create(tmp_path / "cut", MODEL)
    names = ["c", "a", "b"]
    whole.append(PLAN, [audited(name) for name in names], [Measurement("c", 0.5, name) for name in names], {})
    for name in names:
        cut.append(PLAN, [audited(name)], [Measurement("c", 0.5, name)], {})
    assert whole.results(PLAN) == cut.results(PLAN)
    assert whole.measurements(PLAN) == cut.measurements(PLAN)
    assert whole.results(PLAN, ["b", "unknown"]) == (audited("b"),)


def test_create_opens_what_holds_the_same_model(store: Store) -> None:
    store.append(PLAN, [audited("a.jpg")], [], {})
    assert Store.create(store.folder, {**MODEL, "spec": "written otherwise"}).done(PLAN) == {("a.jpg", "k")}


def test_create_goes_on_from_an_interrupted_create(tmp_path: Path) -> None:
    (tmp_path / "store" / "parts").mkdir(parents=True)
    (tmp_path / "store" / ".run.json.0.tmp").write_text("{")
    assert Store.create(tmp_path, MODEL).model == MODEL


def test_create_refuses_another_models_audit(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        Store.create(store.folder, {"spec": "timm:resnet18", "digest": "bb22"})
    assert str(caught.value) == (
        f"The folder {store.folder} holds an audit of another model: demo with digest aa11, not timm:resnet18 with "
        "digest bb22. Nothing was changed; choose another --out folder."
    )
    assert Store.open(store.folder).model == MODEL


def test_create_refuses_a_folder_that_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(StoreError) as caught:
        Store.create(tmp_path, MODEL)
    assert str(caught.value) == (
        f"The folder {tmp_path} is not empty and holds no audit (it has 'thesis.docx'). Nothing was changed; choose "
        "another --out folder."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_create_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError) as caught:
        Store.create(tmp_path / "out", MODEL)
    assert str(caught.value) == f"{tmp_path / 'out'} is a file, not a folder. Choose another --out folder."


def test_create_says_when_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        Store.create(tmp_path / "file" / "audit", MODEL)
    assert str(caught.value) == (
        f"The audit folder {tmp_path / 'file' / 'audit'} cannot be written: Not a directory. Make room or choose "
        "another --out, then run the same audit command again; what is already there is kept."
    )


def test_open_says_what_is_missing(tmp_path: Path) -> None:
    hint = "Name the folder that 'fukusen audit --out' was given."
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path / "absent")
    assert str(caught.value) == f"There is no folder {tmp_path / 'absent'}. {hint}"
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path)
    assert str(caught.value) == f"The folder {tmp_path} holds no audit. {hint}"


@pytest.mark.parametrize("content", ["", '{"format": 1', "[]", '{"format": 1}'])
def test_open_says_when_the_store_is_incomplete(store: Store, content: str) -> None:
    run = store.folder / "store" / "run.json"
    run.write_text(content)
    with pytest.raises(StoreError) as caught:
        Store.open(store.folder)
    assert str(caught.value) == (
        f"The audit in {store.folder} is incomplete: {run} is missing or damaged. Run the same audit command again, "
        "with a new --out folder if this message comes back."
    )


def test_open_refuses_a_format_that_it_does_not_know(store: Store) -> None:
    (store.folder / "store" / "run.json").write_text(json.dumps({"format": 2, "model": MODEL}))
    with pytest.raises(StoreError) as caught:
        Store.open(store.folder)
    assert str(caught.value) == (
        f"The audit in {store.folder} has store format 2; this version of fukusen reads format 1. Update fukusen, or "
        "choose another folder."
    )


def test_append_refuses_an_image_twice(store: Store) -> None:
    with pytest.raises(CallError) as caught:
        store.append(PLAN, [audited("a"), audited("a", "other")], [], {})
    assert str(caught.value) == (
        "The 'results' parameter of Store.append must be one result for each image. Got ['a'] instead."
    )
    assert store.done(PLAN) == frozenset()


@pytest.mark.parametrize(
    ("maps", "rule", "got"),
    [
        (
            {("m", "s"): np.ones((2, 7, 7))},
            "arrays of shape (1, height, width), one row for each audited image",
            "(2, 7, 7)",
        ),
        ({("m", "s"): np.ones((7, 7))}, "arrays of shape (1, height, width), one row for each audited image", "(7, 7)"),
        (
            {("m", "s"): np.ones((1, 7, 7)), ("m", "t"): np.ones((1, 8, 8))},
            "of one size for all scores of a method",
            "(1, 8, 8)",
        ),
    ],
)
def test_append_refuses_maps_that_do_not_fit(store: Store, maps: Any, rule: str, got: str) -> None:
    with pytest.raises(CallError) as caught:
        store.append(PLAN, [audited("a"), failed("b", "dark")], [], maps)
    assert str(caught.value) == f"The 'maps' parameter of Store.append must be {rule}. Got {got} instead."
    assert store.done(PLAN) == frozenset()


def test_write_text_stays_in_the_folder(store: Store) -> None:
    assert store.write_text("report.html", "<p>複線\n").read_bytes() == "<p>複線\n".encode()
    with pytest.raises(CallError) as caught:
        store.write_text("../report.html", "")
    assert str(caught.value) == (
        "The 'name' parameter of Store.write_text must be a file name without a folder. Got '../report.html' instead."
    )
