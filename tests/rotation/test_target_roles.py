"""roles: what part a layer plays, told from its name and place."""

import pytest

from tuner.rotation.target import roles

FIRST, HIDDEN, SHORTCUT, HEAD = "first", "hidden", "shortcut", "head"


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((), ()),
        (("only",), (HIDDEN,)),
        (("stem", "shortcut"), (HIDDEN, HIDDEN)),
        (("0.weight", "4.weight", "8.weight"), (FIRST, HIDDEN, HEAD)),
        (
            (
                "conv1.weight",
                "layer1.0.conv1.weight",
                "layer1.0.conv2.weight",
                "layer2.0.conv1.weight",
                "layer2.0.conv2.weight",
                "layer2.0.downsample.0.weight",
                "fc.weight",
            ),
            (FIRST, HIDDEN, HIDDEN, HIDDEN, HIDDEN, SHORTCUT, HEAD),
        ),
        (
            (
                "stem.0.weight",
                "trunk_output.block1.block1-0.proj.0.weight",
                "trunk_output.block1.block1-0.f.a.0.weight",
                "fc.weight",
            ),
            (FIRST, SHORTCUT, HIDDEN, HEAD),
        ),
        # Whatever they are called, the ends are the ends.
        (("downsample.0", "middle", "skip"), (FIRST, HIDDEN, HEAD)),
    ],
    ids=["none", "one", "two", "sequential", "resnet", "regnet", "ends"],
)
def test_a_role_is_told_from_name_and_place(layers, expected):
    assert roles(layers) == expected


@pytest.mark.parametrize(
    "name",
    [
        "shortcut",
        "block1.shortcut.weight",
        "layer2.0.shortcut.0.weight",
        "block1.layer.0.convShortcut.weight",
        "down_blocks.0.resnets.0.conv_shortcut.weight",
        "encoder.stages.0.layers.0.shortcut.convolution.weight",
        "layer4.0.downsample.0.weight",
        "input_blocks.4.0.skip_connection.weight",
        "block.conv_skip.weight",
        "skip.weight",
        "4.0.idpath.0.weight",
        "blocks.0.layers.0.layers.MBconv.proj.1.weight",
    ],
)
def test_a_shortcut_is_known_by_its_name(name):
    assert roles(("first", name, "head")) == (FIRST, SHORTCUT, HEAD)


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.attn.proj.weight",
        "encoder.layers.0.self_attention.out_proj.weight",
        "h.0.attn.c_proj.weight",
        "skipnet.0.weight",
        "downsample_layers.1.1.weight",
        "features.2.reduction.weight",
        "4.weight",
    ],
)
def test_what_only_looks_like_a_shortcut_is_hidden(name):
    assert roles(("first", name, "head")) == (FIRST, HIDDEN, HEAD)
