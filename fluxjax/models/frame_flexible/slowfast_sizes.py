"""Sizes that every SlowFast-R50 has in common."""

# Frames that kernels see: of the stem, and of the first convolution of blocks in each stage.
SLOW_KERNELS = (1, 1, 1, 3, 3)
FAST_KERNELS = (5, 3, 3, 3, 3)
# From the fast pathway to the slow one: frames a kernel sees, channels for each of the fast one.
FUSE_KERNEL, FUSE_RATIO = 7, 2
