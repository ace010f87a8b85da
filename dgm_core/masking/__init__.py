"""Masks over shared weights: gates, annealing, reservation, sparsity, expansion."""
