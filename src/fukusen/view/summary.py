"""The first part of the report: what a person who must decide needs, in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fukusen.view.words import Words, number

Verdict = Mapping[str, Any]
VERDICTS = ("sound", "exposed", "manipulated", "unreliable", None)
UNDECIDED = ("not_run", "not_applicable")


@dataclass(frozen=True)
class Use:
    """The heatmaps that one rule of use holds for.

    Args:
        verdict: the panel verdict that they share, ``"none"`` for those without.
        methods: for each method its name and its scores, as people write them.
    """

    verdict: str
    methods: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Task:
    """Something to be done before the heatmaps are adopted.

    Args:
        who: who can do it.
        what: what it is, in one or two sentences.
    """

    who: str
    what: str


def meaning(verdict: Verdict, words: Words) -> list[str]:
    """What the status means, in sentences that say no more than was measured."""
    judged = Counter(row["verdict"] for row in verdict["panel"])
    said = {"pass": _pass, "attention": _attention, "fail": _fail}[verdict["status"]](verdict, judged, words)
    return [*said, words("meaning.predictions")] if verdict["status"] == "fail" else said


def _pass(verdict: Verdict, judged: Counter[str | None], words: Words) -> list[str]:
    images = words("count.images", n=verdict["images"]["audited"])
    undecided = len(_checks(verdict, *UNDECIDED))
    said = [words("meaning.pass_partly" if undecided else "meaning.pass", images=images)]
    if undecided:
        said.append(words("meaning.attention_checks", n=undecided))
    if judged["exposed"]:
        said.append(words("meaning.pass_exposed", kinds=words("count.kinds", n=judged["exposed"])))
    return said


def _attention(verdict: Verdict, judged: Counter[str | None], words: Words) -> list[str]:
    said = [words("meaning.attention")]
    if not judged["manipulated"]:
        said.append(words("meaning.attention_unmanipulated"))
    counts = {
        "meaning.attention_queue": verdict["queue"]["open"],
        "meaning.attention_checks": len(_checks(verdict, *UNDECIDED)),
        "meaning.attention_failed": verdict["images"]["failed"],
    }
    return said + [words(key, n=count) for key, count in counts.items() if count]


def _fail(verdict: Verdict, judged: Counter[str | None], words: Words) -> list[str]:
    said = [
        words(f"meaning.fail_{word}", kinds=words("count.kinds", n=judged[word]), total=len(verdict["panel"]))
        for word in ("manipulated", "unreliable")
        if judged[word]
    ]
    return said or [words("meaning.fail_other")]


def uses(verdict: Verdict, words: Words) -> list[Use]:
    """The heatmaps by what may be done with them; what may be shown comes first."""
    groups = []
    for word in VERDICTS:
        scores: dict[str, list[str]] = {}
        for row in verdict["panel"]:
            if row["verdict"] == word:
                scores.setdefault(row["method"], []).append(words.name("scores", row["score"]))
        if scores or word in ("sound", "exposed", "manipulated"):
            methods = [(words.name("methods", method), words.listing(names)) for method, names in scores.items()]
            groups.append(Use(word or "none", tuple(methods)))
    return groups


def tasks(verdict: Verdict, words: Words) -> list[Task]:
    """What is to be checked before adoption, and by whom: what the audit found open, and what no audit can close."""
    owner, reviewer, engineer = (words(f"todo.{who}") for who in ("owner", "reviewer", "engineer"))
    of_model = [finding for finding in verdict["findings"] if finding["scope"] == "model"]
    explained = {finding["check"] for finding in of_model}
    found = [Task(owner, words("todo.explain", claim=finding["claim"])) for finding in of_model]
    if verdict["queue"]["open"]:
        found.append(Task(reviewer, words("todo.queue", n=verdict["queue"]["open"])))
    for check in _checks(verdict, "exceeded"):
        if check["check"] not in explained:
            value, bound = number(check["value"]), number(check["bound"])
            found.append(Task(engineer, words("todo.exceeded", title=check["title"], value=value, bound=bound)))
    for check in _checks(verdict, "not_run"):
        reason = check["reason"] or words("page.unknown")
        found.append(Task(engineer, words("todo.not_run", title=check["title"], reason=reason)))
    if verdict["images"]["failed"]:
        found.append(Task(engineer, words("todo.failed", n=verdict["images"]["failed"])))
    if verdict["model"]["head_assumed"]:
        head = words.name("heads", verdict["model"]["head"])
        found.append(Task(engineer, words("todo.head_assumed", head=head)))
    images = words("count.images", n=verdict["images"]["audited"])
    found.append(Task(engineer, words("todo.pictures", images=images)))
    return [*found, Task(words("todo.decider"), words("todo.purpose"))]


def limits(verdict: Verdict, words: Words) -> list[str]:
    """What the audit did not look at."""
    said = [words("limits.images", images=words("count.images", n=verdict["images"]["audited"]))]
    said += _sampled(verdict, words)
    said += _rest(verdict.get("looked_at"), words)
    said.append(_tracks(verdict["panel"], words))
    for status in UNDECIDED:
        titles = [check["title"] for check in _checks(verdict, status)]
        if titles:
            said.append(words(f"limits.{status}", titles=words.listing(titles)))
    missing = [_row(row, words) for row in verdict["panel"] if row["undefined"]]
    if missing:
        said.append(words("limits.undefined", rows=words.listing(missing)))
    return [*said, words("limits.proof"), words("limits.outside")]


def key_numbers(verdict: Verdict, words: Words) -> list[tuple[str, str, str]]:
    """The few numbers worth a place of their own: what, how many, and how they divide."""
    judged = Counter(row["verdict"] for row in verdict["panel"])
    grave = Counter(finding["severity"] for finding in verdict["findings"])
    images, checks = verdict["images"], verdict["checks"]
    within = words("page.of", n=len(_checks(verdict, "within")), total=len(checks))
    verdicts = words("numbers.verdicts", **{word: judged[word] for word in VERDICTS if word})
    severities = words("numbers.severities", high=grave["high"], medium=grave["medium"], low=grave["low"])
    return [
        (words("numbers.audited"), words("page.of", n=images["audited"], total=images["asked"]), ""),
        (words("numbers.failed"), number(images["failed"]), ""),
        (words("numbers.kinds"), number(len(verdict["panel"])), verdicts),
        (words("numbers.checks"), within, ""),
        (words("numbers.findings"), number(len(verdict["findings"])), severities),
        (words("numbers.open"), number(verdict["queue"]["open"]), ""),
    ]


def _checks(verdict: Verdict, *statuses: str) -> list[Mapping[str, Any]]:
    return [check for check in verdict["checks"] if check["status"] in statuses]


def _row(row: Mapping[str, Any], words: Words) -> str:
    return f"{words.name('methods', row['method'])} ({words.name('scores', row['score'])})"


def _sampled(verdict: Verdict, words: Words) -> list[str]:
    """Methods that were computed on a part of the images, by how many."""
    audited = verdict["images"]["audited"]
    by_count: dict[int, dict[str, None]] = {}
    for row in verdict["panel"]:
        if row["undefined"] is None and row["measured_on"] < audited:
            by_count.setdefault(row["measured_on"], {})[words.name("methods", row["method"])] = None
    return [
        words("limits.sampled", methods=words.listing(list(methods)), n=count, total=audited)
        for count, methods in sorted(by_count.items(), reverse=True)
    ]


def _rest(looked: Mapping[str, Any] | None, words: Words) -> list[str]:
    """What those looked at closely say of the others."""
    if not looked or looked["low"] is None:
        return []
    more = [words("limits.followed", n=looked["followed"])] if looked["followed"] else []
    return [*more, words("limits.rest", **looked)]


def _tracks(panel: Sequence[Mapping[str, Any]], words: Words) -> str:
    by_track = {
        track: len({row["method"] for row in panel if row["track"] == track and row["undefined"] is None})
        for track in ("inner", "outer")
    }
    if all(by_track.values()):
        counts = {track: words("count.methods", n=count) for track, count in by_track.items()}
        return words("limits.both_tracks", **counts)
    return words("limits.inner_only" if by_track["inner"] else "limits.outer_only")
