"""What an operator sees of learning and of the server's state: figures, spans, curves, log lines, health."""
