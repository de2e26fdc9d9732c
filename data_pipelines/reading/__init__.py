"""A video is a protocol: what it holds, and its frames by index."""
