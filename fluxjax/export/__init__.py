"""Serving artefacts: one StableHLO program a budget, weights beside them, and the ladder."""

from fluxjax.export.artefacts import export

__all__ = ["export"]
