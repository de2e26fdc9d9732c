"""Frame flexible networks: shared weights, a set of normalisation layers for each frame number.

Source: "Frame Flexible Network" (arXiv 2303.14817, CVPR 2023) and BeSpontaneous/FFN-pytorch.
"""
