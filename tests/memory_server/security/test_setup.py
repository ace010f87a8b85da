"""What a server asks for before it listens, and which files it takes."""

import pytest

from memory_server.errors import CannotStart
from memory_server.security.setup import refuse_strangers, secured
from memory_server.settings import Settings
from tests.certificates import DAY, Authority

TLS = {"tls_cert": "cert", "tls_key": "key"}


@pytest.fixture(scope="module")
def authority():
    return Authority("ca")


@pytest.fixture
def files(authority, tmp_path):
    """The settings of TLS, with files that are as they should be."""
    cert, key = authority.certify("server", ("localhost",)).write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    return {"tls_cert": cert, "tls_key": key, "tls_client_ca": tmp_path / "ca.pem"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "memory.example"])
@pytest.mark.parametrize(
    ("chosen", "missing"),
    [
        ({}, ["--tls-cert and --tls-key", "--tokens"]),
        ({"tokens": "t"}, ["--tls-cert and --tls-key"]),
        (TLS, ["--tokens, or with --tls-client-ca"]),
        ({**TLS, "tokens": "t"}, []),
        ({**TLS, "tls_client_ca": "ca"}, []),
        ({"insecure_expose": True}, []),
    ],
)
def test_beyond_the_loopback_it_takes_encryption_and_a_way_to_know_who_calls(host, chosen, missing):
    refuse_strangers(Settings(**chosen))
    if not missing:
        return refuse_strangers(Settings(host=host, **chosen))
    with pytest.raises(CannotStart, match=f"refusing to listen on {host}") as caught:
        refuse_strangers(Settings(host=host, **chosen))
    assert all(option in str(caught.value) for option in missing)
    return None


def test_metrics_beyond_the_loopback_are_asked_for_by_name():
    refuse_strangers(Settings(metrics_host="0.0.0.0"))  # none without a port
    refuse_strangers(Settings(metrics_port=0))
    for host in ("0.0.0.0", "::", "", "10.0.0.7"):
        exposed = {"metrics_host": host, "metrics_port": 0}
        for wanted in ({}, {"insecure_expose": True}, {**TLS, "tokens": "t"}):
            with pytest.raises(CannotStart, match=r"refusing to serve metrics on .*--insecure-expose-metrics"):
                refuse_strangers(Settings(**exposed, **wanted))
        refuse_strangers(Settings(**exposed, insecure_expose_metrics=True))


def test_files_that_are_as_they_should_be_are_taken(files):
    with secured(Settings(**files)) as security:
        assert security.credentials is not None
        security.reload()
    with secured(Settings()) as security:
        assert security.credentials is None


@pytest.mark.parametrize("missing", ["tls_cert", "tls_key"])
def test_half_of_a_pair_is_refused(files, missing):
    with (
        pytest.raises(CannotStart, match="needs both --tls-cert and --tls-key"),
        secured(Settings(**{**files, missing: None})),
    ):
        pass


def mismatched(authority, files):
    files["tls_key"] = authority.certify("other").write(files["tls_key"].parent, "other")[1]
    return "are no pair of a PEM certificate and its private key"


def open_key(_, files):
    files["tls_key"].chmod(0o644)
    return "--tls-key .*: its mode is 0644, so others may use it; chmod 06[04]0"


def no_authority(_, files):
    files["tls_client_ca"].write_text("nothing")
    return "--tls-client-ca .*: it holds no PEM certificate"


def no_file(_, files):
    files["tls_cert"].unlink()
    return "--tls-cert .*: No such file or directory"


@pytest.mark.parametrize("spoil", [mismatched, open_key, no_authority, no_file])
def test_what_would_fail_every_handshake_is_refused_at_the_start_and_kept_out_later(authority, files, spoil):
    with secured(Settings(**files)) as security:
        before = security.tls.followed.value
        said = spoil(authority, changed := dict(files))
        with pytest.raises(CannotStart, match=said), secured(Settings(**changed)):
            pass
        security.reload()
        assert changed != files or security.tls.followed.value is before


def test_a_certificate_that_ends_soon_is_a_warning(authority, files, capfd):
    authority.certify("server", ("localhost",), 20 * DAY).write(files["tls_cert"].parent, "server")
    with secured(Settings(**files)):
        assert "warning" not in capfd.readouterr().out.lower()
    authority.certify("server", ("localhost",), DAY).write(files["tls_cert"].parent, "server")
    with secured(Settings(**files)):
        assert "tls certificate" in (said := capfd.readouterr().out) and "warning" in said
