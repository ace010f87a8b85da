"""What an operator does to a data directory while no server holds it."""
