"""Official checkpoints to fluxjax variables, and safe readers of weight files."""
