"""What secures one server, put together from its settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from memory_server.errors import CannotStart
from memory_server.security import tokens
from memory_server.security.audit import AuditLog
from memory_server.security.following import Following
from memory_server.security.tls import Tls, TlsFiles
from memory_server.security.tokens import Tokens
from memory_server.settings import Settings


@dataclass(frozen=True)
class Security:
    """Each part is None where it was not asked for.

    Arguments:
        tokens: whose holders may call.
        tls: for the TCP port.
        audit: what is told of calls.
    """

    tokens: Following[Tokens] | None
    tls: Tls | None
    audit: AuditLog | None

    @property
    def credentials(self) -> grpc.ServerCredentials | None:
        """Of the TCP port, None for plaintext. The audit log is told of every connection that begins."""
        if self.tls is None:
            return None
        return self.tls.credentials(lambda: None if self.audit is None else self.audit.tell("connect"))

    def reload(self) -> None:
        """Reads all files again and goes on in a new audit log; what is wrong is logged, and stays as it was."""
        if self.tokens is not None:
            self.tokens.reread()
        if self.tls is not None:
            self.tls.followed.reread()
        if self.audit is not None:
            try:
                self.audit.reopen()
            except CannotStart as error:
                structlog.get_logger().error("kept the audit log that was open", reason=str(error))


@contextmanager
def secured(settings: Settings) -> Iterator[Security]:
    """What the settings ask for. Raises CannotStart if a file cannot be used."""
    files = TlsFiles.chosen(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    audit = None if settings.audit_log is None else AuditLog(settings.audit_log)
    try:
        yield Security(_followed(settings.tokens), None if files is None else Tls(files), audit)
    finally:
        if audit is not None:
            audit.close()


def refuse_strangers(settings: Settings) -> None:
    """Raises CannotStart unless only those who may can call from elsewhere, and nobody on the way can read along.

    The metrics are plain and for whoever asks: beyond the loopback the operator must want them so.
    """
    if settings.metrics_exposed and not settings.insecure_expose_metrics:
        raise CannotStart(
            f"refusing to serve metrics on {settings.metrics_host}, where strangers could read the names of memories: "
            "keep to 127.0.0.1; or let the network say who reaches them, and accept the rest with "
            "--insecure-expose-metrics"
        )
    if not settings.exposed or settings.insecure_expose:
        return
    missing = []
    if settings.tls_cert is None:
        missing.append("encrypt with --tls-cert and --tls-key")
    if settings.tls_client_ca is None and settings.tokens is None:
        missing.append("say who may call with --tokens, or with --tls-client-ca")
    if missing:
        raise CannotStart(
            f"refusing to listen on {settings.host}, where strangers could call or read along: {' and '.join(missing)};"
            " or keep to 127.0.0.1 and tunnel; or accept the risk with --insecure-expose"
        )


def _followed(path: Path | None) -> Following[Tokens] | None:
    return None if path is None else Following([path], lambda: tokens.read(path))
