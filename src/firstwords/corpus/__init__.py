"""From sources to one training text and one dev text."""
