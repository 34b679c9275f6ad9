"""An append-only set of records, and the arrays beside it."""

from fukusen.store.archive import Store
from fukusen.store.verdict import audit_schema

__all__ = ["Store", "audit_schema"]
