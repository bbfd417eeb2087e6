"""A trial whose model is compiled trains as one that is not, and leaves the same checkpoint."""

from __future__ import annotations

import shutil
import warnings

import pytest
import torch
from smallest_net import Smallest, epochs

from tuner.errors import InvalidInput

pytestmark = pytest.mark.skipif(
    not shutil.which("g++"), reason="torch.compile needs a C++ compiler: there is no g++"
)


@pytest.fixture(scope="module")
def trials():
    """A plain and a compiled trial of two epochs, with their reports."""
    plain, compiled = (Smallest(config={"compile": compiled}) for compiled in (False, True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler warns of what it deprecates in itself
        return (plain, epochs(plain)), (compiled, epochs(compiled))


def test_it_reports_the_same(trials):
    (_, plain), (_, compiled) = trials
    for one, other in zip(plain, compiled, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_its_model_was_compiled(trials):
    (_, _), (compiled, _) = trials
    assert compiled.model._compiled_call_impl is not None


def test_a_plain_model_takes_its_weights(trials, tmp_path):
    (plain, _), (compiled, _) = trials
    compiled.save(str(tmp_path))
    weights = torch.load(tmp_path / "model.pt", weights_only=True)["model"]
    plain.model.load_state_dict(weights)
    assert list(weights) == list(plain.model.state_dict())


def test_the_key_is_true_or_false():
    with pytest.raises(InvalidInput, match="compile must be true or false, got 'yes'"):
        Smallest(config={"compile": "yes"}).step()
