"""Which images of an audit are looked at in full: some drawn by chance, and those that stand out at a brief look."""

from __future__ import annotations

from collections.abc import Sequence

from fukusen.auditing import Found, Plan, facts_of, standing_out
from fukusen.auditing.plan import FOLLOWED, FULL
from fukusen.models import Classifier
from fukusen.records import Item
from fukusen.store import Store


def standing_out_of(plan: Plan, model: Classifier, items: Sequence[Item], store: Store) -> list[str]:
    """The images with an open finding that were looked at briefly, gravest first; none where the budget follows none.

    Args:
        plan: what is asked.
        model: the model.
        items: the images asked for, each of which the store holds by now.
        store: with what was measured.
    """
    brief = {name for name, tasks in plan.tasks([item.name for item in items]).items() if not tasks.costly}
    if not brief or not FOLLOWED[plan.budget]:
        return []
    results = store.results(plan.digest)
    measured = [one for one in store.measurements(plan.digest) if one.item in brief]
    return standing_out(plan, Found(facts_of(model), results, measured))


def followed_in(plan: Plan, model: Classifier, items: Sequence[Item], store: Store) -> frozenset[str]:
    """The images that were looked at in full because they stood out; none where all images were looked at so.

    Args:
        plan: what was asked.
        model: the model.
        items: the images asked for.
        store: with what was measured.
    """
    depths = {name: key.rpartition(":")[2] for name, key in store.done(plan.digest)}
    if all(depths.get(item.name, "").startswith(FULL) for item in items):
        return frozenset()
    return frozenset(plan.more_tasks(standing_out_of(plan, model, items, store)))
