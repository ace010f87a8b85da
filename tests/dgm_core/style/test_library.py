"""Bases by name and digest; files that are none say why, and hide no other."""

import os
import pickle
import zipfile

import pytest
import torch

from dgm_core.blobs import digest, pack, sealed, unpack
from dgm_core.errors import CannotLearn
from dgm_core.manifest import DataSpec
from dgm_core.style import library as libraries
from dgm_core.style.library import LARGEST, SHIPPED, SHIPPED_DIGESTS, Library
from tests.dgm_core.bases import IMAGE, random_base

MINE, OTHER = random_base("mine"), random_base("other", seed=1)


class Code:
    """Unpickling this would end the process."""

    def __reduce__(self):
        return (exit, (7,))


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Code()))


def described(base=MINE, **about):
    tensors, present = unpack(base.blob)
    return sealed(pack(tensors, {**present, **about}))


def relabelled(base=MINE, **design):
    return described(base, design={**unpack(base.blob)[1]["design"], **design})


def changed(name, value):
    tensors, about = unpack(MINE.blob)
    return pack({**tensors, name: torch.full_like(tensors[name], value)}, about)


def headed(text):
    """A file with this as its header."""
    return len(text).to_bytes(8, "little") + text


NO_BASES = {
    "text": (b"hello", "and there are 5"),
    "nothing": (b"", "and there are 0"),
    "a part of a base": (MINE.file[:-100], f"it says that it has {len(MINE.file)} bytes, and there are"),
    "more than a base at the end": (MINE.file + b"0", f"bytes, and there are {len(MINE.file) + 1}"),
    "the head of a base": (MINE.file[:100], "and there are 100"),
    "a header that is no JSON": (headed(b"hello"), "its description cannot be read"),
    "a header that is a list": (headed(b"[]"), "its description cannot be read"),
    "a header that nests": (headed(b"[" * 100_000), "its description cannot be read"),
    "a header without a description": (headed(b"{}"), "its description cannot be read"),
    "tensors that do not fit": (
        headed(b'{"__metadata__":{"about":"{}"},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,0]}}'),
        "its tensors do not lie as it says",
    ),
    "a pickle with code": (pickle.dumps(Code()), "a pickle, which may hold code"),
    "tensors that are no base": (
        sealed(pack({"x": MINE.score["weight"]}, {"format": 2})),
        "this is no base of format 1, but 2",
    ),
    "a base without a design": (
        sealed(pack({"x": MINE.score["weight"]}, {"format": 1})),
        "its description, or the names of its weights",
    ),
    "a description that is no table": (pack({"x": MINE.score["weight"]}, [1]), "its description is a list"),
    "a design that is no table": (described(design=[1]), "its description, or the names of its weights"),
    "a way of training that is no table": (described(trained=5), "its description, or the names of its weights"),
    "a base without weights": (sealed(pack({}, unpack(MINE.blob)[1])), "and there is nothing"),
    "widths that are none": (relabelled(widths=["a", "b"]), "no networks can be built by its design"),
    "other widths": (relabelled(widths=[16, 8]), "of shape (8, 1, 4, 4), and there is (4, 1, 4, 4)"),
    "a width of nothing": (
        relabelled(random_base(network="dense"), widths=[0]),
        "no networks can be built by its design",
    ),
    "less than no noise": (
        relabelled(random_base(network="gpgan"), noise=-1),
        "no networks can be built by its design",
    ),
    "a network that is none": (relabelled(network="telepathy"), "there is no network 'telepathy'"),
    "another shape": (relabelled(shape=[3, 8, 8]), "of shape (4, 3, 4, 4), and there is (4, 1, 4, 4)"),
    "weights that are no numbers": (sealed(changed("generator/head.bias", float("nan"))), "values that are no numbers"),
    "weights that are infinite": (
        sealed(changed("features/0.conv.weight", float("inf"))),
        "values that are no numbers",
    ),
    "more than a base": (
        sealed(pack({**unpack(MINE.blob)[0], "score/more": MINE.score["weight"].double()}, unpack(MINE.blob)[1])),
        "it holds more than a base does",
    ),
    "a base that does not say what it holds": (MINE.blob, f"holds {MINE.digest} and records no digest"),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(MINE.file)
    (tmp_path / "other.safetensors").write_bytes(OTHER.file)
    return tmp_path


def refusal(library, name, spec=IMAGE):
    with pytest.raises(CannotLearn) as caught:
        library.find(name, spec)
    assert caught.value.field == "options.base"
    return str(caught.value)


@pytest.mark.parametrize("name", ["mine", MINE.digest, MINE.digest[:8], MINE.digest[:30]])
def test_a_base_is_found_by_its_name_and_by_its_digest(folder, name):
    assert Library(folder).find(name, IMAGE) == (MINE.digest, MINE.blob)


@pytest.mark.parametrize("name", ["nobody", "min", MINE.digest[:7], "../mine", "mine.safetensors", "0" * 64])
def test_what_no_base_answers_to_is_refused_with_those_that_there_are(folder, name):
    says = refusal(Library(folder), name)
    assert repr(name) in says and "mine (1, 8, 8), other (1, 8, 8)" in says


def test_a_folder_that_is_not_there_holds_no_base(tmp_path):
    assert list(Library(tmp_path / "none")) == list(SHIPPED)


@pytest.mark.parametrize(("content", "why"), NO_BASES.values(), ids=NO_BASES)
def test_a_file_that_is_no_base_says_so_by_name_and_hides_no_other(folder, content, why):
    (folder / "broken.safetensors").write_bytes(content)
    library = Library(folder)
    assert library.find("mine", IMAGE)[0] == MINE.digest
    says = refusal(library, "broken")
    assert says.startswith("the base 'broken' cannot be used: broken.safetensors ")
    assert why in says and "`memory-server base train`" in says
    assert [file.problem in says for file in library if file.problem] == [True]


@pytest.mark.parametrize("length", [0, 7, 8, 9, 200, 1000, len(MINE.file) // 2, len(MINE.file) - 1])
def test_a_base_that_was_cut_anywhere_is_none_and_says_how_many_bytes_there_are(folder, length):
    (folder / "broken.safetensors").write_bytes(MINE.file[:length])
    says = refusal(Library(folder), "broken")
    assert "broken.safetensors is no base: this is no blob" in says and f"and there are {length};" in says


def test_a_pickle_is_called_one_and_never_opened(folder):
    zipped(folder / "zipped.safetensors")
    (folder / "plain.safetensors").write_bytes(pickle.dumps(Code()))
    for name in ("zipped", "plain"):
        assert "a pickle, which may hold code" in refusal(Library(folder), name)


def test_a_base_whose_file_begins_as_a_pickle_does_is_taken(folder):
    """It begins with the length of its description."""
    sources = (described(trained={"data": "x" * length}) for length in range(0, 512, 8))
    content = next(each for each in sources if each.startswith(b"\x80"))
    (folder / "long.safetensors").write_bytes(content)
    assert Library(folder).file("long").problem == ""


def test_a_file_that_cannot_be_read_is_listed_with_the_reason(folder):
    (folder / "gone.safetensors").symlink_to(folder / "nowhere")
    files = {file.path.name: file for file in Library(folder)}
    assert files["gone.safetensors"].problem == "gone.safetensors cannot be read (No such file or directory)"


@pytest.mark.timeout(20)
def test_what_is_no_regular_file_or_too_large_is_broken_and_is_not_read(folder):
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "folder.safetensors").mkdir()
    with (folder / "huge.safetensors").open("wb") as file:
        file.truncate(LARGEST + 1)
    problems = {file.path.stem: file.problem for file in Library(folder)}
    assert "pipe.safetensors is no base: it is no regular file" in problems["pipe"]
    assert problems["folder"] == "folder.safetensors cannot be read (Is a directory)"
    assert f"huge.safetensors is no base: it has {LARGEST + 1} bytes, and a base at most {LARGEST}" in problems["huge"]
    assert Library(folder).find("mine", IMAGE)[0] == MINE.digest


def test_a_base_whose_weights_or_description_were_changed_is_refused_with_both_digests(folder):
    library, path = Library(folder), folder / "mine.safetensors"
    assert library.find("mine", IMAGE)[0] == MINE.digest
    flipped = bytearray(MINE.file)
    flipped[-1] ^= 1
    for content in (bytes(flipped), MINE.file.replace(b"mine", b"mime"), MINE.file.replace(b"none", b"some")):
        assert content != MINE.file
        path.write_bytes(content)
        says = refusal(library, "mine")
        tensors, about = unpack(content)
        del about["sha256"]
        assert (
            f"mine.safetensors says {MINE.digest} and holds {digest(pack(tensors, about))}: the file was changed"
            in says
        )
        assert "no base" in refusal(library, MINE.digest)
    path.write_bytes(MINE.file)
    assert library.find("mine", IMAGE)[0] == MINE.digest


def test_a_changed_copy_of_a_shipped_base_is_refused_and_an_equal_one_is_not(folder):
    file = next(iter(SHIPPED))
    content = file.path.read_bytes()
    (folder / "copy.safetensors").write_bytes(content)
    assert Library(folder).find("copy", DataSpec(file.shape, "uint8"))[0] == file.digest
    middle = len(content) // 2
    torn = content[:middle] + bytes(20_000) + content[middle + 20_000 :]
    (folder / "copy.safetensors").write_bytes(torn)
    says = refusal(Library(folder), "copy", DataSpec(file.shape, "uint8"))
    assert f"copy.safetensors holds {digest(torn)} and records no digest" in says and file.digest in says


def test_a_sound_file_does_not_stand_in_for_a_broken_one_of_the_name(folder):
    (folder / "mine.safetensors").write_bytes(MINE.file[:-9])
    (folder / "copy.safetensors").write_bytes(MINE.file)
    assert "cannot be used: mine.safetensors is no base" in refusal(Library(folder), "mine")
    assert Library(folder).find(MINE.digest, IMAGE)[0] == MINE.digest


def test_a_base_answers_to_the_name_of_its_file_unless_another_does_too(folder):
    (folder / "mine.safetensors").rename(folder / "renamed.safetensors")
    for name in ("mine", "renamed"):
        assert Library(folder).find(name, IMAGE)[0] == MINE.digest
    (folder / "renamed.safetensors").rename(folder / "third.safetensors")
    (folder / "other.safetensors").rename(folder / "mine.safetensors")
    says = refusal(Library(folder), "mine")
    assert "several bases answer to 'mine'" in says and "third.safetensors" in says and "mine.safetensors" in says


def test_two_bases_of_one_name_are_told_apart_by_their_digests(folder):
    twin = random_base("mine", seed=2)
    (folder / "twin.safetensors").write_bytes(twin.file)
    says = refusal(Library(folder), "mine")
    assert all(part in says for part in (MINE.digest[:12], twin.digest[:12], "mine.safetensors", "twin.safetensors"))
    assert Library(folder).find(twin.digest[:12], IMAGE)[0] == twin.digest


def test_the_same_base_twice_is_one(folder):
    (folder / "copy.safetensors").write_bytes(MINE.file)
    assert Library(folder).find("mine", IMAGE)[0] == MINE.digest


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 64, 64), (6,)])
def test_a_base_that_does_not_fit_is_refused_with_both_sides(folder, shape):
    spec = DataSpec(shape, "uint8" if len(shape) == 3 else "float32")
    says = refusal(Library(folder), "mine", spec)
    assert "mine" in says and "(1, 8, 8)" in says and str(shape) in says


def test_a_memorys_own_base_answers_whatever_became_of_its_file(folder):
    library = Library(folder).ahead(MINE.blob)
    (folder / "mine.safetensors").write_bytes(random_base("mine", seed=3).file)
    for name in ("mine", "", MINE.digest[:10]):
        assert library.find(name, IMAGE)[0] == MINE.digest
    (folder / "mine.safetensors").unlink()
    assert library.find("mine", IMAGE) == (MINE.digest, MINE.blob)
    assert library.find("other", IMAGE)[0] == OTHER.digest


@pytest.mark.parametrize(
    ("shape", "fits"), [((1, 16, 16), "small (1, 16, 16)"), ((1, 64, 64), "large (1, 64, 64)"), ((1, 40, 40), "")]
)
def test_where_the_shipped_base_does_not_fit_those_that_do_are_named(folder, shape, fits):
    for name, side in (("small", 16), ("large", 64)):
        base = random_base(name, DataSpec((1, side, side), "uint8"))
        (folder / f"{name}.safetensors").write_bytes(base.file)
    says = refusal(Library(folder), "", DataSpec(shape, "uint8"))
    assert "cifar100-grey" in says and "(1, 32, 32)" in says and str(shape) in says
    assert says.endswith(f"; or name one that fits: {fits}" if fits else "(memory-server base train)")


def test_a_stored_base_with_weights_that_are_no_numbers_is_none():
    with pytest.raises(ValueError, match=r"generator/head\.bias holds values that are no numbers"):
        SHIPPED.ahead(changed("generator/head.bias", float("nan")))


def test_every_shipped_base_is_what_this_version_ships_small_and_found_without_a_name():
    assert {file.name: digest(file.path.read_bytes()) for file in SHIPPED} == SHIPPED_DIGESTS
    for file in SHIPPED:
        assert (file.problem, file.shipped, file.shape[1:]) == ("", True, (32, 32))
        assert file.nbytes <= 8_000_000
        assert SHIPPED.find("", DataSpec(file.shape, "uint8"))[0] == SHIPPED_DIGESTS[file.name]
        assert SHIPPED.find(file.name, DataSpec(file.shape, "uint8"))[0] == SHIPPED_DIGESTS[file.name]


@pytest.mark.parametrize("change", ["a byte", "cut", "resealed", "gone"])
def test_a_shipped_file_that_is_not_what_this_version_ships_is_broken(tmp_path, monkeypatch, change):
    colour, grey = SHIPPED
    content = grey.path.read_bytes()
    contents = {"a byte": content[:-1] + bytes([content[-1] ^ 1]), "cut": content[:-9], "resealed": sealed(content)}
    (tmp_path / colour.path.name).write_bytes(colour.path.read_bytes())
    if change != "gone":
        (tmp_path / grey.path.name).write_bytes(contents[change])
    monkeypatch.setattr(libraries, "_SHIPPED", tmp_path)
    problem = (
        "cifar100-grey.safetensors cannot be read (No such file or directory)"
        if change == "gone"
        else f"cifar100-grey.safetensors: the file holds {digest(contents[change])}, this version ships "
        f"{grey.digest}: reinstall the package"
    )
    assert [file.problem for file in SHIPPED] == ["", problem]
    for name in ("", "cifar100-grey"):
        assert f"base 'cifar100-grey' cannot be used: {problem}" in refusal(SHIPPED, name)
    assert SHIPPED.find("", DataSpec(colour.shape, "uint8"))[0] == colour.digest
