"""Which images of an audit are looked at in full: some drawn by chance, and those that stand out at a brief look."""

from __future__ import annotations

from collections.abc import Sequence

from fukusen.auditing import Found, Plan, facts_of, standing_out
from fukusen.auditing.plan import FOLLOWED, FULL, Tasks
from fukusen.models import Classifier
from fukusen.records import Item
from fukusen.store import Store


def followed_in(plan: Plan, model: Classifier, items: Sequence[Item], store: Store) -> dict[str, Tasks]:
    """What is done with the images that stand out at a brief look, by name.

    There are none where the budget follows none, and where all images were looked at in full by an earlier run.

    Args:
        plan: what is asked.
        model: the model.
        items: the images asked for, each of which the store holds by now.
        store: with what was measured.
    """
    tasks = plan.tasks([item.name for item in items])
    brief = {name for name, own in tasks.items() if not own.costly}
    if not brief or not FOLLOWED[plan.budget]:
        return {}
    results = store.results(plan.digest)
    measured = [one for one in store.measurements(plan.digest) if one.item in brief]
    chosen = plan.more_tasks(standing_out(plan, Found(facts_of(model), results, measured)))
    full = {name for name, key in store.done(plan.digest) if key.rpartition(":")[2].startswith(FULL)}
    # Where images that do not stand out are all full as well, it was not for standing out that any of them is.
    return {} if brief <= full and brief != chosen.keys() else chosen
