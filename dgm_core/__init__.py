"""Generative memories: the mathematics of DGM, in PyTorch and nothing else."""
