"""The server put together. This is the only place where its parts meet."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from memory_api.v1 import memory_pb2, memory_pb2_grpc
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from dgm_core.style.library import Library
from memory_server.errors import CannotStart
from memory_server.interceptors.calls import CallInterceptor
from memory_server.interceptors.logs import configure_logs
from memory_server.interceptors.telemetry import Telemetry
from memory_server.learning.admission import IngestBudget
from memory_server.learning.executor import LocalProcessExecutor
from memory_server.learning.gate import Gate
from memory_server.learning.queue import TaskQueue
from memory_server.learning.watchdog import Bounds
from memory_server.learning.worker import keep_data_private
from memory_server.sampling import runtime
from memory_server.sampling.engine import SamplingEngine
from memory_server.sampling.experts import ExpertCache
from memory_server.service import Limits, MemoryService
from memory_server.settings import Settings
from memory_server.sockets import bind_port, bound_socket
from memory_server.store.catalog import Catalog
from memory_server.store.checkpoints import CHECKPOINTS, CheckpointStore
from memory_server.store.datadir import BASES, DataDir
from memory_server.store.sealing import KEY_VARIABLE, configured_key

SERVICE = memory_pb2.DESCRIPTOR.services_by_name["MemoryService"].full_name

_KEEPALIVE_MS = 30_000
_SECONDS_BETWEEN_SWEEPS = 600.0


def run(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Arguments:
        settings: of the server.
        ready: called once with "host:port" when calls are answered.

    Raises:
        CannotStart: the port, the Unix socket, the data directory or the device is not to be had.
    """
    if settings.exposed and not settings.insecure_expose:
        raise CannotStart(
            f"refusing to listen on {settings.host}: there is no TLS yet, so whoever reaches the port could read and "
            "delete memories; keep to 127.0.0.1 and tunnel, or accept the risk with --insecure-expose"
        )
    configure_logs(settings.log_level, settings.log_json)
    keep_data_private()
    runtime.tune_malloc()
    runtime.make_deterministic()
    asyncio.run(_serve(settings, ready))


async def _serve(settings: Settings, ready: Callable[[str], None]) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _stop, stopping, number)
    async with serving(settings) as address:
        ready(address)
        await stopping.wait()
        structlog.get_logger().info("stopping", grace_seconds=settings.grace_seconds)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[str]:
    """A server that answers calls inside the block, at the address that the block gets."""
    device = runtime.device(settings.device)
    cuda = device.type == "cuda"
    async with AsyncExitStack() as stack:
        store = stack.enter_context(DataDir(settings.data_dir))
        experts = ExpertCache(store.catalog.manifest, store.blobs, device, settings.expert_cache_bytes)
        gate = stack.enter_context(closing(Gate(settings.learners_share(cuda))))
        engine = SamplingEngine(store.catalog.manifest, experts, settings.samplers(cuda), gate.waited_for)
        stack.callback(engine.close)
        budget = IngestBudget(settings.ingest_budget_bytes, settings.max_queue)
        executor = LocalProcessExecutor(
            store.blobs.directory, gate, str(device), settings.trainers(cuda), _bounds(settings)
        )
        checkpoints = _checkpoints(settings)
        stack.callback(asyncio.create_task(_expire(checkpoints)).cancel)
        queue = TaskQueue(store, executor, engine, parallel=settings.workers(cuda), checkpoints=checkpoints)
        limits = Limits(settings.max_samples_per_request, settings.upload_idle_seconds, settings.shared_memory)
        service = MemoryService(store, Library(settings.data_dir / BASES), budget, queue, engine, limits)
        telemetry = _telemetry(settings, store.catalog, budget, experts, stack)
        server = _server(settings, telemetry, service)
        watch = await _add_health(server)
        address = bind_port(server, settings)
        stack.enter_context(bound_socket(server, settings.unix_socket))
        await server.start()
        structlog.get_logger().info(
            "ready",
            address=address,
            unix_socket=settings.unix_socket and str(settings.unix_socket),
            data_dir=str(settings.data_dir),
            device=str(device),
        )
        try:
            await queue.resume()
            yield address
        finally:
            await watch.enter_graceful_shutdown()
            service.drain()
            engine.drain()
            await asyncio.gather(server.stop(settings.grace_seconds), queue.close(settings.grace_seconds))


def _checkpoints(settings: Settings) -> CheckpointStore:
    """Raises CannotStart if checkpoints are asked for and cannot be sealed."""
    key = configured_key(settings.encryption_key_file)
    if settings.checkpoint_seconds and key is None:
        raise CannotStart(
            f"--checkpoint-seconds {settings.checkpoint_seconds:g} needs a key, for checkpoints are never written in "
            f"plain: give one with --encryption-key-file or in {KEY_VARIABLE}, or leave checkpoints off"
        )
    return CheckpointStore(settings.data_dir / CHECKPOINTS, key, settings.checkpoint_seconds)


async def _expire(checkpoints: CheckpointStore) -> None:
    while True:
        await asyncio.sleep(_SECONDS_BETWEEN_SWEEPS)
        await asyncio.to_thread(checkpoints.expire)


def _bounds(settings: Settings) -> Bounds:
    return Bounds(settings.worker_bytes, settings.task_seconds_limit or None, settings.worker_silence_seconds)


def _server(settings: Settings, telemetry: Telemetry, service: MemoryService) -> grpc.aio.Server:
    options = (
        ("grpc.so_reuseport", 0),  # or two servers would share a port in silence
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # A fixed small window: otherwise megabytes pile up for a reader that has stopped reading.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 65535),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_MS // 2),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    )
    server = grpc.aio.server(interceptors=[CallInterceptor(SERVICE, telemetry)], options=options)
    memory_pb2_grpc.add_MemoryServiceServicer_to_server(service, server)
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return server


async def _add_health(server: grpc.aio.Server) -> health.aio.HealthServicer:
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in (health.OVERALL_HEALTH, SERVICE):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return servicer


def _telemetry(
    settings: Settings, catalog: Catalog, budget: IngestBudget, experts: ExpertCache, stack: AsyncExitStack
) -> Telemetry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    if settings.metrics_port is not None:
        _publish(settings.metrics_port, registry, stack)
    return Telemetry(
        registry,
        queue_length=lambda: _unfinished(catalog),
        held_bytes=lambda: budget.used,
        cached_bytes=lambda: experts.nbytes,
    )


def _unfinished(catalog: Catalog) -> int:
    tasks = (task for memory in catalog.memories() for task in catalog.tasks(memory.name))
    return sum(not task.state.final for task in tasks)


def _publish(port: int, registry: CollectorRegistry, stack: AsyncExitStack) -> None:
    """Serves the metrics on the loopback until the stack unwinds."""
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise CannotStart(
            f"cannot serve metrics on port {port} ({error.strerror}); choose another with --metrics-port"
        ) from error
    stack.callback(thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    structlog.get_logger().info("metrics", address=f"127.0.0.1:{server.server_port}")


def _stop(stopping: asyncio.Event, number: signal.Signals) -> None:
    if stopping.is_set() and number == signal.SIGINT:
        os._exit(130)  # asked twice: at once; raw data and workers die with the process
    stopping.set()
