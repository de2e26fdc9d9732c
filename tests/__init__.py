"""Tests of fluxjax."""
