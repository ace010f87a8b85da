"""An authority and what it certifies, made for the tests alone."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certified:
    """A PEM certificate and its private key."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """The two as files, the key for its owner alone; files that are there are replaced at once, the key first."""
        folder.mkdir(exist_ok=True)
        paths = folder / f"{name}.key", folder / f"{name}.pem"
        for path, content in zip(paths, (self.key, self.certificate), strict=True):
            made = path.with_suffix(".new")
            made.touch(0o600)
            made.write_bytes(content)
            made.replace(path)
        return paths[1], paths[0]


class Authority:
    """Certifies whom it is asked to."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.certificate = _pem(self._signed(self._name, self._key, DAY, x509.BasicConstraints(True, None)))

    def certify(self, name: str, hosts: tuple[str, ...] = (), until: datetime.timedelta = DAY) -> Certified:
        """A certificate that ends so long from now; for a server, it lists its hosts."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(host) for host in hosts]
        local = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] if "localhost" in hosts else []
        listed = x509.SubjectAlternativeName([*names, *local] or [x509.DNSName(name)])
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Certified(_pem(self._signed(_name(name), key, until, listed)), private)

    def _signed(self, subject, key, until, extension) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - 2 * DAY).not_valid_after(now + until)
        return builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
