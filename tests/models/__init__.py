"""Tests of fluxjax.models."""
