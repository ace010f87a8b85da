"""Version 1 of the wire; `memory.proto` is its reference."""
