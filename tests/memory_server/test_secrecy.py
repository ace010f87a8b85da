import os
import secrets
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from memory_server.errors import CannotStart
from memory_server.secrecy import exposed, keep_private, named, remedy
from memory_server.security.following import private
from memory_server.security.tokens import PREFIX
from memory_server.store.sealing import BadKey, SealingKey

SERVICE, ROOT = 10001, 0


@pytest.mark.parametrize(
    ("owner", "mode", "mended"),
    [
        (SERVICE, 0o600, None),
        (SERVICE, 0o400, None),
        (SERVICE, 0o640, "0600"),
        (SERVICE, 0o604, "0600"),
        (ROOT, 0o600, None),
        (ROOT, 0o440, None),
        (ROOT, 0o640, None),
        (ROOT, 0o660, "0640"),
        (ROOT, 0o450, "0640"),
        (ROOT, 0o644, "0640"),
    ],
)
@pytest.mark.parametrize("process", [SERVICE, ROOT])
def test_a_secret_is_for_its_owner_or_handed_down_by_root_whoever_looks(monkeypatch, process, owner, mode, mended):
    monkeypatch.setattr(os, "geteuid", lambda: process)
    found = os.stat_result((0o100000 | mode, 1, 1, 1, owner, 10001, 64, 0, 0, 0))
    assert exposed(found) is (mended is not None)
    assert mended is None or remedy(Path("key"), found) == f"chmod {mended} key"


SECRETS = {
    "key": secrets.token_hex(32),
    "token": PREFIX + secrets.token_urlsafe(32),
    "PEM": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_secret_given_in_the_place_of_its_file_is_not_repeated(secret):
    with pytest.raises(CannotStart, match="looks like the secret itself") as refused:
        private(Path(secret), "--tls-key")
    assert secret not in str(refused.value)
    with pytest.raises(BadKey, match="looks like the secret itself") as refused:
        SealingKey.read(Path(secret))
    assert secret not in str(refused.value)


@pytest.mark.parametrize("path", ["key", "/run/secrets/memory-server-key-of-the-encryption-at-rest", "server.key"])
def test_a_file_is_named(path):
    assert named(Path(path)) == path


def fails(*_):
    raise PermissionError


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [(0o700, 0o700, []), (0o500, 0o500, []), (0o755, 0o700, ["0755"]), (0o2770, 0o2700, ["2770"])],
)
def test_a_directory_of_this_user_becomes_private(tmp_path, before, after, said):
    tmp_path.chmod(before)
    with capture_logs() as lines:
        keep_private(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == after
    assert [line["mode"] for line in lines] == said
    assert all("it is private now" in line["event"] for line in lines)


@pytest.mark.parametrize(
    "spoil", [(os, "geteuid", lambda: 10001), (Path, "chmod", fails)], ids=["another's", "no modes"]
)
def test_a_directory_that_cannot_be_made_private_is_a_warning(tmp_path, monkeypatch, spoil):
    tmp_path.chmod(0o755)
    with monkeypatch.context() as patch, capture_logs() as lines:
        patch.setattr(*spoil)
        keep_private(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert ["with mode 0700" in line["event"] for line in lines] == [True]
