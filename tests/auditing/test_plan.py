"""What an audit is asked for."""

from __future__ import annotations

import pytest

from fukusen.auditing import make_plan
from fukusen.errors import PlanError, UnknownName

NAMES = [f"{number}.png" for number in range(100)]


def test_budgets_decide_on_how_many_images_the_costly_methods_run() -> None:
    """Quick on four, standard on 32, deep on all; every image gets the single-pass methods and the shift checks."""
    for budget, costly, probed in (("quick", 4, 4), ("standard", 32, 8), ("deep", 100, 100)):
        tasks = make_plan(budget).tasks(NAMES)
        assert sum(one.costly for one in tasks.values()) == costly
        assert sum(one.probed for one in tasks.values()) == probed
        for one in tasks.values():
            assert {"grad_cam", "gradient"} <= {method.name for method in one.build_methods()}
            assert ("occlusion" in {method.name for method in one.build_methods()}) == one.costly
            for name in ("gradient_truth", "randomisation"):
                assert (name in {check.name for check in one.build_checks()}) == one.probed
            assert "shift_share" in {check.name for check in one.build_checks()}


def test_layers_are_compared_where_there_are_several() -> None:
    """An audit that reads maps at one layer has no such check, rather than one that does not apply."""
    asked = {name: make_plan(methods_asked=["grad_cam", name]).checks for name in ("hires_cam", "grad_cam@features")}
    named = {name: "layer_consistency" in {spec.name for spec in specs} for name, specs in asked.items()}
    assert named == {"hires_cam": False, "grad_cam@features": True}


def test_the_sample_follows_from_the_seed_alone() -> None:
    """Not from the order of the images."""
    first, again, other = make_plan(), make_plan(), make_plan(seed=1)
    assert first.sample(NAMES, 5) == again.sample(NAMES[::-1], 5)
    assert first.sample(NAMES, 5) != other.sample(NAMES, 5)


def test_its_digest_names_what_is_measured() -> None:
    """Another method, score or seed is another plan; the budget only says on how many images."""
    assert make_plan("quick", methods_asked=["grad_cam"]).digest == make_plan("deep", methods_asked=["grad_cam"]).digest
    digests = {
        make_plan(methods_asked=["grad_cam"]).digest,
        make_plan(methods_asked=["hires_cam"]).digest,
        make_plan(methods_asked=["grad_cam"], scores_asked=["logit"]).digest,
        make_plan(methods_asked=["grad_cam"], seed=1).digest,
    }
    assert len(digests) == 4


def test_bad_plans_are_refused() -> None:
    """With one sentence each."""
    with pytest.raises(UnknownName, match=r"^There is no method named 'grad_cma'. Did you mean 'grad_cam'\?"):
        make_plan(methods_asked=["grad_cma"])
    with pytest.raises(PlanError) as nothing:
        make_plan(methods_asked=[])
    assert str(nothing.value) == "An audit needs at least one method and one score."
