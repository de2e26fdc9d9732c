"""From captions to token ids, through the `tokenizers` library."""
