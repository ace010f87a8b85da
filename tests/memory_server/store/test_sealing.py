import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_server.settings import KEY_VARIABLE
from memory_server.store.sealing import BadKey, SealingKey, Unsealable, configured_key


@given(content=st.binary(max_size=200), context=st.text(max_size=20))
def test_what_is_sealed_comes_back_and_cannot_be_read(content, context):
    key = SealingKey.new()
    sealed = key.seal(content, context)

    assert key.unseal(sealed, context) == content
    assert len(sealed) == len(content) + 28
    assert not content[:16] or len(content) < 16 or content[:16] not in sealed


def test_the_same_content_is_sealed_differently_each_time():
    key = SealingKey.new()
    assert key.seal(b"content", "a") != key.seal(b"content", "a")


@given(at=st.integers(0, 34), bit=st.integers(0, 7))
def test_a_flipped_bit_another_key_or_another_context_is_noticed(at, bit):
    key = SealingKey.new()
    sealed = bytearray(key.seal(b"content", "a"))
    with pytest.raises(Unsealable, match="b cannot be unsealed"):
        key.unseal(bytes(sealed), "b")
    with pytest.raises(Unsealable):
        SealingKey.new().unseal(bytes(sealed), "a")
    sealed[at] ^= 1 << bit
    with pytest.raises(Unsealable):
        key.unseal(bytes(sealed), "a")


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(12)])
def test_what_was_never_sealed_is_noticed(sealed):
    with pytest.raises(Unsealable):
        SealingKey.new().unseal(sealed, "a")


def test_a_key_file_is_private_hexadecimal_and_not_repeated(tmp_path):
    key, path = SealingKey.new(), tmp_path / "key"
    path.write_text(key.secret.hex() + "\n")
    path.chmod(0o600)
    assert SealingKey.read(path).secret == key.secret
    assert key.secret.hex() not in repr(key)

    path.chmod(0o644)
    with pytest.raises(BadKey, match=r"chmod 06[04]0"):
        SealingKey.read(path)
    with pytest.raises(BadKey, match="cannot be read"):
        SealingKey.read(tmp_path / "none")


@pytest.mark.parametrize("text", ["", "ab", "x" * 64, "00" * 31, "00" * 33])
def test_a_malformed_key_is_refused_without_repeating_it(text):
    with pytest.raises(BadKey) as refused:
        SealingKey.from_text(text)
    assert not text or text not in str(refused.value)


def test_the_key_of_an_operator_is_in_a_file_or_in_the_environment_but_not_in_both(tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    path, kept, exported = tmp_path / "key", SealingKey.new(), SealingKey.new()
    path.write_text(kept.secret.hex())
    path.chmod(0o600)
    assert configured_key(None) is None
    assert configured_key(path).secret == kept.secret

    monkeypatch.setenv(KEY_VARIABLE, exported.secret.hex())
    assert configured_key(None).secret == exported.secret
    with pytest.raises(BadKey, match=f"two encryption keys.*{KEY_VARIABLE}"):
        configured_key(path)
