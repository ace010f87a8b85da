"""Training: one adversarial step, one task loop, averaging, classifiers."""
