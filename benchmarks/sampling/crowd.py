"""Any number of clients at once, from one asyncio process."""

from collections.abc import Iterator

from sampling.bench import LARGE, Bench, Goal, Row
from sampling.load import stream, throughput

BATCH = 64
FLAT_FROM = 10
MOST_OF_THE_LARGE = 100
"""So many clients of the large generator already wait for their first message for seconds, on one core."""


def measure(bench: Bench) -> Iterator[Row]:
    """Clients that stream batches of 64, each on its own connection: throughput of all, and the server's CPU time."""
    for generator in bench.generators:
        with bench.serving(generator) as server:
            reference: float | None = None
            for clients in bench.clients:
                if generator == LARGE and bench.device == "cpu" and clients > MOST_OF_THE_LARGE:
                    continue
                bench.say(f"generator {generator}: {clients} clients")
                both, servers = throughput(server, stream(server.target, BATCH), clients, bench.seconds)
                if clients >= FLAT_FROM and reference is None:
                    reference = both.rate
                flat = reference is not None and clients > FLAT_FROM
                yield Row(
                    f"{generator}, {clients} clients",
                    both.rate,
                    "images/s",
                    both.rate / reference if reference and flat else None,
                    "10 clients" if flat else "",
                    Goal(0.9) if flat else None,
                    {
                        "server_cpu_us_per_image": 1e6 * servers,
                        "cpu_us_per_image": 1e6 * both.cpu,
                        "server_mib": server.resident_bytes() / 2**20,
                    },
                )
