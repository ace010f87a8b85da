"""What gRPC says of a connection that was not made, in words that help."""

_BROKEN = {
    "certificate has expired": "its certificate has expired and must be renewed, or this host's clock is wrong",
    "certificate is not yet valid": "its certificate is not valid yet, or this host's clock is wrong",
    "CERTIFICATE_VERIFY_FAILED": "its certificate comes from no authority in ca; pass the one that it comes from",
    "Hostname Verification Check failed": (
        "its certificate is not for this host; use a name or address that the certificate lists, or have this one added"
    ),
    "WRONG_VERSION_NUMBER": "what answers speaks plaintext; leave ca out, or have the server started with --tls-cert",
    "Failed to create security handshaker": (
        "ca, certificate or key cannot be used; each must be PEM, and the key that of the certificate"
    ),
}
"""Part of gRPC's text -> what is wrong and what to do. The first that fits counts."""

_NO_CONNECTION = "failed to connect"
_DENIED = "Permission denied"
_CLOSED = ("Socket closed", "Connection reset", "Broken pipe")
_DOUBT = (
    "the server closed the connection at once. If it speaks TLS, pass ca=; if it takes only clients with a "
    "certificate, pass certificate= and key=, of an authority that it knows and not expired"
)


def broken(text: str) -> str:
    """What is wrong with TLS, beyond doubt: trying again would not help. Empty if it is something else."""
    return next((why for part, why in _BROKEN.items() if part in text), "")


def forbidden(text: str, target: str) -> bool:
    """Whether it is a Unix socket that this process may not connect to."""
    return target.startswith("unix:") and _DENIED in text


def doubted(text: str) -> str:
    """The text, in better words if the server hung up before any call: it says no more to clients that it refuses."""
    hung_up = _NO_CONNECTION in text and any(part in text for part in _CLOSED)
    return _DOUBT if hung_up else text
