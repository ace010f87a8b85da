"""`memory-server base`: frozen bases on disk, made from public data or from published checkpoints."""
