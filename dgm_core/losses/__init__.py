"""Adversarial losses and penalties: pure functions, tensors in and a scalar out."""
