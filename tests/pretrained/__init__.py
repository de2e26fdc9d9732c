"""Weights to start from."""
