"""Flax modules, a file per family; `create_model` builds them by name."""

from fluxjax.models.registry import create_model, list_models, register_model

__all__ = ["create_model", "list_models", "register_model"]
