"""The train loop, state, mesh and signals; knows no task."""
