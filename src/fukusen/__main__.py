"""``python -m fukusen``: the same program as ``fukusen``."""

from __future__ import annotations

import sys

from fukusen.cli import main

if __name__ == "__main__":
    sys.exit(main())
