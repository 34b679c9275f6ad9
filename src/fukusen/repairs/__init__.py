"""A model whose logits carry nothing that softmax cannot see, proved to predict the same."""

from fukusen.repairs.exporting import ENDINGS, Written, check_place, export
from fukusen.repairs.repair import NOT_CURED, Leak, Repaired, repaired

__all__ = ["ENDINGS", "NOT_CURED", "Leak", "Repaired", "Written", "check_place", "export", "repaired"]
