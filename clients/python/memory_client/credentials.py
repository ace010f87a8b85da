"""What a client shows to a server and expects of it: a token, certificates."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from memory_client._shared import is_local
from memory_client.errors import InvalidInput

PEM = str | Path | bytes
"""PEM certificates or a PEM key: the path of a file, or, as bytes, the content itself."""

Metadata = tuple[tuple[str, str], ...]

_BEGIN = b"-----BEGIN "


@dataclass(frozen=True, repr=False)
class Credentials:
    """Secrets travel with it where it is pickled, and are in no text that it or its errors give.

    Arguments:
        metadata: of every call: the token.
        ca: PEM certificates of the authorities that the server's own may come from; None speaks plaintext.
        certificate, key: of the client, PEM; None for none.
    """

    metadata: Metadata = ()
    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None

    @classmethod
    def read(
        cls, target: str, token: str | None, ca: PEM | None, certificate: PEM | None, key: PEM | None
    ) -> "Credentials":
        """Reads files and checks that the parts go together.

        Raises:
            InvalidInput: they do not, a file cannot be read or is not PEM, or a token would be sent to another host in
                plaintext.
        """
        if (certificate is None) != (key is None):
            raise InvalidInput("certificate and key belong together: pass both, or neither")
        if certificate is not None and ca is None:
            raise InvalidInput("a client certificate needs TLS: pass ca=, the authority of the server's certificate")
        if token is not None and ca is None and not is_local(target):
            raise InvalidInput(
                f"the token would cross the network to {target} in plaintext: pass ca= to speak TLS, or reach the "
                "server through a tunnel on localhost"
            )
        return cls(
            () if token is None else (("authorization", f"Bearer {_token(token)}"),),
            _pem(ca, "ca"),
            _pem(certificate, "certificate"),
            _pem(key, "key"),
        )

    def __repr__(self) -> str:
        return f"Credentials(token={bool(self.metadata)}, tls={self.ca is not None}, mtls={self.key is not None})"

    @property
    def channel(self) -> grpc.ChannelCredentials | None:
        """For a channel; None for plaintext."""
        return None if self.ca is None else grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)

    def bearing(self, channel: Any) -> Any:
        """A channel, synchronous or not, whose every call carries the token; the channel itself where there is none."""
        return _Bearing(channel, self.metadata) if self.metadata else channel


class _Bearing:
    # gRPC's own way, call credentials, takes TLS for granted, which a Unix socket does without.
    def __init__(self, channel: Any, metadata: Metadata) -> None:
        self._channel = channel
        self._metadata = metadata

    def __getattr__(self, arity: str) -> Any:
        make = getattr(self._channel, arity)
        return lambda *given, **named: _Method(make(*given, **named), self._metadata)


class _Method:
    def __init__(self, method: Any, metadata: Metadata) -> None:
        self._method = method
        self._metadata = metadata

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._method(*given, metadata=self._metadata, **named)

    def future(self, *given: Any) -> Any:
        return self._method.future(*given, metadata=self._metadata)


def _token(token: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInput("the token is empty or malformed: pass it as `memory-server token add` printed it")
    return token


def _pem(given: PEM | None, name: str) -> bytes | None:
    if given is None:
        return None
    if not isinstance(given, bytes) and _BEGIN.decode() in str(given):
        raise InvalidInput(f"{name} is the PEM itself as text: pass a path, or the PEM as bytes")
    try:
        content = given if isinstance(given, bytes) else Path(given).read_bytes()
    except OSError as error:
        reason = f"{name}={str(given)!r} cannot be read ({error.strerror})"
        raise InvalidInput(f"{reason}: pass a PEM file, or its bytes") from None
    if _BEGIN not in content:
        where = "the bytes" if isinstance(given, bytes) else repr(str(given))
        raise InvalidInput(f"{name}: {where} is not PEM, which begins with '{_BEGIN.decode()}...'")
    return content
