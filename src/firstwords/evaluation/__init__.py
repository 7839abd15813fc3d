"""From minimal pairs and a model to accuracies with intervals."""
