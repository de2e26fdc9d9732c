"""Evaluation: from the logits of views to accuracies."""
