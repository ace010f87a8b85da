"""A client that reads a stream in shared memory until it is killed: `python sharing_client.py TARGET MEMORY`."""

import sys

from memory_client import Memory
from memory_client._shared import SharedRing

if __name__ == "__main__":
    take = SharedRing.take

    def noted(self, rows):
        content = take(self, rows)
        print(rows.length, flush=True)
        return content

    SharedRing.take = noted
    for _ in Memory(sys.argv[1], sys.argv[2]).stream(batch_size=128, seed=1):
        pass
