"""What people read of a run: summaries, the terminal, the model card. Imports no training code."""
