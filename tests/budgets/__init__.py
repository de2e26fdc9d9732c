"""Tests of fluxjax.budgets."""
