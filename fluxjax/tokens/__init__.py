"""The ground floor: tokens, grids, positions, selection, merging."""
