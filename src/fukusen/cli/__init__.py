"""One file a verb: parse, call one function, print."""

from fukusen.cli.program import app, main

__all__ = ["app", "main"]
