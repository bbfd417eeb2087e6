"""What a monitor remembers survives a checkpoint."""

import pytest
import torch
from torch import nn

from tests.rotation.nets import small_net, turn
from tuner.errors import InvalidInput
from tuner.rotation import RotationMonitor


def test_the_state_survives_a_safe_load_and_gives_the_same_distances(tmp_path):
    model = small_net()
    monitor = RotationMonitor(model)
    turn(model, 0.5)
    torch.save(monitor.state_dict(), tmp_path / "monitor.pt")
    resumed = RotationMonitor(model)
    assert resumed.measure()["0.weight"] == pytest.approx(0, abs=1e-7)
    resumed.load_state_dict(torch.load(tmp_path / "monitor.pt", weights_only=True))
    assert resumed.measure() == monitor.measure()
    assert resumed.norm_ratios() == monitor.norm_ratios()


def test_a_loaded_state_is_not_shared_with_the_monitor_it_came_from():
    model = small_net()
    first, second = RotationMonitor(model), RotationMonitor(model)
    second.load_state_dict(first.state_dict())
    turn(model, 0.5)
    before = second.measure()
    first.state_dict()["initial"]["2.weight"].zero_()
    assert second.measure() == before


def test_a_layer_that_started_at_zero_stays_out_when_resumed_on_trained_weights():
    model = small_net()
    nn.init.zeros_(model[3].weight)
    with pytest.warns(UserWarning, match="start at zero"):
        state = RotationMonitor(model).state_dict()
    nn.init.ones_(model[3].weight)
    resumed = RotationMonitor(model)
    resumed.load_state_dict(state)
    assert resumed.layers == ("0.weight", "2.weight")
    assert resumed.state_dict()["without_direction"] == ["3.weight"]
    assert RotationMonitor(model).layers == ("0.weight", "2.weight", "3.weight")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Sequential(nn.Linear(4, 8)), r"only in the state: 0\.weight; only in the model: 1\."),
        (nn.Sequential(nn.ReLU(), nn.Linear(4, 9)), r"of another shape: 1\.weight"),
    ],
)
def test_a_state_of_another_model_is_refused_with_the_layers(other, message):
    monitor = RotationMonitor(nn.Sequential(nn.ReLU(), nn.Linear(4, 8)))
    with pytest.raises(InvalidInput, match=message):
        monitor.load_state_dict(RotationMonitor(other).state_dict())


def test_a_state_of_something_else_is_refused():
    model = small_net()
    with pytest.raises(InvalidInput, match="it lacks initial, norms, without_direction"):
        RotationMonitor(model).load_state_dict(model.state_dict())
