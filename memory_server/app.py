"""The server put together. This is the only place where its parts meet."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from memory_api.v1 import memory_pb2_grpc
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, start_http_server

from dgm_core.style.library import Library
from memory_server.allocator import OVERWRITABLE, all_is_overwritten
from memory_server.errors import CannotStart
from memory_server.interceptors.access import Access
from memory_server.interceptors.calls import CallInterceptor, Patience
from memory_server.interceptors.guard import Guard
from memory_server.interceptors.logs import configure_logs
from memory_server.interceptors.overwriting import OverwritingInterceptor
from memory_server.interceptors.telemetry import Telemetry, untraced
from memory_server.learning.admission import IngestBudget
from memory_server.learning.executor import LocalProcessExecutor
from memory_server.learning.gate import Gate
from memory_server.learning.idle import sleep_when_idle
from memory_server.learning.observer import Observers
from memory_server.learning.queue import TaskQueue
from memory_server.learning.watchdog import Bounds
from memory_server.learning.worker import keep_data_private
from memory_server.overwriting import Overwriting
from memory_server.sampling import runtime
from memory_server.sampling.engine import SamplingEngine
from memory_server.sampling.experts import ExpertCache
from memory_server.security.setup import Security, refuse_strangers, secured
from memory_server.security.streams import OpenStreams
from memory_server.service import Limits, MemoryService
from memory_server.settings import KEY_VARIABLE, Settings
from memory_server.sockets import bind_port, bound_socket
from memory_server.store.checkpoints import CHECKPOINTS, CheckpointStore
from memory_server.store.datadir import BASES, DataDir
from memory_server.store.sealing import configured_key
from memory_server.watching.activity import Activity
from memory_server.watching.extras import require
from memory_server.watching.figures import Figures
from memory_server.watching.health import LEARNING, SERVICE, LearningHealth
from memory_server.watching.journal import Journal
from memory_server.watching.learning import LearningCounters

if TYPE_CHECKING:
    from memory_server.watching.curves import Curves
    from memory_server.watching.traces import Traces

_KEEPALIVE_MS = 30_000
_SHORT_CALLS = 100
"""Of one connection at one time, beside those that last."""

_SECONDS_BETWEEN_SWEEPS = 600.0


def run(load: Callable[[], Settings], ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Arguments:
        load: gives the settings of the server, and what they are by now when SIGHUP comes.
        ready: called once with "host:port" when calls are answered.

    Raises:
        CannotStart: the port, the Unix socket, the data directory or the device is not to be had.
    """
    settings = load()
    refuse_strangers(settings)
    configure_logs(settings.log_level, settings.log_json)
    keep_data_private()
    runtime.tune_malloc()
    runtime.make_deterministic()
    asyncio.run(_serve(settings, load, ready))


async def _serve(settings: Settings, load: Callable[[], Settings], ready: Callable[[str], None]) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _stop, stopping, number)
    async with serving(settings) as server:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, settings, load, server.security)
        runtime.keep_what_is_loaded()
        ready(server.address)
        await stopping.wait()
        structlog.get_logger().info("stopping", grace_seconds=settings.grace_seconds)


@dataclass(frozen=True)
class Serving:
    """A server that answers calls: where, and what secures it."""

    address: str
    security: Security


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Serving]:
    """A server that answers calls inside the block."""
    device = runtime.device(settings.device)
    cuda = device.type == "cuda"
    async with AsyncExitStack() as stack:
        security = stack.enter_context(secured(settings))
        store = stack.enter_context(_data_dir(settings))
        experts = ExpertCache(store.catalog.manifest, store.blobs, device, settings.expert_cache_bytes)
        gate = stack.enter_context(closing(Gate(settings.learners_share(cuda))))
        engine = SamplingEngine(store.catalog.manifest, experts, settings.samplers(cuda), gate.waited_for)
        stack.callback(engine.close)
        budget = IngestBudget(settings.ingest_budget_bytes, settings.max_queue, settings.client_ingest_share)
        executor = LocalProcessExecutor(
            store.blobs.directory,
            gate,
            str(device),
            settings.trainers(cuda),
            _bounds(settings, cuda),
            store.catalog.keys,
        )
        registry = _registry(settings, stack)
        activity = Activity()
        overwriting = _overwriting(stack)
        registry.register(Figures(activity, budget, experts, engine.stock, store, overwriting))
        traces = _traces(settings.trace_endpoint, stack)
        curves = _curves(settings.tensorboard_dir, stack)
        observers = Observers((activity, LearningCounters(registry), Journal(), *traces, *curves))
        checkpoints = _checkpoints(settings)
        stack.callback(asyncio.create_task(_expire(checkpoints)).cancel)
        queue = TaskQueue(
            store, executor, engine, parallel=settings.workers(cuda), observer=observers, checkpoints=checkpoints
        )
        service = MemoryService(store, Library(settings.data_dir / BASES), budget, queue, engine, _limits(settings))
        telemetry = Telemetry(registry, traces[0].call if traces else untraced)
        streams = OpenStreams(settings.client_streams)
        calls = OpenStreams(settings.client_calls, "uploads, exports and calls of Classify", "--client-calls")
        guard = Guard(Access(security.tokens), security.audit, streams, calls)
        stack.callback(asyncio.create_task(guard.open_calls.keep_looking()).cancel)
        patience = Patience(settings.upload_idle_seconds, settings.upload_seconds)
        interceptors = (
            OverwritingInterceptor(SERVICE, overwriting),
            CallInterceptor(SERVICE, telemetry, guard, patience),
        )
        server = _server(settings, interceptors, service)
        health_checks = await _add_health(server)
        address = bind_port(server, settings, security.credentials)
        stack.enter_context(bound_socket(server, settings.unix_socket))
        await server.start()
        structlog.get_logger().info(
            "ready",
            address=address,
            unix_socket=settings.unix_socket and str(settings.unix_socket),
            data_dir=str(settings.data_dir),
            device=str(device),
        )
        learning = LearningHealth(LEARNING, health_checks, lambda: activity.silence, settings.stuck_seconds)
        looking = asyncio.create_task(learning.keep_looking())
        try:
            await queue.resume()
            if settings.sleep_when_idle:
                stack.callback(asyncio.create_task(sleep_when_idle(queue, settings.sleep_when_idle)).cancel)
            yield Serving(address, security)
        finally:
            looking.cancel()
            await health_checks.enter_graceful_shutdown()
            service.drain()
            engine.drain()
            await asyncio.gather(server.stop(settings.grace_seconds), queue.close(settings.grace_seconds))


def _overwriting(stack: AsyncExitStack) -> Overwriting:
    if not (able := all_is_overwritten()):
        structlog.get_logger().warning(
            "what is freed keeps what it held, raw data too: start the server on glibc's allocator, and leave "
            f"{' and '.join(OVERWRITABLE)} to it",
            found={name: os.environ.get(name) for name in OVERWRITABLE},
        )
    overwriting = Overwriting(able)
    stack.callback(asyncio.create_task(overwriting.keep_looking()).cancel)
    return overwriting


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
        try:
            await asyncio.to_thread(checkpoints.expire)
        except Exception as error:  # a disk may fail for a while; sweeping goes on
            structlog.get_logger().error("no checkpoint was swept", error=repr(error))


def _data_dir(settings: Settings) -> DataDir:
    return DataDir(settings.data_dir, master=configured_key(settings.encryption_key_file))


def _limits(settings: Settings) -> Limits:
    return Limits(settings.max_samples_per_request, settings.shared_memory)


def _bounds(settings: Settings, cuda: bool) -> Bounds:
    """What each worker may take; warns if the kernel may have to end one, or the server, before all have filled it."""
    each = settings.worker_bytes(cuda)
    if missing := settings.missing_bytes(cuda):
        structlog.get_logger().warning(
            "the settings allow more memory than there is: lower --ingest-budget-bytes, --expert-cache-bytes, "
            "--learners or --worker-memory-bytes, or give the server more",
            missing_bytes=missing,
            worker_bytes=each,
            learners=settings.workers(cuda),
        )
    return Bounds(each, settings.task_seconds_limit or None, settings.worker_silence_seconds)


def _server(
    settings: Settings, interceptors: Sequence[grpc.aio.ServerInterceptor], service: MemoryService
) -> grpc.aio.Server:
    options = (
        ("grpc.so_reuseport", 0),  # or two servers would share a port in silence
        # Beyond what one client may have open, which is answered: further calls would wait, and in silence.
        ("grpc.max_concurrent_streams", settings.client_streams + settings.client_calls + _SHORT_CALLS),
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
    server = grpc.aio.server(interceptors=interceptors, options=options)
    memory_pb2_grpc.add_MemoryServiceServicer_to_server(service, server)
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return server


async def _add_health(server: grpc.aio.Server) -> health.aio.HealthServicer:
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in (health.OVERALL_HEALTH, SERVICE, LEARNING):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return servicer


def _registry(settings: Settings, stack: AsyncExitStack) -> CollectorRegistry:
    """Where metrics are registered, and published if that is wanted."""
    disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter and histogram, which nothing here asks for
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    if settings.metrics_port is not None:
        _publish(settings.metrics_host, settings.metrics_port, registry, stack)
    return registry


def _traces(endpoint: str, stack: AsyncExitStack) -> "list[Traces]":
    """Traces for the collector that the operator names; none if there is none."""
    if not endpoint:
        return []
    require("--trace-endpoint", "trace", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.grpc")
    from memory_server.watching.traces import traces_to  # noqa: PLC0415 - an extra

    traces = traces_to(endpoint)
    stack.push_async_callback(asyncio.to_thread, traces.close)
    return [traces]


def _curves(directory: Path | None, stack: AsyncExitStack) -> "list[Curves]":
    """Curves for TensorBoard, if the operator wants them."""
    if directory is None:
        return []
    require("--tensorboard-dir", "tensorboard", "tensorboard")
    from memory_server.watching.curves import Curves  # noqa: PLC0415 - an extra

    try:
        return [stack.enter_context(closing(Curves(directory)))]
    except OSError as error:
        raise CannotStart(
            f"curves cannot be written to {directory} ({error.strerror}); choose another with --tensorboard-dir"
        ) from error


def _publish(host: str, port: int, registry: CollectorRegistry, stack: AsyncExitStack) -> None:
    """Serves the metrics until the stack unwinds."""
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise CannotStart(
            f"cannot serve metrics on {host}, port {port} ({error.strerror}); "
            "choose others with --metrics-host and --metrics-port"
        ) from error
    stack.callback(thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    structlog.get_logger().info("metrics", address=f"{host}:{server.server_port}")


def _reload(settings: Settings, load: Callable[[], Settings], security: Security) -> None:
    """Reads again what may change while the server runs; what makes no sense is logged and stays as it was."""
    security.reload()
    try:
        new = load()
    except ValueError as error:
        structlog.get_logger().error("kept the settings", reason=str(error))
        return
    configure_logs(new.log_level, settings.log_json)
    changed = [name for name in Settings.model_fields if getattr(new, name) != getattr(settings, name)]
    waiting = [f"--{name.replace('_', '-')}" for name in changed if name != "log_level"]
    structlog.get_logger().warning("settings read again", log_level=new.log_level, need_a_restart=waiting)


def _stop(stopping: asyncio.Event, number: signal.Signals) -> None:
    if stopping.is_set() and number == signal.SIGINT:
        os._exit(130)  # asked twice: at once; raw data and workers die with the process
    stopping.set()
