"""Weights to start from: files, folders, addresses and repositories of the Hugging Face hub."""
