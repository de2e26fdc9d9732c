"""Tests of fluxjax.tasks."""
