"""Published recipes: a file per system."""
