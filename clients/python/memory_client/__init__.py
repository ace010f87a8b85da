"""Client of the generative-memory replay server."""
