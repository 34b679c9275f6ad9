"""What is asked of an audit: methods, scores, checks, and on how many images the costly ones are run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar, get_args

from fukusen.checks import Check, checks
from fukusen.checks.check import is_costly, is_of_layers, needs_full
from fukusen.errors import PlanError, require
from fukusen.methods import Method, also_at, methods
from fukusen.records import Measurement, Spec, digest_of
from fukusen.registry import Registry, spec_of
from fukusen.scores import Score, scores

T = TypeVar("T")
Budget = Literal["quick", "standard", "deep"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)
SAMPLES: dict[Budget, int | None] = {"quick": 4, "standard": 32, "deep": None}
TRUTH_SAMPLES: dict[Budget, int | None] = {"quick": 4, "standard": 8, "deep": None}
FULL, BRIEF = "full", "brief"
FOLLOWED: dict[Budget, int] = {"quick": 0, "standard": 32, "deep": 0}
FOLLOWED_BY_TRUTH: dict[Budget, int] = {"quick": 0, "standard": 8, "deep": 0}
"""How many images that stood out at a brief look are looked at in full, gravest first, and how many of them probed."""
QUICK_EXTRAS = ("occlusion",)
STANDARD_METHODS = (
    "grad_cam",
    "grad_cam_plus_plus",
    "hires_cam",
    "layer_cam",
    "gradient",
    "input_x_gradient",
    "integrated_gradients",
    "smooth_grad",
    "lrp",
    "occlusion",
)
STANDARD_SCORES = ("logit", "centered_logit", "log_odds", "log_probability", "probability")
"""The standard panel: the maps that people show most, and enough of each kind to contradict each other."""


@dataclass(frozen=True)
class Plan:
    """What is asked of an audit, as data.

    Args:
        methods: the methods of the panel.
        scores: the scores of the panel.
        checks: the checks.
        budget: ``quick``, ``standard`` or ``deep``.
        seed: from which every random choice follows.
        batch: how many images are taken at once.
    """

    methods: tuple[Spec, ...]
    scores: tuple[Spec, ...]
    checks: tuple[Spec, ...]
    budget: Budget = "standard"
    seed: int = 0
    batch: int = 16

    def as_json(self) -> dict[str, Any]:
        """The plan as it stands in audit.json."""
        return {
            "budget": self.budget,
            "methods": [spec.as_json() for spec in self.methods],
            "scores": [str(spec) for spec in self.scores],
            "checks": [spec.as_json() for spec in self.checks],
            "seed": self.seed,
            "batch": self.batch,
            "digest": self.digest,
        }

    @property
    def digest(self) -> str:
        """Names what is measured on an image; the budget says only on how many and the batch changes nothing."""
        parts = [[str(spec) for spec in specs] for specs in (self.methods, self.scores, self.checks)]
        return digest_of([parts, self.seed, self.batch])

    def sample(self, names: Sequence[str], size: int | None) -> frozenset[str]:
        """A random sample of the names that depends on the seed alone; all of them where ``size`` is None."""
        if size is None or len(names) <= size:
            return frozenset(names)
        return frozenset(sorted(names, key=lambda name: digest_of([self.seed, name]))[:size])

    def tasks(self, names: Sequence[str]) -> dict[str, Tasks]:
        """What is done with each image, by name."""
        costly = self.sample(names, SAMPLES[self.budget])
        probed = self.sample(names, TRUTH_SAMPLES[self.budget])
        return {name: Tasks(self, name in costly, name in probed) for name in names}

    def more_tasks(self, standing_out: Sequence[str]) -> dict[str, Tasks]:
        """What is done with images that stood out at a brief look, gravest first; those beyond the budget are left."""
        few, fewer = FOLLOWED[self.budget], FOLLOWED_BY_TRUTH[self.budget]
        return {name: Tasks(self, True, place < fewer) for place, name in enumerate(standing_out[:few])}

    def is_brief(self, one: Measurement) -> bool:
        """Whether an image has such a measurement even where no method or check with passes of its own is run on it."""
        known_checks, known_methods = self._of_full
        if one.check in known_checks or one.method in known_methods:
            return False
        return one.against is None or one.against.rpartition("/")[0] not in known_methods

    @cached_property
    def _of_full(self) -> tuple[frozenset[str], frozenset[str]]:
        """The checks and the methods that say something only of images that are looked at in full."""
        kinds = {name: checks.get(name) for name in checks.names()}
        made = [methods.build(spec) for spec in self.methods]
        return (
            frozenset(name for name, kind in kinds.items() if is_costly(kind) or needs_full(kind)),
            frozenset(method.name for method in made if not method.single_pass),
        )

    def build_scores(self) -> tuple[Score, ...]:
        """The scores themselves."""
        return tuple(scores.build(spec) for spec in self.scores)


@dataclass(frozen=True)
class Tasks:
    """What is done with one image.

    Args:
        plan: of the audit.
        costly: whether methods with passes of their own are run on it.
        probed: whether checks with passes of their own are run on it, such as that of gradients against differences.
    """

    plan: Plan
    costly: bool
    probed: bool

    @property
    def depth(self) -> str:
        """A word for the store, so that an image that was looked at briefly is looked at again when more is asked."""
        return f"{FULL if self.costly else BRIEF}{'+truth' if self.probed else ''}"

    def covers(self, depth: str) -> bool:
        """Whether an image that was looked at to such a depth needs nothing more."""
        return {*self.depth.split("+")} - {BRIEF} <= {*depth.split("+")}

    def build_methods(self) -> tuple[Method, ...]:
        """The methods that are run on the image."""
        built = (methods.build(spec) for spec in self.plan.methods)
        return tuple(method for method in built if self.costly or method.single_pass)

    def build_checks(self) -> tuple[Check, ...]:
        """The checks that are run on the image."""
        built = (checks.build(spec) for spec in self.plan.checks)
        return tuple(check for check in built if self.probed or not is_costly(check))


def built(registry: Registry[T], specs: Sequence[str | Spec] | str | Spec) -> list[T]:
    """The things of some names or specs, each once.

    Args:
        registry: of the methods or of the scores.
        specs: names or specs; a single one stands for a list of it.

    Raises:
        UnknownName: a name that is not registered.
        PlanError: one name with two sets of parameters, which a panel could not tell apart.
    """
    listed = [specs] if isinstance(specs, str | Spec) else specs
    found: dict[str, T] = {}
    for spec in listed:
        made = registry.build(spec)
        name: str = made.name  # type: ignore[attr-defined]
        if found.setdefault(name, made) != made:
            raise PlanError(
                f"The {registry.kind} {name!r} is named with two sets of parameters, and a panel has one row for it. "
                "Ask for one after the other."
            )
    return list(found.values())


def panel_methods(
    budget: Budget, asked: Sequence[str | Spec] | None = None, layers: Sequence[str] = ()
) -> list[Method]:
    """The methods of a panel: those of the standard panel that the budget has, or those that are named.

    Args:
        budget: ``quick``, ``standard`` or ``deep``.
        asked: names or specs; None for the standard panel.
        layers: further layers of the network at which every method that reads a layer is read, too.

    Raises:
        UnknownName: a name that is not registered.
        CallError: an unknown budget.
    """
    require(budget in BUDGETS, "audit", "budget", f"one of {', '.join(BUDGETS)}", budget)
    if asked is not None:
        return also_at(built(methods, asked), layers)
    chosen = [methods.build(name) for name in STANDARD_METHODS]
    if budget == "quick":
        chosen = [method for method in chosen if method.single_pass or method.name in QUICK_EXTRAS]
    return also_at(chosen, layers)


def make_plan(
    budget: Budget = "standard",
    *,
    methods_asked: Sequence[str | Spec | Method] | None = None,
    scores_asked: Sequence[str | Spec] | None = None,
    seed: int = 0,
    batch: int = 16,
) -> Plan:
    """The documented standard panel at a budget, or the methods and scores that are named.

    Args:
        budget: ``quick``: the panel's single-pass methods on every image, behaviour on four; ``standard``: the whole
            panel, its costly methods on a random sample of 32 images and on up to 32 that stand out at a brief look;
            ``deep``: the whole panel on every image.
        methods_asked: names, specs or methods; default: those of the standard panel that the budget has.
        scores_asked: names or specs; default: those of the standard panel.
        seed: from which every random choice follows.
        batch: how many images are taken at once.

    Raises:
        UnknownName: a name that is not registered.
        CallError: an unknown budget, or a bad batch.
        PlanError: nothing is left to do.
    """
    require(isinstance(batch, int) and batch >= 1, "audit", "batch", "an int >= 1", batch)
    chosen = panel_methods(
        budget, None if methods_asked is None else [spec_of(methods.build(one)) for one in methods_asked]
    )
    wanted = built(scores, STANDARD_SCORES if scores_asked is None else scores_asked)
    if not chosen or not wanted:
        raise PlanError("An audit needs at least one method and one score.")
    return Plan(
        tuple(dict.fromkeys(spec_of(method) for method in chosen)),
        tuple(dict.fromkeys(spec_of(score) for score in wanted)),
        tuple(spec_of(check) for check in _checks_of(chosen)),
        budget,
        seed,
        batch,
    )


def _checks_of(chosen: Sequence[Method]) -> list[Check]:
    """All checks; those that compare layers only where a method is read at one of the user's choice."""
    several = any("@" in method.name for method in chosen)
    made = [checks.build(name) for name in checks.names()]
    return [check for check in made if several or not is_of_layers(check)]
