"""The wire of the generative-memory replay server."""
