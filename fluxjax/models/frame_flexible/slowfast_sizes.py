"""Sizes that every SlowFast-R50 has in common."""

# Frames that kernels see: of the stem, and of the first convolution of blocks in each stage.
SLOW_KERNELS = (1, 1, 1, 3, 3)
FAST_KERNELS = (5, 3, 3, 3, 3)
# Of what the fast pathway tells the slow one: frames that the kernel sees, channels for each of its.
FUSE_KERNEL, FUSE_RATIO = 7, 2
