"""Generators that hold several tasks at once, exchangeable for each other in the kinds that retrain them."""
