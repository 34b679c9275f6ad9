"""What is asked, one batch through the house, and the judgement: plan, engine, judge and queue."""

from fukusen.auditing.engine import Examined, examine, examine_model
from fukusen.auditing.facts import ModelFacts, facts_of
from fukusen.auditing.judge import Found, Judgement, judge, standing_out
from fukusen.auditing.panel import Panel, explain
from fukusen.auditing.plan import BUDGETS, Budget, Plan, make_plan
from fukusen.auditing.reference import Reference

__all__ = [
    "BUDGETS",
    "Budget",
    "Examined",
    "Found",
    "Judgement",
    "ModelFacts",
    "Panel",
    "Plan",
    "Reference",
    "examine",
    "examine_model",
    "explain",
    "facts_of",
    "judge",
    "make_plan",
    "standing_out",
]
