"""The LLaMA, its loss, its cost, and its way to and from Hugging Face."""
