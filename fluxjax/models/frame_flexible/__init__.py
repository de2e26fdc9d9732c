"""Frame flexible networks: TSM, TEA, SlowFast and UniFormer that run at any frame number."""
