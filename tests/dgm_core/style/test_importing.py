import os
import pickle
from collections import OrderedDict
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from dgm_core.manifest import DataSpec
from dgm_core.style.base import Base
from dgm_core.style.importing import CannotImport, import_base

NOISE = 5


def numbers(*shape):
    """Such as a base keeps: in half precision, and of a size that keeps activities alive."""
    return (torch.randn(shape) / max(1, torch.Size(shape[1:]).numel()) ** 0.5).half().float()


def blocks(widths):
    """Residual blocks from one width to the next."""
    state = OrderedDict()
    for index, (a, b) in enumerate(pairwise(widths)):
        name, hidden = f"resnet_{index}_0", min(a, b)
        state |= {f"{name}.conv_0.weight": numbers(hidden, a, 3, 3), f"{name}.conv_0.bias": numbers(hidden)}
        state |= {f"{name}.conv_1.weight": numbers(b, hidden, 3, 3), f"{name}.conv_1.bias": numbers(b)}
        if a != b:
            state[f"{name}.conv_s.weight"] = numbers(b, a, 1, 1)
    return state


def checkpoint(widths, pixels=4, embedding=1, channels=3):
    """A checkpoint of the published layout.

    Arguments:
        widths: of the generator, from the first layer to the image.
        pixels: a side of its coarsest grid.
    """

    def generator():
        return {
            "embedding.weight": numbers(1, embedding),
            "fc.weight": numbers(widths[0] * pixels**2, NOISE + embedding),
            "fc.bias": numbers(widths[0] * pixels**2),
            **blocks(widths),
            "conv_img.weight": numbers(channels, widths[-1], 7, 7),
            "conv_img.bias": numbers(channels),
        }

    torch.manual_seed(0)
    discriminator = {
        "conv_img.weight": numbers(widths[-1], channels, 7, 7),
        "conv_img.bias": numbers(widths[-1]),
        **blocks(widths[::-1]),
        "fc.weight": numbers(1, widths[0] * pixels**2),
        "fc.bias": numbers(1),
    }
    return {"generator": generator(), "discriminator": discriminator, "generator_test": generator(), "it": 70}


SMALL, TINY = (4, 4, 2, 2), (2, 2, 1, 1)


def residual(state, name, x):
    dx = F.conv2d(F.leaky_relu(x, 0.2), state[f"{name}.conv_0.weight"], state[f"{name}.conv_0.bias"], padding=1)
    dx = F.conv2d(F.leaky_relu(dx, 0.2), state[f"{name}.conv_1.weight"], state[f"{name}.conv_1.bias"], padding=1)
    shortcut = state.get(f"{name}.conv_s.weight")
    return (x if shortcut is None else F.conv2d(x, shortcut)) + 0.1 * dx


def images(state, z, pixels=4):
    """The published generator, straight from its weights."""
    label = state["embedding.weight"].expand(len(z), -1)
    h = F.linear(torch.cat([z, label], 1), state["fc.weight"], state["fc.bias"]).view(len(z), -1, pixels, pixels)
    names = sorted({key.split(".")[0] for key in state if key.startswith("resnet")})
    for name in names:
        h = residual(state, name, F.interpolate(h, scale_factor=2) if name != names[0] else h)
    return torch.tanh(F.conv2d(F.leaky_relu(h, 0.2), state["conv_img.weight"], state["conv_img.bias"], padding=3))


def scores(state, x):
    """The published discriminator, straight from its weights."""
    h = F.conv2d(x, state["conv_img.weight"], state["conv_img.bias"], padding=3)
    names = sorted({key.split(".")[0] for key in state if key.startswith("resnet")})
    for name in names:
        h = residual(state, name, F.avg_pool2d(h, 3, stride=2, padding=1) if name != names[0] else h)
    return F.linear(F.leaky_relu(h, 0.2).flatten(1), state["fc.weight"], state["fc.bias"])


def saved(path, content, **how):
    torch.save(content, path, **how)
    return path


@pytest.mark.parametrize(
    ("widths", "pixels", "side"),
    [(TINY, 2, 8), (SMALL, 4, 16), ((16, 16, 16, 8, 4, 2, 1, 1), 4, 256)],
    ids=["8", "16", "256"],
)
@torch.no_grad()
def test_a_base_makes_the_images_and_scores_of_the_checkpoint_that_it_was_imported_from(tmp_path, widths, pixels, side):
    content = checkpoint(widths, pixels, channels=1)
    base = import_base(saved(tmp_path / "it.pt", content), "imported")
    assert base.name == "imported" and base.design.network == "gpgan" and base.design.shape == (1, side, side)
    again, spec = Base.unpack(base.blob), DataSpec(base.design.shape, "uint8")
    again.require_fit(spec)
    g, d = again.design.generator(spec, 1), again.design.discriminator(spec, 1)
    g.load_state_dict(again.generator)
    d.features.load_state_dict(again.features)
    d.score.load_state_dict(again.score)
    z = torch.randn(4, NOISE)
    x = g(z, torch.zeros(4, dtype=torch.long))
    expected = images(content["generator_test"], z, pixels)
    assert expected.std() > 0.03 and not torch.allclose(x, images(content["generator"], z, pixels), atol=0.03)
    assert torch.allclose(x, expected, atol=2e-3)  # the label's column is rounded to half precision
    assert torch.allclose(d.score(d.features(x)), scores(content["discriminator"], x), atol=1e-4)


def test_a_label_of_any_length_becomes_one_column(tmp_path):
    content = checkpoint(SMALL, embedding=3)
    base = import_base(saved(tmp_path / "it.pt", content), "b")
    state = content["generator_test"]
    column = state["fc.weight"][:, NOISE:] @ state["embedding.weight"][0] + state["fc.bias"]
    first = base.generator["first.weight"]
    assert first.shape == (NOISE + 1, 4, 4, 4) and torch.equal(base.generator["embedding.weight"], torch.ones(1, 1))
    assert torch.allclose(first[-1].flatten(), column, atol=2e-3)
    assert torch.equal(first[:-1].flatten(1).T, state["fc.weight"][:, :NOISE])


def test_the_prefix_of_parallel_training_and_the_old_format_make_no_difference(tmp_path):
    content = checkpoint(TINY)
    parts = ("generator", "discriminator", "generator_test")
    prefixed = {part: {f"module.{key}": t for key, t in content[part].items()} for part in parts} | {"it": 70}
    old = saved(tmp_path / "old.pt", prefixed, _use_new_zipfile_serialization=False)
    first, second = import_base(saved(tmp_path / "new.pt", content), "b"), import_base(old, "b")
    assert all(torch.equal(t, second.generator[key]) for key, t in first.generator.items())
    assert first.trained["sha256"] != second.trained["sha256"]
    assert (first.trained["weights"], first.trained["steps"]) == ("generator_test", 70)


def test_without_an_average_the_generator_itself_is_taken(tmp_path):
    content = checkpoint(TINY)
    del content["generator_test"]
    base = import_base(saved(tmp_path / "it.pt", content), "b")
    assert base.trained["weights"] == "generator"
    assert torch.equal(base.generator["head.weight"], content["generator"]["conv_img.weight"])


class Code:
    """Unpickled, it would make a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("how", ["zip", "old", "bare"])
def test_code_in_a_checkpoint_is_not_run_but_refused(tmp_path, how):
    ran, path = tmp_path / "ran", tmp_path / "it.pt"
    content = {**checkpoint(TINY), "extra": Code(ran)}
    if how == "bare":
        path.write_bytes(pickle.dumps(content["extra"], protocol=2))
    else:
        saved(path, content, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CannotImport, match=r"it\.pt (holds posix\.mkdir.*run code|is truncated)"):
        import_base(path, "b")
    assert not ran.exists()


def test_the_refusal_of_code_names_it(tmp_path):
    with pytest.raises(CannotImport, match=r"it\.pt holds posix\.mkdir, which is neither a tensor nor"):
        import_base(saved(tmp_path / "it.pt", {**checkpoint(TINY), "extra": Code(tmp_path / "ran")}), "b")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, zipped, share):
    path = saved(tmp_path / "it.pt", checkpoint(SMALL), _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CannotImport, match=r"it\.pt is truncated, or no checkpoint"):
        import_base(path, "b")


def test_text_and_other_pickles_are_refused(tmp_path):
    path = tmp_path / "it.pt"
    for content in (b"hello, world", b"\x80\x04N.", os.urandom(1000)):
        path.write_bytes(content)
        with pytest.raises(CannotImport, match=r"it\.pt is truncated, or no checkpoint"):
            import_base(path, "b")
    with pytest.raises(CannotImport, match="holds a list, not the states of generator_test or generator"):
        import_base(saved(path, [1, 2]), "b")


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        import_base(tmp_path / "it.pt", "b")


def without(part, key):
    def change(content):
        del content[part][key]

    return change


def shaped(part, key, *shape):
    def change(content):
        content[part][key] = torch.zeros(shape)

    return change


def held(part, key, value):
    def change(content):
        content[part][key] = value

    return change


WRONG = {
    "no discriminator": (lambda c: c.pop("discriminator"), "it.pt: discriminator is missing"),
    "no generator": (
        lambda c: [c.pop(part) for part in ("generator", "generator_test")],
        "it.pt: generator is missing",
    ),
    "a state that is a tensor": (lambda c: c.update(discriminator=torch.ones(1)), "it.pt: discriminator is missing"),
    "no bias": (without("generator_test", "fc.bias"), "it.pt: generator_test has no weight fc.bias"),
    "no shortcut": (
        without("generator_test", "resnet_1_0.conv_s.weight"),
        "generator_test has no weight resnet_1_0.conv_s.weight",
    ),
    "a shortcut too many": (
        shaped("generator_test", "resnet_0_0.conv_s.weight", 4, 4, 1, 1),
        "generator_test holds resnet_0_0.conv_s.weight, for which",
    ),
    "a norm": (shaped("discriminator", "norm.weight", 4), "discriminator holds norm.weight, for which"),
    "a wider kernel": (
        shaped("discriminator", "resnet_1_0.conv_0.weight", 2, 2, 5, 5),
        "discriminator.resnet_1_0.conv_0.weight has shape (2, 2, 5, 5), but (2, 2, 3, 3) is needed",
    ),
    "a vector for a matrix": (
        shaped("generator_test", "fc.weight", 64),
        "generator_test.fc.weight has shape (64,), but 2 dimensions are needed",
    ),
    "an empty layer": (
        shaped("generator_test", "conv_img.weight", 3, 0, 7, 7),
        "generator_test.conv_img.weight has shape (3, 0, 7, 7)",
    ),
    "two channels": (
        shaped("generator_test", "conv_img.weight", 2, 2, 7, 7),
        "generates images of 2 × 16 × 16: an image has 1 or 3 channels",
    ),
    "many labels": (
        shaped("generator_test", "embedding.weight", 1000, 1),
        "generator_test.embedding.weight has shape (1000, 1), but (1, 1) is needed",
    ),
    "nothing but a label": (shaped("generator_test", "embedding.weight", 1, 6), "a z of length 0"),
    "rows that fill no square": (
        shaped("generator_test", "fc.weight", 60, 6),
        "generator_test.fc.weight has shape (60, 6), but with 3 blocks towards 2 channels 64 rows are needed",
    ),
    "a score per label": (
        shaped("discriminator", "fc.weight", 10, 64),
        "discriminator.fc.weight has shape (10, 64), but (1, 64) is needed",
    ),
    "a weight that is no number": (
        held("generator_test", "conv_img.bias", torch.full((3,), torch.nan)),
        "generator_test.conv_img.bias holds values that are infinite or no numbers",
    ),
    "a weight beyond half precision": (
        held("generator_test", "conv_img.weight", torch.full((3, 2, 7, 7), 1e6)),
        "it.pt: generator/head.weight holds values that are no numbers, or too large for half precision",
    ),
    "a weight that is no tensor": (held("generator_test", "conv_img.bias", 3), "has no weight conv_img.bias"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_refused_by_name_with_what_was_found_and_what_is_needed(tmp_path, wrong):
    change, says = WRONG[wrong]
    content = checkpoint(SMALL)
    change(content)
    with pytest.raises(CannotImport) as refusal:
        import_base(saved(tmp_path / "it.pt", content), "b")
    assert says in str(refusal.value)


def test_a_network_that_starts_from_another_grid_is_refused(tmp_path):
    """128 × 128 in seven blocks from 2 × 2 pixels, where ours has six from 4 × 4."""
    content = checkpoint((16, 16, 16, 8, 4, 2, 1, 1), pixels=2)
    with pytest.raises(CannotImport, match="256 rows are needed: 16 channels of 4 × 4 pixels"):
        import_base(saved(tmp_path / "it.pt", content), "b")
