"""The reference page's own code reads an audit without fukusen."""

import re
from pathlib import Path

import duckdb
import numpy as np
import pytest

from fukusen.records import Item, ItemResult, Measurement
from fukusen.store import Store

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "store.md"


def code(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    store = Store.create(Path("audit"), {"spec": "demo", "digest": "aa"})
    for name in ("a.jpg", "b.jpg"):
        result = ItemResult(Item(name, name), "k", "audited", predicted_name="cat", probability=0.5)
        store.append(
            "p", [result], [Measurement("c", 0.25, name, "lrp", "logit")], {("lrp", "logit"): np.ones((1, 7, 7))}
        )
    torn = store.folder / "store" / "parts" / "00000009-dead.measurements.parquet"
    torn.write_bytes(next(torn.parent.glob("*1-*.measurements.parquet")).read_bytes())
    return store


@pytest.mark.usefixtures("audit")
def test_the_python_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    for example in code("python"):
        exec(compile(example, str(PAGE), "exec"), {})
    said = capsys.readouterr().out
    assert re.search(r"c\s*│\s*lrp\s*│\s*logit\s*│\s*2\s*│\s*0.25\s*│\s*0.25", said)
    assert re.search(r"b.jpg\s+audited\s+cat\s+0.5", said)
    assert "lrp ['logit'] (1, 7, 7)" in said


@pytest.mark.usefixtures("audit")
def test_the_sql_example_leaves_out_parts_without_a_marker() -> None:
    (query,) = code("sql")
    assert sorted(row[0] for row in duckdb.sql(query).fetchall()) == ["a.jpg", "b.jpg"]
