"""The demo: a server, learners in processes of their own, and the proof that nothing was forgotten."""
