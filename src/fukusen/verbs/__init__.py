"""The verbs of the library: load, wrap, explain, audit, attack, and the lists of what there is."""

from fukusen.models import load, wrap
from fukusen.verbs.attacking import attack
from fukusen.verbs.auditing import Audit, audit
from fukusen.verbs.comparing import compare
from fukusen.verbs.explaining import explain
from fukusen.verbs.listing import list_agreements, list_attacks, list_checks, list_methods, list_scores
from fukusen.verbs.red_teaming import RedTeam, red_team
from fukusen.verbs.repairing import repair

__all__ = [
    "Audit",
    "RedTeam",
    "attack",
    "audit",
    "compare",
    "explain",
    "list_agreements",
    "list_attacks",
    "list_checks",
    "list_methods",
    "list_scores",
    "load",
    "red_team",
    "repair",
    "wrap",
]
