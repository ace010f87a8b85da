"""Networks: they know shapes and layers, and nothing of masks, tasks or training."""
