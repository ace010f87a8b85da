"""The server: it takes in tasks, learns them into memories, and streams what they remember."""
