"""RotationMonitor against the NumPy reference, and through everything done to a model."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.reference import cosine_distance, norm_ratio
from tests.rotation.nets import as_numpy, small_net, turn
from tuner.errors import InvalidInput
from tuner.rotation import RotationMonitor


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [0.0, 1e-3, 0.1, 1.0, 30.0])
def test_distances_and_norm_ratios_match_the_reference(dtype, size):
    model = small_net().to(dtype)
    monitor = RotationMonitor(model)
    initial = {name: as_numpy(model.get_parameter(name)) for name in monitor.layers}
    turn(model, size)
    distances, ratios = monitor.measure(), monitor.norm_ratios()
    assert list(distances) == ["0.weight", "2.weight", "3.weight"] == list(ratios)
    for name, before in initial.items():
        after = as_numpy(model.get_parameter(name))
        assert distances[name] == pytest.approx(cosine_distance(after, before), abs=1e-7)
        assert ratios[name] == pytest.approx(norm_ratio(after, before), rel=1e-6)


def test_a_layer_of_ten_million_weights_matches_the_reference_however_little_it_turned():
    model = nn.Linear(3_163, 3_163, bias=False)
    monitor = RotationMonitor(model)
    initial = as_numpy(model.weight)
    for size in (3e-6, 1.0):
        turn(model, size)
        expected = cosine_distance(as_numpy(model.weight), initial)
        assert monitor.measure()["weight"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("factor", "distance"), [(1.0, 0.0), (3.0, 0.0), (-0.5, 2.0)])
def test_scaling_a_layer_does_not_turn_it_and_negating_turns_it_by_two(factor, distance):
    model = small_net()
    monitor = RotationMonitor(model)
    with torch.no_grad():
        model[2].weight.mul_(factor)
    assert monitor.measure()["2.weight"] == pytest.approx(distance, abs=1e-12)
    assert monitor.norm_ratios()["2.weight"] == pytest.approx(abs(factor))


@pytest.mark.parametrize("factor", [1.0, -1.0])
def test_rounding_never_takes_a_distance_out_of_range(factor):
    for seed in range(50):
        torch.manual_seed(seed)
        model = nn.Linear(7, 5)
        monitor = RotationMonitor(model)
        model.weight.data.mul_(factor)
        assert 0 <= monitor.measure()["weight"] <= 2


def test_swapping_the_axes_of_a_plane_is_a_quarter_turn():
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, 0.0]])
    monitor = RotationMonitor(model)
    model.weight.data = torch.tensor([[0.0, 5.0]])
    assert monitor.measure() == {"weight": 1.0}


@pytest.mark.parametrize(
    ("value", "ratio"), [(0.0, 0.0), (math.nan, math.nan), (math.inf, math.nan)]
)
def test_a_layer_without_a_direction_measures_nan(value, ratio):
    model = small_net()
    monitor = RotationMonitor(model)
    turn(model, 0.5)
    with torch.no_grad():
        model[2].weight.fill_(value)
    distances = monitor.measure()
    assert math.isnan(distances["2.weight"])
    assert math.isfinite(distances["3.weight"])
    assert monitor.norm_ratios()["2.weight"] == pytest.approx(ratio, nan_ok=True)


def test_the_report_has_flat_keys_and_leaves_nan_out_of_its_minimum_and_mean():
    model = small_net()
    monitor = RotationMonitor(model)
    turn(model, 0.5)
    with torch.no_grad():
        model[2].weight.zero_()
    distances, report = monitor.measure(), monitor.report()
    known = [distances["0.weight"], distances["3.weight"]]
    assert list(report) == [
        "rotation/0.weight",
        "rotation/2.weight",
        "rotation/3.weight",
        "rotation_min",
        "rotation_mean",
    ]
    assert report["rotation/3.weight"] == distances["3.weight"]
    assert report["rotation_min"] == min(known)
    assert report["rotation_mean"] == pytest.approx(sum(known) / 2)


def test_the_report_of_a_model_without_directions_is_nan():
    model = small_net()
    monitor = RotationMonitor(model)
    for parameter in model.parameters():
        parameter.data.fill_(math.nan)
    assert all(math.isnan(value) for value in monitor.report().values())


def test_layers_that_start_at_zero_are_left_out_with_one_warning():
    model = small_net()
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[3].weight)
    with pytest.warns(UserWarning, match=r"start at zero.*: 0\.weight, 3\.weight$") as caught:
        monitor = RotationMonitor(model)
    assert len(caught) == 1
    assert monitor.layers == ("2.weight",)


def test_a_model_that_starts_at_zero_is_refused():
    model = nn.Linear(3, 3)
    nn.init.zeros_(model.weight)
    with pytest.raises(InvalidInput, match="all of these start at zero: weight"):
        RotationMonitor(model)


def test_a_model_without_values_is_refused():
    with pytest.raises(InvalidInput, match="'weight' is on the meta device"):
        RotationMonitor(nn.Linear(2, 2, device="meta"))


def test_excluded_layers_are_not_measured():
    assert RotationMonitor(small_net(), exclude=("3.*",)).layers == ("0.weight", "2.weight")


def to_half(model: nn.Sequential) -> None:
    model.half()


def to_channels_last(model: nn.Sequential) -> None:
    model.to(memory_format=torch.channels_last)


def freeze(model: nn.Sequential) -> None:
    model.requires_grad_(False)


def replace_parameter(model: nn.Sequential) -> None:
    model[2].weight = nn.Parameter(model[2].weight.detach().clone())


def replace_module(model: nn.Sequential) -> None:
    model[2] = copy.deepcopy(model[2])


def reload(model: nn.Sequential) -> None:
    model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)


def compile_part(model: nn.Sequential) -> None:
    model[2] = torch.compile(model[2], backend="eager")


@pytest.mark.parametrize(
    "change",
    [to_half, to_channels_last, freeze, replace_parameter, replace_module, reload, compile_part],
)
def test_the_monitor_follows_its_layers_through(change):
    model = small_net()
    monitor = RotationMonitor(model)
    turn(model, 0.5)
    before = monitor.measure()
    change(model)
    # Rounding the weights to half precision turns them a little.
    rounding = 1e-4 if change is to_half else 1e-12
    assert monitor.measure() == pytest.approx(before, abs=rounding)
    turn(model, 0.5, seed=2)
    assert all(monitor.measure()[name] > before[name] for name in before)


def test_loading_a_checkpoint_into_the_model_changes_what_is_measured():
    model, trained = small_net(), small_net()
    monitor = RotationMonitor(model)
    turn(trained, 0.7)
    model.load_state_dict(trained.state_dict())
    expected = cosine_distance(as_numpy(trained[3].weight), as_numpy(small_net()[3].weight))
    assert monitor.measure()["3.weight"] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("built_on", ["bare", "wrapped"])
def test_compiled_model_and_bare_model_measure_the_same(built_on):
    model = small_net()
    wrapped = torch.compile(model, backend="eager")
    monitor = RotationMonitor(model if built_on == "bare" else wrapped)
    turn(wrapped, 0.5)
    initial = small_net()
    assert monitor.measure() == {
        name: pytest.approx(
            cosine_distance(
                as_numpy(model.get_parameter(name)), as_numpy(initial.get_parameter(name))
            )
        )
        for name in ("0.weight", "2.weight", "3.weight")
    }


def test_distributed_training_is_measured_under_plain_names(process_group):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    wrapped = nn.parallel.DistributedDataParallel(model)
    monitor = RotationMonitor(wrapped)
    initial = as_numpy(model[1].weight)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    wrapped(torch.ones(5, 3)).square().sum().backward()
    optimizer.step()
    expected = cosine_distance(as_numpy(model[1].weight), initial)
    assert expected > 1e-3
    assert monitor.measure()["1.weight"] == pytest.approx(expected, abs=1e-7)
    assert monitor.layers == ("0.weight", "1.weight")


def test_a_layer_that_is_gone_is_named():
    model = small_net()
    monitor = RotationMonitor(model)
    model[3] = nn.Identity()
    with pytest.raises(InvalidInput, match=r"'3\.weight' is gone; known: 0\.weight"):
        monitor.measure()


def test_a_layer_of_another_shape_is_named():
    model = small_net()
    monitor = RotationMonitor(model)
    model[3] = nn.Linear(8, 5)
    with pytest.raises(InvalidInput, match=r"'3\.weight' went from \(3, 8\) to \(5, 8\)"):
        monitor.measure()


def test_measuring_leaves_the_model_and_its_gradients_alone():
    model = small_net()
    monitor = RotationMonitor(model)
    turn(model, 0.3)
    before = copy.deepcopy(model.state_dict())
    monitor.report()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


class CountScalarReads(TorchDispatchMode):
    """Counts the reads of one number from a tensor, each of which makes a GPU wait."""

    reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.reads += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_no_layer_is_read_back_on_its_own():
    monitor = RotationMonitor(small_net())
    with CountScalarReads() as counter:
        monitor.report()
        assert counter.reads == 0
        torch.ones(1).item()
    assert counter.reads == 1
