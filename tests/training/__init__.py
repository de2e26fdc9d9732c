"""Tests of fluxjax.training."""
