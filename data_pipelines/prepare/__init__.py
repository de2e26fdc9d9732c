"""Long videos cut into short chunks that are fast to read at random; see `__main__`."""
