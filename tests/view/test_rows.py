"""The panel's table says of every method and score what the verdict says, in as few rows as that takes."""

from typing import Any

from fukusen.view.rows import panel_rows
from fukusen.view.words import Words

WORDS = Words()


def test_every_row_of_the_panel_is_told_once_with_its_own_verdict(audit: Any) -> None:
    told = [
        (row.method, score, row.verdict, row.leak, row.images)
        for row in panel_rows(audit.verdict["panel"], WORDS)
        for score in row.scores.split(", ")
    ]
    known = [
        (
            WORDS.name("methods", row["method"]),
            WORDS.name("scores", row["score"]),
            row["verdict"],
            row["shift_leak"],
            row["measured_on"],
        )
        for row in audit.verdict["panel"]
    ]
    assert sorted(told, key=str) == sorted(known, key=str)


def test_scores_that_were_judged_alike_share_a_row(clean: Any) -> None:
    own = next(row for row in clean.verdict["panel"] if row["score"] == "log_odds")
    other = {**own, "score": "probability"}
    (shared,) = panel_rows([own, other], WORDS)
    assert shared.scores == "log-odds, probability"
    assert len(panel_rows([own, {**other, "verdict": "unreliable"}], WORDS)) == 2


def test_several_reasons_are_told_apart(clean: Any) -> None:
    row = {**clean.verdict["panel"][0], "reasons": ["one thing", "another"]}
    assert panel_rows([row], WORDS)[0].reasons == "one thing; another"


def test_why_there_is_no_map_is_told_among_the_reasons(sad: Any) -> None:
    (missing,) = [row for row in sad.verdict["panel"] if row["undefined"]]
    (told,) = [row for row in panel_rows(sad.verdict["panel"], WORDS) if row.verdict is None]
    assert told.reasons.startswith(f"No map: {missing['undefined']}.")
