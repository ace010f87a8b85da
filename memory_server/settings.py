"""What an operator may choose. Each setting is an environment variable too: MEMORY_SERVER_ and its name in capitals."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

ENVIRONMENT_PREFIX = "MEMORY_SERVER_"
KEY_VARIABLE = f"{ENVIRONMENT_PREFIX}ENCRYPTION_KEY"
"""The key itself: no setting, so that nothing that shows or logs settings has it."""
_MOST_TRAINERS = 8
_OWN_CONTROL_GROUP = Path("/proc/self/cgroup")
_CONTROL_GROUPS = Path("/sys/fs/cgroup")

_SERVER_BYTES = 512 << 20  # of the server itself, with a hundred streams
_LEAST_WORKER_BYTES = 1 << 30  # in which small images are learned

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class LogLevel(StrEnum):
    """How severe a message must be to be logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Settings(BaseSettings):
    """The server's settings: as given, else from the environment, else from the file that `config` names."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, frozen=True)

    config: Path | None = Field(
        None,
        description="TOML file of settings that are given neither here nor by the environment, named as the options: "
        "log_level = 'debug'. SIGHUP has it read again, and log_level followed.",
    )
    host: str = Field(
        "127.0.0.1", description="Address to listen on; beyond the loopback only with TLS, and tokens or certificates."
    )
    port: int = Field(50051, ge=0, le=65535, description="TCP port of the service; 0 picks a free one.")
    insecure_expose: bool = Field(
        False,
        description="Listen beyond the loopback although TLS, or tokens and client certificates, are not set up: "
        "whoever reaches the port can call, and who is on the way can read along.",
    )
    tls_cert: Path | None = Field(
        None, description="PEM certificate of the server and those up to its authority; with --tls-key: speak TLS."
    )
    tls_key: Path | None = Field(None, description="PEM private key of that certificate, mode 0600, no passphrase.")
    tokens: Path | None = Field(
        None, description="File of the tokens that clients need, as memory-server token writes it; unset: none needed."
    )
    audit_log: Path | None = Field(
        None,
        description="File of JSON lines, mode 0600: who learned, sampled, forgot what, and was refused; unset: none.",
    )
    tls_client_ca: Path | None = Field(
        None, description="PEM certificates of an authority: take only clients that have a certificate of it (mTLS)."
    )
    unix_socket: Path | None = Field(
        None, description="Unix socket to listen on as well, for this user's processes on this host; unset: none."
    )
    shared_memory: bool = Field(
        True,
        description="Put samples into memory that clients of this user on this host share, instead of sending them.",
    )
    data_dir: Path = Field(Path("memory-data"), description="Directory of all that is kept; made if it is not there.")
    encryption_key_file: Path | None = Field(
        None,
        description="File of mode 0600 with the key that encrypts what is kept, 64 hexadecimal digits; the environment "
        "variable MEMORY_SERVER_ENCRYPTION_KEY may hold the key itself instead. Unset: nothing is encrypted.",
    )
    device: str = Field("auto", description="Where to compute: cpu, cuda, cuda:1, ...; auto: CUDA if there is any.")
    ingest_budget_bytes: int = Field(
        2 << 30, gt=0, description="Bytes of raw data that tasks not learned yet may hold together, in memory only."
    )
    upload_idle_seconds: float = Field(
        120.0, gt=0, description="Seconds for which an upload may pause before it is ended and its data wiped."
    )
    upload_seconds: float = Field(
        600.0,
        gt=0,
        description="Seconds that an upload may take, and one more for each 64 KiB of it, before it is ended likewise.",
    )
    max_queue: int = Field(64, gt=0, description="Tasks that may be arriving, queued or learning at one time.")
    client_ingest_share: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Share of the ingest budget, and of the places in the queue, that one client may hold.",
    )
    client_streams: int = Field(
        1000, gt=0, description="Streams of samples, and of what becomes of tasks, that one client may have open."
    )
    client_calls: int = Field(
        100, gt=0, description="Uploads, imports, exports and calls of Classify that one client may have open."
    )
    max_samples_per_request: int = Field(1_000_000, gt=0, description="Largest n of one Sample call, in rows.")
    max_message_bytes: int = Field(
        4 << 20, ge=64 << 10, description="Largest message that the server accepts, in bytes."
    )
    expert_cache_bytes: int = Field(1 << 30, gt=0, description="Bytes of generators kept ready on the device.")
    sampling_threads: int = Field(
        0, ge=0, description="Threads that sample; 0: half of the cores, but one on a CUDA device."
    )
    learners: int = Field(
        0,
        ge=0,
        description="Tasks that may learn at one time, each in a process of its own: of several memories, or of one "
        "whose kind learns side by side. 0: two, but one on a CUDA device or a single core.",
    )
    training_threads: int = Field(
        0,
        ge=0,
        description="Threads of a process that learns; 0: all cores but one, shared by the learners; at most 8.",
    )
    checkpoint_seconds: float = Field(
        0.0,
        ge=0,
        description="Seconds after which the training of a task is put down, sealed by the encryption key, so that the "
        "task goes on from there when it is sent again after a crash; 0: never.",
    )
    sleep_when_idle: float = Field(
        0.0,
        ge=0,
        description="Seconds without a task to learn after which memories that hold tasks apart consolidate them, one "
        "after the other; 0: only when they have to, or are asked to.",
    )
    worker_memory_bytes: int = Field(
        0,
        ge=0,
        description="Bytes of memory that a process that learns may fill, its data included, before its task fails; "
        "0: what the machine or the server's control group has, less 512 MiB for the server, the ingest budget and the "
        "expert cache, shared by the learners; at least 1 GiB.",
    )
    task_seconds_limit: float = Field(
        0.0, ge=0, description="Seconds that a task may take to learn before it fails; 0: no limit."
    )
    worker_silence_seconds: float = Field(
        300.0, gt=0, description="Seconds without a sign of life after which a process that learns is taken to hang."
    )
    learning_share: float = Field(
        0,
        ge=0,
        le=1,
        description="Share of the device that learning keeps while samples are waited for; 1: it never pauses; "
        "0: a half of a CUDA device, and 1 on processors, which the kernel shares: workers are nice.",
    )
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="Port of the Prometheus metrics; 0 picks one; unset: none."
    )
    metrics_host: str = Field(
        "127.0.0.1",
        description="Address of the metrics, for --metrics-port: plain HTTP that names memories, no data; beyond the "
        "loopback only with --insecure-expose-metrics.",
    )
    insecure_expose_metrics: bool = Field(
        False,
        description="Serve the metrics beyond the loopback: whoever reaches their port learns how memories are called, "
        "and how much they are used.",
    )
    trace_endpoint: str = Field(
        "",
        pattern="^(https?://.+)?$",
        description="OTLP gRPC collector that gets OpenTelemetry traces, such as http://host:4317; unset: none.",
    )
    tensorboard_dir: Path | None = Field(
        None, description="Directory for TensorBoard curves of training: losses and metrics by step; unset: none."
    )
    stuck_seconds: float = Field(
        600.0,
        gt=0,
        description="Seconds after which a running task that makes no progress is called stuck by health checks.",
    )
    log_level: LogLevel = Field(LogLevel.INFO, description="Least severe messages to log.")
    log_json: bool | None = Field(None, description="Log JSON lines; unset: unless standard error is a terminal.")
    grace_seconds: float = Field(10.0, ge=0, description="Seconds that running calls get to end at shutdown.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - named by pydantic
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where settings come from, the first that has one wins."""
        file = {**env_settings(), **init_settings()}.get("config")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)

    @property
    def exposed(self) -> bool:
        """Whether others than this machine could reach the server."""
        return self.host not in _LOOPBACK

    @property
    def metrics_exposed(self) -> bool:
        """Whether others than this machine could read the metrics."""
        return self.metrics_port is not None and self.metrics_host not in _LOOPBACK

    @property
    def address(self) -> str:
        """Host and port as gRPC writes them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def samplers(self, cuda: bool) -> int:
        """How many threads sample."""
        return self.sampling_threads or (1 if cuda else max(1, _cores() // 2))

    def workers(self, cuda: bool) -> int:
        """How many tasks may learn at one time."""
        return self.learners or (1 if cuda else min(2, _cores()))

    def trainers(self, cuda: bool) -> int:
        """How many threads a process that learns has."""
        # One core stays free for sampling: threads that wait for a busy core slow every training step down. The share
        # does not depend on who learns now, or the same data would give other weights beside another task.
        return self.training_threads or max(1, min(_MOST_TRAINERS, (_cores() - 1) // self.workers(cuda)))

    def worker_bytes(self, cuda: bool) -> int:
        """What each process that learns may fill: all of them together what the server itself leaves."""
        # What they fill beyond is for the kernel to end, which may end the server with them.
        left = (_memory_bytes() - self._own_bytes) // self.workers(cuda)
        return self.worker_memory_bytes or max(left, _LEAST_WORKER_BYTES)

    def missing_bytes(self, cuda: bool) -> int:
        """What the server and all processes that learn may fill together beyond what there is."""
        return max(0, self._own_bytes + self.workers(cuda) * self.worker_bytes(cuda) - _memory_bytes())

    @property
    def _own_bytes(self) -> int:
        return _SERVER_BYTES + self.ingest_budget_bytes + self.expert_cache_bytes

    def learners_share(self, cuda: bool) -> float:
        """What learning keeps of the device while samples are waited for."""
        return self.learning_share or (0.5 if cuda else 1.0)


def load(chosen: Mapping[str, Any]) -> Settings:
    """The settings of a server.

    Arguments:
        chosen: those that were given; the others come from the environment and from the file of `config`.

    Raises:
        ValueError: settings are malformed, or the file cannot be used; the message names each, in one line.
    """
    given = {name: f"--{name.replace('_', '-')}" for name, value in chosen.items() if value is not None}
    named = chosen.get("config") or os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    file = None if named is None else Path(named)
    if file is not None and not file.is_file():
        raise ValueError(f"--config {file}: there is no such file; name one that the server may read")
    if unknown := _unknown_variables():  # one for the key, misspelt, would leave all in plain
        raise ValueError(f"{unknown[0]}: there is no such setting; memory-server serve --help lists them")
    try:
        return Settings(**chosen)
    except ValidationError as error:
        raise ValueError(" | ".join(_problem(dict(problem), given, file) for problem in error.errors())) from None
    except (OSError, ValueError) as error:  # of TOML, which says the line
        raise ValueError(f"--config {file}: {error}") from None


def _problem(problem: Mapping[str, Any], given: Mapping[str, str], file: Path | None) -> str:
    """What is wrong with a setting, by the name that it has where it was set."""
    name = str(problem["loc"][0])
    if name not in Settings.model_fields:  # never repeats a value: it may be a key that belongs elsewhere
        if isinstance(problem["input"], dict):
            return f"{file}: [{name}]: settings stand in no table; leave that line out"
        near = get_close_matches(name.replace("-", "_"), Settings.model_fields, n=1)
        fix = f"write {near[0]}" if near else "memory-server serve --help lists them, with - for _"
        return f"{file}: {name}: no such setting; {fix}"
    variable = f"{ENVIRONMENT_PREFIX}{name.upper()}"
    where = given.get(name) or (variable if variable in os.environ else f"{file}: {name}")
    return f"{where} {problem['input']}: {problem['msg']}"


def _unknown_variables() -> list[str]:
    """What the environment sets for a server and no server knows."""
    known = {f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in Settings.model_fields} | {KEY_VARIABLE}
    return sorted(name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _memory_bytes() -> int:
    """What the machine has, or a control group around this process if that is less."""
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_limits_of_control_groups()])


def _limits_of_control_groups() -> Iterator[int]:
    """From that of this process to the outermost, which is its own as a container sees it."""
    groups = []
    with suppress(OSError):  # a kernel without them
        groups = _OWN_CONTROL_GROUP.read_text().splitlines()
    own = next((line.removeprefix("0::") for line in groups if line.startswith("0::")), "/")
    group = _CONTROL_GROUPS / own.lstrip("/")
    for each in (group, *group.parents):
        with suppress(OSError, ValueError):  # no control group, or "max"
            yield int((each / "memory.max").read_text())
