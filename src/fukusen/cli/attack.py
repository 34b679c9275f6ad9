"""``fukusen attack``: which heatmaps of a model can be redrawn, with proof."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fukusen.cli import options
from fukusen.cli.output import complain, entry, results_kept_apart, show, show_json, table
from fukusen.cli.progress import Told

if TYPE_CHECKING:
    from fukusen.auditing import Budget
    from fukusen.models import Classifier
    from fukusen.verbs import RedTeam

EXAMPLES = """Examples:

  fukusen attack demo demo --out red-team
  fukusen attack module.py:factory photos/ --out red-team --scenario 'drawn_target(picture="corner")'
  fukusen attack demo demo --out red-team --scenario location --budget standard --json

Names of scenarios: fukusen list attacks. Unless said, those are played that need neither training nor a trigger.

The model is left as it is, and no manipulated copy is written unless --export is given; then its file names the
manipulation. Stopped by Ctrl-C, the same command goes on from there.
"""


def attack(
    model: options.Model,
    images: options.Images,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for the results.", show_default=False)],
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            "--scenario", metavar="NAME", help="An attack to play; repeat for more. See: fukusen list attacks"
        ),
    ] = None,
    budget: Annotated[
        str, typer.Option("--budget", metavar="quick|standard|deep", help="How much each audit computes.")
    ] = "quick",
    sample: Annotated[int, typer.Option("--sample", metavar="N", help="The most images to use.")] = 32,
    weights: options.Weights = None,
    classes: options.Classes = None,
    layer: options.Layers = None,
    head: options.HeadKind = None,
    reference: options.Reference = None,
    seed: options.Seed = 0,
    export: Annotated[
        bool,
        typer.Option("--export", metavar="", help="Also write the manipulated copies, named as such in the files."),
    ] = False,
    device: options.Device = None,
    trust: options.Trust = False,
    as_json: options.AsJson = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", metavar="", help="Say nothing on stderr but what went wrong.")
    ] = False,
) -> None:
    """Play harmless attacks on copies of a model: which of its heatmaps could be redrawn, and would an audit notice?"""
    load = partial(options.loaded, model, weights, classes, layer, head, device, trust=trust)
    try:
        with results_kept_apart(), Told(quiet, "steps") as told:
            done = _played(
                load, (images, out, scenario or None, reference), (budget, sample, seed), told, export=export
            )
    except KeyboardInterrupt:
        complain("Stopped. The same command again goes on from there.")
        raise typer.Exit(130) from None
    if as_json:
        show_json(done.result)
    else:
        _show(done)


def _played(
    load: Callable[[], Classifier],
    places: tuple[str, Path, list[str] | None, Path | None],
    measure: tuple[str, int, int],
    told: Told,
    *,
    export: bool,
) -> RedTeam:
    import fukusen
    from fukusen.auditing import BUDGETS

    (images, out, scenarios, reference), (budget, sample, seed) = places, measure
    chosen = cast("Budget", options.known("budget", budget, BUDGETS))
    return fukusen.red_team(
        load(),
        images,
        out,
        scenarios=scenarios,
        budget=chosen,
        reference=reference,
        sample=sample,
        seed=seed,
        export=export,
        progress=told,
    )


def _show(done: RedTeam) -> None:
    """One line an attack, and where the pictures are."""
    from fukusen.view.redteam import headline, lines

    show(headline(done.result))
    show("")
    heads = ("attack", "predictions", "redrawn", "most moved", "likeness", "noticed by the audit")
    show(table(heads, lines(done.result)))
    show("")
    for one in _unplayed(done.scenarios):
        entry(one["attack"], f"not played: {one['undefined']}", to=sys.stdout)
    for one in done.scenarios:
        written = one.get("exported")
        if written:
            where = written["undefined"] or f"{done.folder / written['file']} (manipulated: never deploy it)"
            entry("exported", f"{one['attack']}: {where}", to=sys.stdout)
    entry("pictures", str(done.folder / "attack.html"), to=sys.stdout)


def _unplayed(scenarios: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [one for one in scenarios if one["undefined"]]
