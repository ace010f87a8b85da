"""How long a small request takes while the server is busy."""

from collections.abc import Iterator

from sampling.bench import Bench, Goal, Row
from sampling.inside import batch_seconds
from sampling.load import CONNECTIONS, latencies, percentile, requests, throughput

ROWS = 64
LOAD = 0.8
SLACK_SECONDS = 0.005
BATCHES = 3


def measure(bench: Bench) -> Iterator[Row]:
    """Requests of 64 images at random times, at 80 % of what the server can do; p99 beside 3 device batches + 5 ms."""
    for generator in bench.generators:
        expert = bench.expert(generator)
        with bench.serving(generator) as server:
            bench.say(f"generator {generator}: the most requests of {ROWS} images")
            capacity, _ = throughput(server, requests(server.target, ROWS), CONNECTIONS, bench.seconds)
            alone = batch_seconds(expert, ROWS, bench.seconds / 4)
            yield Row(f"{generator}, one device batch of {ROWS}", 1e3 * alone, "ms")
            yield Row(f"{generator}, the most requests of {ROWS}", capacity.rate / ROWS, "requests/s")
            limit, rate = BATCHES * alone + SLACK_SECONDS, LOAD * capacity.rate / ROWS
            for clients in bench.clients:
                bench.say(f"generator {generator}: {rate:.0f} requests a second from {clients} clients")
                took = latencies(server.target, clients, ROWS, rate, bench.seconds)
                middle, high = percentile(took, 0.5), percentile(took, 0.99)
                what, over = f"{generator}, {clients} clients", f"3 × batch + 5 ms = {1e3 * limit:.1f} ms"
                yield Row(f"{what}: p50", 1e3 * middle, "ms", middle / alone, "one device batch")
                yield Row(f"{what}: p99", 1e3 * high, "ms", high / limit, over, Goal(1.0, most=True))
