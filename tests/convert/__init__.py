"""Tests of fluxjax.convert."""
