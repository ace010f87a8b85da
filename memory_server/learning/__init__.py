"""How data becomes a revision: admission, anonymous buffers, the queue, and the worker processes that learn."""
