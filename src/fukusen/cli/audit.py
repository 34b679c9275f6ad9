"""``fukusen audit``: the main job."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fukusen.cli import options
from fukusen.cli.output import complain, results_kept_apart, show_json
from fukusen.cli.preamble import say_understood
from fukusen.cli.progress import Told
from fukusen.cli.summary import show_summary

if TYPE_CHECKING:
    from fukusen.auditing import Budget
    from fukusen.models import Classifier
    from fukusen.verbs import Audit

EXAMPLES = """Examples:

  fukusen audit demo demo --out demo-audit
  fukusen audit module.py:factory photos/ --out audit --budget quick
  fukusen audit timm:resnet50 'photos/*/*.jpg' --weights mine.pth --out audit
  fukusen audit demo list.csv --out audit --fail-on attention --json
  fukusen audit delivered.py:factory photos/ --out audit --reference trusted-audit

Exit codes: 0 the status is better than --fail-on; 1 it is not; 2 the call, the model or the data cannot be used.

Stopped by Ctrl-C, the same command goes on from there.
"""
STATUSES = ("pass", "attention", "fail")
FAIL_ON = ("attention", "fail", "never")


def audit(
    context: typer.Context,
    model: options.Model,
    images: options.Images,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for the results.", show_default=False)],
    budget: Annotated[
        str, typer.Option("--budget", metavar="quick|standard|deep", help="How much is computed.")
    ] = "standard",
    weights: options.Weights = None,
    classes: options.Classes = None,
    layer: options.Layers = None,
    head: options.HeadKind = None,
    method: options.Methods = None,
    score: options.Scores = None,
    reference: options.Reference = None,
    stakes: options.Stakes = None,
    seed: options.Seed = 0,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="How many images are taken at once.")] = 16,
    device: options.Device = None,
    trust: options.Trust = False,
    fail_on: Annotated[
        str,
        typer.Option("--fail-on", metavar="attention|fail|never", help="The status from which the exit code is 1."),
    ] = "fail",
    as_json: options.AsJson = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", metavar="", help="Say nothing on stderr but what went wrong.")
    ] = False,
) -> None:
    """Audit a model's heatmaps on pictures, into a verdict, a queue for people and a report."""
    options.known("--fail-on", fail_on, FAIL_ON)
    load = partial(options.loaded, model, weights, classes, layer, head, device, trust=trust)
    asked = (images, out, budget, method or None, score or None, (layer or [])[1:], reference, stakes, seed, batch)
    call = _Call(*asked, _command(context.obj))
    try:
        with results_kept_apart():
            done = call.carried_out(load, quiet=quiet)
    except KeyboardInterrupt:
        complain("Stopped. The same command again goes on from there.")
        raise typer.Exit(130) from None
    if as_json:
        show_json(done.verdict)
    else:
        show_summary(done.verdict, done.folder)
    raise typer.Exit(exit_code(done.status, fail_on))


def exit_code(status: str, fail_on: str) -> int:
    """0 where the status is better than ``fail_on``, else 1.

    Example:
        >>> exit_code("attention", "fail"), exit_code("attention", "attention"), exit_code("fail", "never")
        (0, 1, 0)
    """
    return 0 if fail_on == "never" else int(STATUSES.index(status) >= STATUSES.index(fail_on))


def _command(words: Sequence[str] | None) -> str | None:
    """The command that repeats this one, as a file can hold it."""
    if words is None:
        return None
    return shlex.join(["fukusen", *words]).encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True)
class _Call:
    """What is asked of ``fukusen.audit`` besides the model."""

    images: str
    out: Path
    budget: str
    methods: list[str] | None
    scores: list[str] | None
    layers: list[str]
    reference: Path | None
    stakes: Path | None
    seed: int
    batch: int
    command: str | None

    def carried_out(self, load: Callable[[], Classifier], *, quiet: bool) -> Audit:
        """The audit; what costs least is checked first, and what was understood is said before the work begins."""
        import fukusen
        from fukusen.auditing import BUDGETS, make_plan
        from fukusen.auditing.plan import panel_methods
        from fukusen.runner import items_of

        budget = cast("Budget", options.known("budget", self.budget, BUDGETS))
        chosen = panel_methods(budget, self.methods, self.layers)
        plan = make_plan(budget, methods_asked=chosen, scores_asked=self.scores, seed=self.seed, batch=self.batch)
        items = items_of(self.images)
        model = load()
        if not quiet:
            say_understood(model, plan, items, self.out)
        with Told(quiet) as told:
            return fukusen.audit(
                model,
                self.images,
                self.out,
                budget=budget,
                methods=self.methods,
                scores=self.scores,
                layers=self.layers,
                reference=self.reference,
                stakes=self.stakes,
                seed=self.seed,
                batch=self.batch,
                command=self.command,
                progress=told,
            )
