"""Foreign weight files as named arrays; knows nothing of this project's models."""
