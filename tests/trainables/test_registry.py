"""The included trainables are found by name, and naming them costs no import of torch or Ray."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import trainables
from trainables import PAPER_TASKS, TRAINABLES, RotationTrainable, describe, find
from tuner.errors import InvalidInput


@pytest.mark.parametrize(("name", "class_name"), TRAINABLES.items())
def test_each_name_finds_its_class(name, class_name):
    found = find(name)
    assert issubclass(found, RotationTrainable)
    assert found is getattr(trainables, class_name)
    assert found.__name__ == class_name
    assert 20 < len(describe(name)) <= 100


def test_an_unknown_name_lists_the_nearest_first():
    with pytest.raises(InvalidInput, match="unknown trainable 'fashion'; known: fashion-cnn, "):
        find("fashion")


@pytest.mark.parametrize("name", PAPER_TASKS)
def test_each_task_of_the_paper_has_a_small_twin(name):
    assert find(name) is find(name, "full")
    assert find(name, "small") is find(f"{name}-small") is not find(name)
    assert issubclass(find(name, "small"), RotationTrainable)


@pytest.mark.parametrize("name", ["digits-mlp", "c10-cnn1-small"])
def test_what_has_no_twin_is_the_same_at_both_scales(name):
    assert find(name, "small") is find(name, "full")


def test_an_unknown_scale_lists_the_known_ones():
    with pytest.raises(InvalidInput, match="unknown scale 'tiny'; known: full, small"):
        find("c10-cnn1", "tiny")


def test_an_unknown_attribute_is_named():
    with pytest.raises(AttributeError, match="no attribute 'Fashion'"):
        trainables.Fashion  # noqa: B018


@pytest.mark.parametrize("name", trainables.__all__)
def test_every_exported_name_is_there(name):
    assert getattr(trainables, name) is not None


PACKAGES = ("datasets", "distributed", "layca", "models", "tasks", "training")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_of_a_package_is_there(package):
    module = import_module(f"trainables.{package}")
    assert module.__doc__
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"module 'trainables.{package}' has no attribute 'x'"):
        module.x  # noqa: B018


def test_naming_the_trainables_loads_neither_torch_nor_ray():
    code = (
        "import sys, trainables; assert trainables.TRAINABLES; "
        "print([name for name in ('torch', 'ray', 'sklearn') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
