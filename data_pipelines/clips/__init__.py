"""Which frames, grids, crops and augmentation: pure functions of keys."""
