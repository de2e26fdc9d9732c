"""Training states, inference checkpoints, and starting one model from another."""

from fluxjax.checkpoints import start_rules  # registers what models may start from

__all__ = ["start_rules"]
