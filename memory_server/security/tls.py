"""The server's end of TLS: its certificate, and the authority whose clients it takes."""

import datetime
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog
from cryptography import x509

from memory_server.errors import CannotStart
from memory_server.security.following import Following, private, public

_RENEW_WITHIN = datetime.timedelta(days=14)


@dataclass(frozen=True)
class TlsFiles:
    """Where the parts of TLS are, all PEM.

    Arguments:
        certificate: of the server, followed by those that lead to its authority.
        key: its private key, without a passphrase and for its owner alone.
        client_ca: certificates of the authorities whose clients are taken; None takes clients without a certificate.
    """

    certificate: Path
    key: Path
    client_ca: Path | None

    @classmethod
    def chosen(cls, certificate: Path | None, key: Path | None, client_ca: Path | None) -> "TlsFiles | None":
        """What an operator chose, None for no TLS. Raises CannotStart if a part is missing."""
        if certificate is not None and key is not None:
            return cls(certificate, key, client_ca)
        if (certificate, key, client_ca) != (None, None, None):
            raise CannotStart("TLS needs both --tls-cert and --tls-key; --tls-client-ca goes with them")
        return None


class Tls:
    """The server's end of TLS. Raises CannotStart: a file cannot be read, or certificate and key are no pair."""

    def __init__(self, files: TlsFiles) -> None:
        self._strict = files.client_ca is not None
        paths = [files.certificate, files.key, *([files.client_ca] if files.client_ca else [])]
        self.followed = Following(paths, lambda: _configuration(files))

    def credentials(self, begun: Callable[[], None]) -> grpc.ServerCredentials:
        """For a port. Every new connection gets the certificates that the files hold then.

        Arguments:
            begun: told of each connection before its handshake, of whose outcome gRPC tells in its log alone.
        """

        def configuration() -> grpc.ServerCertificateConfiguration:
            begun()
            return self.followed.value

        return grpc.dynamic_ssl_server_credentials(
            self.followed.value, configuration, require_client_authentication=self._strict
        )


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    chain = public(files.certificate, "--tls-cert")
    key = private(files.key, "--tls-key")
    roots = public(files.client_ca, "--tls-client-ca") if files.client_ca else None
    _check_pair(files)
    _announce(chain, files.certificate)
    if files.client_ca and roots is not None:
        _certificates(roots, "--tls-client-ca", files.client_ca)
    return grpc.ssl_server_certificate_configuration([(key, chain)], roots)


def _check_pair(files: TlsFiles) -> None:
    # gRPC takes any pair without a word, and then fails every handshake.
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key, lambda: "")
    except (ssl.SSLError, OSError) as error:
        raise CannotStart(
            f"--tls-cert {files.certificate} and --tls-key {files.key} are no pair of a PEM certificate and its "
            f"private key without a passphrase ({error.strerror}); name a pair that belongs together"
        ) from None


def _announce(chain: bytes, path: Path) -> None:
    own = _certificates(chain, "--tls-cert", path)[0]
    left = own.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    tell = structlog.get_logger().warning if left < _RENEW_WITHIN else structlog.get_logger().info
    tell("tls certificate", subject=own.subject.rfc4514_string(), valid_until=own.not_valid_after_utc.isoformat())


def _certificates(pem: bytes, option: str, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise CannotStart(f"{option} {path}: it holds no PEM certificate; name one that does") from None
