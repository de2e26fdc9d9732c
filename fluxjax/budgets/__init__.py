"""Token Optimization: what a checkpoint can do at each budget, and which setting to serve."""
