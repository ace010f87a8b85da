"""Bases by name and digest; files that are none say why, and hide no other."""

import pickle
import zipfile

import pytest
import torch

from dgm_core.blobs import pack, unpack
from dgm_core.errors import CannotLearn
from dgm_core.manifest import DataSpec
from dgm_core.style.library import SHIPPED, Library
from tests.dgm_core.bases import IMAGE, random_base

MINE, OTHER = random_base("mine"), random_base("other", seed=1)


class Code:
    """Unpickling this would end the process."""

    def __reduce__(self):
        return (exit, (7,))


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Code()))


def relabelled(base=MINE, **design):
    tensors, about = unpack(base.blob)
    return pack(tensors, {**about, "design": {**about["design"], **design}})


def changed(name, value):
    tensors, about = unpack(MINE.blob)
    return pack({**tensors, name: torch.full_like(tensors[name], value)}, about)


NO_BASES = {
    "text": b"hello",
    "nothing": b"",
    "a part of a base": MINE.blob[:-100],
    "the head of a base": MINE.blob[:100],
    "a pickle with code": pickle.dumps(Code()),
    "tensors that are no base": pack({"x": MINE.score["weight"]}, {"format": 1}),
    "a description that is no table": pack({"x": MINE.score["weight"]}, [1]),
    "a base without weights": pack({}, unpack(MINE.blob)[1]),
    "widths that are none": relabelled(widths=["a", "b"]),
    "other widths": relabelled(widths=[16, 8]),
    "a width of nothing": relabelled(random_base(network="dense"), widths=[0]),
    "less than no noise": relabelled(random_base(network="gpgan"), noise=-1),
    "a network that is none": relabelled(network="telepathy"),
    "another shape": relabelled(shape=[3, 8, 8]),
    "weights that are no numbers": changed("generator/head.bias", float("nan")),
    "weights that are infinite": changed("features/0.conv.weight", float("inf")),
    "more than a base": pack(
        {**unpack(MINE.blob)[0], "score/more": MINE.score["weight"].double()}, unpack(MINE.blob)[1]
    ),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(MINE.blob)
    (tmp_path / "other.safetensors").write_bytes(OTHER.blob)
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


@pytest.mark.parametrize("content", NO_BASES.values(), ids=NO_BASES)
def test_a_file_that_is_no_base_says_so_by_name_and_hides_no_other(folder, content):
    (folder / "broken.safetensors").write_bytes(content)
    library = Library(folder)
    assert library.find("mine", IMAGE)[0] == MINE.digest
    says = refusal(library, "broken")
    assert says.startswith("the base 'broken' cannot be used: broken.safetensors ")
    assert [file.problem in says for file in library if file.problem] == [True]


@pytest.mark.parametrize("length", [0, 7, 8, 9, 200, 1000, len(MINE.blob) // 2, len(MINE.blob) - 1])
def test_a_base_that_was_cut_anywhere_is_none(folder, length):
    (folder / "broken.safetensors").write_bytes(MINE.blob[:length])
    assert "broken.safetensors is no base: this is no blob" in refusal(Library(folder), "broken")


def test_a_pickle_is_called_one_and_never_opened(folder):
    zipped(folder / "zipped.safetensors")
    (folder / "plain.safetensors").write_bytes(pickle.dumps(Code()))
    for name in ("zipped", "plain"):
        assert "a pickle, which may hold code" in refusal(Library(folder), name)


def test_a_file_that_cannot_be_read_is_listed_with_the_reason(folder):
    (folder / "gone.safetensors").symlink_to(folder / "nowhere")
    files = {file.path.name: file for file in Library(folder)}
    assert files["gone.safetensors"].problem == "gone.safetensors cannot be read (No such file or directory)"


def test_a_base_that_was_changed_is_another_base(folder):
    library = Library(folder)
    assert library.find("mine", IMAGE)[0] == MINE.digest
    changed = bytearray(MINE.blob)
    changed[-1] ^= 1
    (folder / "mine.safetensors").write_bytes(changed)
    assert library.find("mine", IMAGE)[0] != MINE.digest
    assert "no base" in refusal(library, MINE.digest)


def test_two_bases_of_one_name_are_told_apart_by_their_digests(folder):
    twin = random_base("mine", seed=2)
    (folder / "twin.safetensors").write_bytes(twin.blob)
    says = refusal(Library(folder), "mine")
    assert all(part in says for part in (MINE.digest[:12], twin.digest[:12], "mine.safetensors", "twin.safetensors"))
    assert Library(folder).find(twin.digest[:12], IMAGE)[0] == twin.digest


def test_the_same_base_twice_is_one(folder):
    (folder / "copy.safetensors").write_bytes(MINE.blob)
    assert Library(folder).find("mine", IMAGE)[0] == MINE.digest


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 64, 64), (6,)])
def test_a_base_that_does_not_fit_is_refused_with_both_sides(folder, shape):
    spec = DataSpec(shape, "uint8" if len(shape) == 3 else "float32")
    says = refusal(Library(folder), "mine", spec)
    assert "mine" in says and "(1, 8, 8)" in says and str(shape) in says


def test_a_memorys_own_base_answers_whatever_became_of_its_file(folder):
    library = Library(folder).ahead(MINE.blob)
    (folder / "mine.safetensors").write_bytes(random_base("mine", seed=3).blob)
    for name in ("mine", "", MINE.digest[:10]):
        assert library.find(name, IMAGE)[0] == MINE.digest
    (folder / "mine.safetensors").unlink()
    assert library.find("mine", IMAGE) == (MINE.digest, MINE.blob)
    assert library.find("other", IMAGE)[0] == OTHER.digest


def test_every_shipped_base_is_sound_small_and_found_without_a_name():
    for file in SHIPPED:
        assert (file.problem, file.shipped, file.shape[1:]) == ("", True, (32, 32))
        assert file.nbytes <= 8_000_000
        assert SHIPPED.find("", DataSpec(file.shape, "uint8"))[0] == file.digest
        assert SHIPPED.find(file.name, DataSpec(file.shape, "uint8"))[0] == file.digest
