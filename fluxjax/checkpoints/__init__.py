"""Training states, inference checkpoints, and starting one model from another."""
