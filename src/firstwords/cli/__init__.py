"""The `firstwords` command: parse, call, print. Every command calls what the library offers to all."""

from firstwords.cli.main import main

__all__ = ["main"]
