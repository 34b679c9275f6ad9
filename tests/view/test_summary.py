"""The first part never sounds safer or worse than what was measured."""

from typing import Any

import pytest

from fukusen.view import summary
from fukusen.view.words import Words

WORDS = Words()


def said(verdict: dict[str, Any]) -> str:
    return " ".join(summary.meaning(verdict, WORDS))


def test_a_pass_is_evidence_and_names_what_could_be_redrawn(clean: Any) -> None:
    assert said(clean.verdict) == (
        "Every check of this audit ran and stayed within its bounds, on 20 images. That is evidence, not proof. It "
        "does not make every heatmap safe to show: 12 kinds of heatmap could be redrawn without changing a prediction."
    )


def test_a_pass_with_checks_that_could_not_tell_does_not_say_that_every_check_ran(clean: Any, samples: Any) -> None:
    unapplied = samples.check("shift_share", samples.checks["shift_share"][0], "not_applicable", (None, None, None), "")
    assert said({**clean.verdict, "checks": [unapplied], "panel": []}) == (
        "Every check that ran stayed within its bounds, on 20 images. That is evidence, not proof. 1 check could not "
        "tell: it did not run, or does not apply to this model."
    )


def test_attention_names_what_people_must_look_at(sad: Any) -> None:
    assert said(sad.verdict) == (
        "This audit cannot be closed by measurement alone; people have to look first. No kind of heatmap was judged to "
        "be manipulated. 2 images are waiting for a person to look at them. 3 checks could not tell: they did not run, "
        "or do not apply to this model. 3 images could not be audited."
    )


def test_a_fail_says_what_it_is_about_and_what_it_is_not(manipulated: Any) -> None:
    about = (
        "This is about the explanations. It does not say that the predictions are wrong, who changed the model, or "
        "whether anybody meant to mislead."
    )
    assert said(manipulated.verdict) == (
        "There is evidence that heatmaps of this model were redrawn while its predictions stayed as they are. It "
        f"concerns 12 kinds of heatmap of the 24 that were audited. {about}"
    )
    other = {**manipulated.verdict, "panel": [{"verdict": "sound"}]}
    assert said(other) == (
        "There is evidence that explanations of this model are manipulated or do not describe its decisions; the "
        f"findings say which. {about}"
    )


def test_every_row_of_the_panel_stands_in_exactly_one_group(audit: Any) -> None:
    listed = [
        (group.verdict, method, score)
        for group in summary.uses(audit.verdict, WORDS)
        for method, scores in group.methods
        for score in scores.split(", ")
    ]
    rows = [
        (row["verdict"] or "none", WORDS.name("methods", row["method"]), WORDS.name("scores", row["score"]))
        for row in audit.verdict["panel"]
    ]
    assert sorted(listed) == sorted(rows)


def test_groups_come_in_the_order_of_use(sad: Any) -> None:
    order = ["sound", "exposed", "manipulated", "unreliable", "none"]
    assert [group.verdict for group in summary.uses(sad.verdict, WORDS)] == order


STANDING = ["The engineer", "Whoever decides"]


def test_tasks_name_who_and_what(sad: Any, manipulated: Any) -> None:
    owner, reviewer, *_ = summary.tasks(manipulated.verdict, WORDS)
    claim = manipulated.verdict["findings"][0]["claim"]
    assert owner == summary.Task(
        "Whoever supplied the model", f"Explain this finding, or supply another model: {claim}"
    )
    assert reviewer == summary.Task(
        "A reviewer",
        "Look at the 14 images in the queue, gravest first; they are shown below and stand in queue.csv.",
    )
    assert [task.what for task in summary.tasks(sad.verdict, WORDS)[:-2]] == [
        "Look at the 2 images in the queue, gravest first; they are shown below and stand in queue.csv.",
        "Run the check “Stability”, or accept that it is missing. It did not run: the budget 'quick' leaves it out.",
        "Mend or replace the 3 images that could not be audited, then run the same command again.",
        "Confirm what turns the model's outputs into probabilities. The audit assumed: sigmoid.",
    ]


def test_what_no_audit_can_close_is_always_a_task(audit: Any) -> None:
    pictures, purpose = summary.tasks(audit.verdict, WORDS)[-2:]
    assert [pictures.who, purpose.who] == STANDING
    count = audit.verdict["images"]["audited"]
    assert pictures.what == (
        f"Confirm that these {count} images are like those that the model will meet. The result holds for them and no "
        "others."
    )
    assert purpose.what == (
        "Write down what the heatmaps will be used for, and by whom, and use only those named above as fit to be "
        "shown. An audit cannot judge a purpose."
    )


def test_a_clean_audit_leaves_only_what_no_audit_can_close(clean: Any) -> None:
    assert [task.who for task in summary.tasks(clean.verdict, WORDS)] == STANDING


def test_a_check_out_of_its_bound_without_a_finding_is_a_task(samples: Any) -> None:
    verdict = samples.verdict_of("attention", (20, 0))
    verdict["checks"][0] |= {"status": "exceeded", "value": 0.5}
    task, *_ = summary.tasks(verdict, WORDS)
    assert task == summary.Task("The engineer", "Find out why “Shift share” is out of its bound (0.5 against 0.1).")


def test_limits_name_what_was_sampled_left_out_and_not_applicable(sad: Any, clean: Any) -> None:
    assert "Occlusion: computed on 8 of 20 images only." in summary.limits(clean.verdict, WORDS)
    rest = (
        "On 8 images drawn by chance the heatmaps were held against behaviour; on 1 they point away from it. Of the 10 "
        "images that were looked at only briefly, between 0% and 53% may be like that (with 95% confidence)."
    )
    more = "2 more images were looked at as closely because they stood out at a brief look."
    said = summary.limits(clean.verdict, WORDS)
    assert said.index(rest) == said.index(more) + 1
    whole = {**clean.verdict, "looked_at": {**clean.verdict["looked_at"], "brief": 0, "low": None, "high": None}}
    assert not {rest, more} & {*summary.limits(whole, WORDS)}
    limits = summary.limits(sad.verdict, WORDS)
    assert "Not applicable to this model, and so neither passed nor failed: Shift share, Gradient truth." in limits
    assert "Did not run: Stability." in limits
    assert "Could not be computed: Grad-CAM (logit)." in limits
    assert "Whoever knows these checks can try to build a model that passes them. A pass is not proof." in limits


@pytest.mark.parametrize(
    ("track", "limit"),
    [("inner", "None was made from its behaviour alone"), ("outer", "from the behaviour of the network alone")],
)
def test_limits_say_when_only_one_track_was_walked(track: str, limit: str, samples: Any) -> None:
    verdict = samples.verdict_of("pass", (20, 0))
    verdict["panel"] = [row for row in verdict["panel"] if row["track"] == track]
    assert sum(limit in said for said in summary.limits(verdict, WORDS)) == 1


def test_key_numbers(sad: Any) -> None:
    assert summary.key_numbers(sad.verdict, WORDS) == [
        ("Images audited", "3 of 6", ""),
        ("Images that could not be audited", "3", ""),
        ("Kinds of heatmap (method and score)", "24", "21 sound, 0 exposed, 0 manipulated, 2 unreliable"),
        ("Checks within their bound", "1 of 4", ""),
        ("Findings", "2", "0 high, 0 medium, 2 low"),
        ("Images waiting for a reviewer", "2", ""),
    ]
