"""The `firstwords` command, and `python -m firstwords`."""


def main() -> int:
    """Carry out the command line; its exit code."""
    try:
        from firstwords.cli import main as carry_out
    except KeyboardInterrupt:  # while it loads
        return 130
    return carry_out()


if __name__ == "__main__":
    raise SystemExit(main())
