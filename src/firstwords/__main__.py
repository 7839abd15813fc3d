"""`python -m firstwords` is the `firstwords` command."""

from firstwords.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
