"""A part is there whole or not at all, also when writers are killed or write at the same time."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fukusen.errors import StoreError
from fukusen.records import Item, ItemResult, Measurement
from fukusen.store import Store
from fukusen.store.files import replacing

MODEL = {"spec": "demo", "digest": "aa11"}
PLAN = "p1"

# Appends one image after another and says so once the append has returned.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from fukusen.records import Item, ItemResult, Measurement
from fukusen.store import Store

store = Store.create(Path(sys.argv[1]), {"spec": "demo", "digest": "aa11"})
for number in range(int(sys.argv[3])):
    name = f"{sys.argv[2]}-{number}"
    result = ItemResult(Item(name, name), "k", "audited", thumbnail=name.encode() * 99)
    value = Measurement("number", float(number), name)
    store.append("p1", [result], [value], {("m", "s"): np.full((1, 7, 7), float(number + 1))})
    print(name, flush=True)
"""


def writer(folder: Path, prefix: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), prefix, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def acknowledged(process: subprocess.Popen[str]) -> list[str]:
    return process.communicate(timeout=60)[0].split()


def require_whole(store: Store, names: list[str]) -> None:
    results = {result.item.name: result for result in store.results(PLAN)}
    values = {measurement.item: measurement.value for measurement in store.measurements(PLAN)}
    assert set(names) <= set(results)
    assert set(results) == set(values) == {name for name, _ in store.done(PLAN)}
    for name, result in results.items():
        number = float(name.split("-")[1])
        assert result.thumbnail == name.encode() * 99
        assert values[name] == number
        assert np.array_equal(store.maps(PLAN, name)["m", "s"], np.full((7, 7), number + 1))


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a POSIX signal")
def test_nothing_acknowledged_is_lost_and_nothing_is_torn_when_writers_are_killed(tmp_path: Path) -> None:
    chance = random.Random(7)
    names: list[str] = []
    for trial in range(4):
        process = writer(tmp_path / "audit", f"t{trial}", 10_000)
        assert process.stdout is not None
        names.append(process.stdout.readline().strip())
        time.sleep(chance.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        names += acknowledged(process)
        require_whole(Store.open(tmp_path / "audit"), names)
    assert len(names) > 4


def test_two_processes_append_at_the_same_time(tmp_path: Path) -> None:
    Store.create(tmp_path, MODEL)
    processes = [writer(tmp_path, prefix, 8) for prefix in ("left", "right")]
    names = [name for process in processes for name in acknowledged(process)]
    assert len(names) == 16
    require_whole(Store.open(tmp_path), names)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path, MODEL)
    result = ItemResult(Item("a-0", "a"), "k", "audited")
    store.append(PLAN, [result], [Measurement("c", 1.0, "a-0")], {("m", "s"): np.ones((1, 7, 7))})
    return store


def part_file(store: Store, kind: str) -> Path:
    (path,) = (store.folder / "store" / "parts").glob(f"*.{kind}")
    return path


def test_a_part_has_the_documented_files_and_no_other(store: Store) -> None:
    parts = store.folder / "store" / "parts"
    stem = part_file(store, "done.json").name.removesuffix(".done.json")
    kinds = ["done.json", "items.parquet", "maps.zarr.zip", "measurements.parquet"]
    assert sorted(path.name for path in parts.iterdir()) == [f"{stem}.{kind}" for kind in kinds]


@pytest.mark.parametrize("kind", ["items.parquet", "measurements.parquet", "maps.zarr.zip"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_part_with_a_cut_or_missing_file_does_not_count(store: Store, kind: str, cut: bool) -> None:
    path = part_file(store, kind)
    data = path.read_bytes()
    path.unlink()
    if cut:
        path.write_bytes(data[:-1])
    again = Store.open(store.folder)
    assert (again.done(PLAN), again.results(PLAN), again.measurements(PLAN)) == (frozenset(), (), ())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}'])
def test_a_torn_marker_does_not_count(store: Store, content: str) -> None:
    part_file(store, "done.json").write_text(content)
    assert Store.open(store.folder).done(PLAN) == frozenset()


def test_a_file_changed_afterwards_is_reported(store: Store) -> None:
    path = part_file(store, "items.parquet")
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError) as caught:
        store.results(PLAN)
    assert str(caught.value) == (
        f"The file {path} was changed after it was written (its SHA-256 differs). Put the original back, or delete "
        f"{part_file(store, 'done.json')} and run the same audit command again to measure its images anew."
    )


def test_a_file_taken_away_while_the_store_is_open_is_reported(store: Store) -> None:
    store.done(PLAN)
    path = part_file(store, "items.parquet")
    path.unlink()
    with pytest.raises(StoreError) as caught:
        store.results(PLAN)
    assert str(caught.value) == f"The file {path} cannot be read: No such file or directory. Put it back as it was."


def test_old_leftovers_go_and_young_ones_stay(store: Store) -> None:
    parts = store.folder / "store" / "parts"
    old = [parts / "00000009-dead.items.parquet", parts / ".00000009-dead.maps.zarr.zip.ab.tmp"]
    young = [parts / "00000010-alive.items.parquet", parts / ".00000010-alive.maps.zarr.zip.cd.tmp"]
    kept = set(parts.iterdir())
    for path in old + young:
        path.write_bytes(b"half")
    for path in [*old, *kept]:
        os.utime(path, (time.time() - 7200,) * 2)
    Store.open(store.folder).append(PLAN, [], [], {})
    left = set(parts.iterdir())
    assert left >= kept | set(young)
    assert left.isdisjoint(old)
    assert max(path.name for path in parts.glob("*.done.json")) > "00000011"


def test_a_full_disc_is_one_message_and_leaves_no_half_file(tmp_path: Path) -> None:
    def fill_the_disc() -> None:
        with replacing(tmp_path / "x.parquet") as temporary:
            temporary.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(StoreError) as caught:
        fill_the_disc()
    assert str(caught.value) == (
        f"The audit folder {tmp_path} cannot be written: No space left on device. Make room or choose another --out, "
        "then run the same audit command again; what is already there is kept."
    )
    assert list(tmp_path.iterdir()) == []
