"""`python -m memory_client.cli` is `memoryctl`."""

from memory_client.cli import main

main()
