"""What is asked, one batch through the house, and the judgement: plan, engine, judge and queue."""

from fukusen.auditing.engine import Examined, examine, examine_model
from fukusen.auditing.facts import ModelFacts, facts_of
from fukusen.auditing.judge import Judgement, judge
from fukusen.auditing.panel import Panel, explain
from fukusen.auditing.plan import BUDGETS, Budget, Plan, make_plan

__all__ = [
    "BUDGETS",
    "Budget",
    "Examined",
    "Judgement",
    "ModelFacts",
    "Panel",
    "Plan",
    "examine",
    "examine_model",
    "explain",
    "facts_of",
    "judge",
    "make_plan",
]
