"""Tests of fluxjax.evaluation."""
