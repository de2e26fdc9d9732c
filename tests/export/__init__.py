"""Tests of fluxjax.export."""
