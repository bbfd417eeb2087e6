"""decide: each rule by a table, and what must hold whatever the case."""

import dataclasses
import math
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import InvalidInput
from tuner.rotation import Peer, RotationCurve, RotationTarget, Verdict, decide

NAN, INF = math.nan, math.inf
LAYERS = ("stem", "slow", "fast", "head")
TARGET = RotationTarget()
# A busy machine is no reason to fail.
UNHURRIED = settings(deadline=None)


def curve_of(
    rotation: float | Sequence[float] = 0.05,
    *,
    epochs: int = 2,
    metric: float = 0.5,
    losses: Sequence[float] | None = None,
    max_epochs: int = 20,
) -> RotationCurve:
    """Return a curve whose hidden layers turn by `rotation` each epoch, up to 1 and on a clock."""
    curve = RotationCurve(LAYERS, max_epochs)
    for epoch in range(1, epochs + 1):
        turned = min(rotation * epoch, 1.0) if isinstance(rotation, float) else rotation[epoch - 1]
        curve = curve.append(
            epoch,
            {"stem": turned / 2, "slow": turned, "fast": turned, "head": turned / 2},
            lr_progress=epoch / max_epochs,
            train_loss=1 / epoch if losses is None else losses[epoch - 1],
            metric=metric,
        )
    return curve


def peers_of(*metrics: float, reached: float = 0.1) -> list[Peer]:
    return [Peer(metric, reached) for metric in metrics]


def rule_of(verdict: Verdict) -> str:
    return verdict.reason.split(":")[0]


# No evidence never prunes.


@pytest.mark.parametrize(
    ("curve", "peers"),
    [
        (RotationCurve(LAYERS, 20), peers_of(0.9, 0.9, 0.9, 0.9, 0.9)),
        (curve_of(epochs=2), []),
        (curve_of(0.001, epochs=10), []),
        (curve_of(0.001, epochs=9, metric=NAN), peers_of(*[0.9] * 9)),
        (curve_of(0.001, epochs=9), peers_of(*[NAN] * 9)),
        (RotationCurve(LAYERS, 20).append(1, {}), peers_of(*[0.9] * 9)),
    ],
    ids=["empty", "no peers", "no peers, hardly turning", "no metric", "no peer metric", "nothing"],
)
def test_no_evidence_never_prunes(curve, peers):
    assert not decide(curve, TARGET, peers).prune


@pytest.mark.parametrize(("epochs", "pruned"), [(1, False), (2, False), (3, True)])
def test_no_decision_before_warmup(epochs, pruned):
    curve = curve_of(0.001, epochs=epochs, metric=0.1)
    verdict = decide(curve, TARGET, peers_of(0.9, 0.9, 0.9, 0.9), warmup_epochs=3)
    assert verdict.prune is pruned


@pytest.mark.parametrize("loss", [1.0, INF, NAN])
def test_the_last_epoch_is_never_pruned(loss):
    curve = curve_of(0.4, epochs=9, max_epochs=9, metric=0.0, losses=[0.5] * 8 + [loss])
    verdict = decide(curve, TARGET, peers_of(*[0.9] * 9))
    assert verdict == Verdict(prune=False, reason="", forecast=verdict.forecast)


# Rule 1.


@pytest.mark.parametrize(
    ("losses", "pruned"),
    [
        ([2.0, 1.0], False),
        ([2.0, INF], True),
        ([2.0, -INF], True),
        ([2.0, NAN], True),
        ([NAN, INF], True),
        ([NAN, NAN], False),
        ([INF, 1.0], False),
    ],
)
def test_a_loss_that_is_no_longer_finite_has_diverged(losses, pruned):
    verdict = decide(curve_of(losses=losses), TARGET)
    assert verdict.prune is pruned
    assert (rule_of(verdict) == "diverged") is pruned


def test_divergence_prunes_even_in_warmup_and_within_an_epoch():
    curve = RotationCurve(LAYERS, 20).append(0.25, {}, train_loss=INF)
    verdict = decide(curve, TARGET, warmup_epochs=5)
    assert verdict.reason == (
        "diverged: the train loss is inf after epoch 0.25; saves 19.75 of 20 epochs"
    )


# Rule 2.


@pytest.mark.parametrize(
    ("rotation", "losses", "pruned"),
    [
        ([0.4, 0.6], [2.3, 2.3], True),
        ([0.4, 0.6], [2.3, 2.4], True),
        ([0.4, 0.6], [2.3, 2.29], False),
        ([0.4, 0.5], [2.3, 2.4], False),
        ([0.6], [2.3], False),
        ([0.4, 0.6], [NAN, NAN], False),
        ([0.4, 0.6], [NAN, 2.3], False),
        ([0.4, NAN], [2.3, 2.4], False),
        ([0.4, 0.6, 0.7], [2.3, 1.0, 2.3], True),
    ],
    ids=[
        "loss flat",
        "loss rising",
        "loss falling",
        "turned by half exactly",
        "one epoch",
        "no loss known",
        "one loss known",
        "rotation unknown",
        "back to the start",
    ],
)
def test_rotating_without_learning(rotation, losses, pruned):
    curve = curve_of(rotation, epochs=len(rotation), losses=losses)
    verdict = decide(curve, TARGET)
    assert verdict.prune is pruned
    assert (rule_of(verdict) == "rotating without learning") is pruned


def test_rotating_without_learning_waits_for_warmup_and_two_whole_epochs():
    turned = dict.fromkeys(LAYERS, 0.6)
    curve = RotationCurve(LAYERS, 20).append(0.5, turned, train_loss=2.3)
    curve = curve.append(1.9, turned, train_loss=2.4)
    assert not decide(curve, TARGET, warmup_epochs=0).prune
    curve = curve.append(2, turned, train_loss=2.4)
    assert decide(curve, TARGET, warmup_epochs=2).prune
    assert not decide(curve, TARGET, warmup_epochs=3).prune


# Rule 3, at an epoch that is no rung.

HOPELESS = curve_of(0.01, epochs=5, metric=0.5)
WELL_TURNED = curve_of(0.15, epochs=5, metric=0.5)


@pytest.mark.parametrize(
    ("curve", "metrics", "pruned"),
    [
        (HOPELESS, (0.6, 0.6, 0.6, 0.6), True),
        (HOPELESS, (0.6, 0.6, 0.6), False),
        (HOPELESS, (0.6, 0.6, 0.6, NAN), False),
        (HOPELESS, (0.5, 0.5, 0.5, 0.5), False),
        (HOPELESS, (0.4, 0.5, 0.6, 0.7, 0.8), False),
        (HOPELESS, (0.4, 0.5, 0.6, 0.7), False),
        (HOPELESS, (0.49, 0.52, 0.6, 0.7), True),
        (WELL_TURNED, (0.6, 0.6, 0.6, 0.6), False),
    ],
    ids=[
        "worst of five",
        "too few peers",
        "too few with a metric",
        "all tie",
        "at the worst quarter's end",
        "above the worst quarter",
        "in the worst quarter",
        "within reach",
    ],
)
def test_target_out_of_reach_needs_a_hopeless_forecast_and_a_lagging_metric(curve, metrics, pruned):
    verdict = decide(curve, TARGET, peers_of(*metrics))
    assert verdict.prune is pruned
    assert (rule_of(verdict) == "target out of reach") is pruned


@pytest.mark.parametrize(("metrics", "pruned"), [((0.4,) * 4, True), ((0.6,) * 4, False)])
def test_a_smaller_metric_is_better_when_minimising(metrics, pruned):
    assert decide(HOPELESS, TARGET, peers_of(*metrics), mode="min").prune is pruned


def test_a_lower_target_is_within_reach():
    modest = RotationTarget(distance=0.3, tolerance=0.1)
    assert decide(HOPELESS, TARGET, peers_of(*[0.6] * 4)).prune
    assert not decide(HOPELESS, modest, peers_of(*[0.6] * 4)).prune


def test_the_reason_names_the_layer_that_stays_furthest_behind_with_forecast_and_threshold():
    curve = RotationCurve(LAYERS, 20)
    for epoch in range(1, 5):
        curve = curve.append(
            epoch,
            {"stem": 0.0, "slow": 0.0, "fast": 0.01 * epoch, "head": 0.0},
            lr_progress=epoch / 20,
            metric=0.5,
        )
    verdict = decide(curve, TARGET, peers_of(0.6, 0.6, 0.7, 0.8), metric_name="val_accuracy")
    assert verdict.reason == (
        "target out of reach: the hidden layers are forecast to end at 0.18 at the most, below "
        "0.90, and val_accuracy 0.5 is in the worst 1/4 of 4 trials at epoch 4, behind 0.6; "
        "furthest behind is slow, forecast to end at 0.00 (90 % interval 0.00 to 0.14) against "
        "0.90; saves 16 of 20 epochs"
    )
    assert verdict.forecast.layers == LAYERS


# Rule 4.


@pytest.mark.parametrize(
    ("epochs", "warmup", "eta", "rung"),
    [
        (1, 1, 3, True),
        (2, 1, 3, False),
        (3, 1, 3, True),
        (9, 1, 3, True),
        (6, 1, 3, False),
        (1, 0, 3, True),
        (2, 2, 3, True),
        (6, 2, 3, True),
        (4, 2, 3, False),
        (4, 1, 4, True),
        (4, 1, 2, True),
        (8, 1, 2, True),
    ],
)
def test_rungs_are_at_warmup_times_powers_of_eta(epochs, warmup, eta, rung):
    curve = curve_of(0.15, epochs=epochs, metric=0.1)
    verdict = decide(curve, TARGET, peers_of(*[0.9] * 9), warmup_epochs=warmup, eta=eta)
    assert verdict.prune is rung
    assert (rule_of(verdict) == "peers") is rung


def test_a_rung_is_met_by_an_epoch_summed_from_fractions():
    epoch = sum([0.1] * 10)
    assert epoch != 1
    curve = RotationCurve(LAYERS, 20).append(epoch, {}, metric=0.1)
    assert decide(curve, TARGET, peers_of(*[0.9] * 9)).prune


@pytest.mark.parametrize(
    ("better", "worse", "eta", "pruned"),
    [
        (0, 0, 3, False),
        (1, 0, 3, False),
        (2, 0, 3, True),
        (0, 2, 3, False),
        (1, 1, 3, True),
        (1, 2, 3, False),
        (2, 2, 3, True),
        (1, 0, 2, True),
        (2, 3, 2, False),
        (3, 2, 2, True),
    ],
)
def test_the_best_of_every_eta_go_on(better, worse, eta, pruned):
    peers = peers_of(*[0.9] * better, *[0.1] * worse, reached=NAN)
    curve = curve_of(0.15, epochs=1, metric=0.5)
    assert decide(curve, TARGET, peers, eta=eta).prune is pruned


def test_ties_at_a_rung_spare():
    curve = curve_of(0.15, epochs=1, metric=0.5)
    assert not decide(curve, TARGET, peers_of(*[0.5] * 8, reached=0.15)).prune


def test_the_reason_of_a_rung_names_place_metric_layer_and_what_is_saved():
    curve = curve_of(0.15, epochs=3, metric=0.5)
    peers = peers_of(0.6, 0.7, 0.8, 0.9)
    verdict = decide(curve, TARGET, peers, metric_name="val_accuracy", eta=3)
    assert verdict.reason.startswith(
        "peers: place 4 of 5 by val_accuracy and rotation at epoch 3 (val_accuracy 0.5), where the "
        "best 2 go on; furthest behind is slow, forecast to end at"
    )
    assert verdict.reason.endswith("against 0.90; saves 17 of 20 epochs")


# What holds for every case.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "best"}, "mode must be 'min' or 'max', got 'best'"),
        ({"warmup_epochs": -1}, "warmup_epochs must be >= 0, got -1; use 0"),
        ({"eta": 1}, "eta must be >= 2, got 1; use 4"),
    ],
)
def test_options_out_of_range_are_refused_with_the_rule_and_a_remedy(options, message):
    with pytest.raises(InvalidInput, match=message):
        decide(curve_of(), TARGET, **options)


MAYBE = st.just(NAN) | st.floats(0, 1)
CURVES = st.builds(
    lambda rotation, losses, metric, epochs: dataclasses.replace(
        curve_of(rotation, epochs=epochs, losses=losses), metric=(metric,) * epochs
    ),
    st.lists(MAYBE, min_size=10, max_size=10),
    st.lists(st.floats(0, 3), min_size=10, max_size=10),
    MAYBE,
    st.integers(1, 10),
)
PEERS = st.lists(st.builds(Peer, MAYBE, MAYBE), max_size=12)


@UNHURRIED
@given(CURVES, PEERS, st.sampled_from(["min", "max"]))
def test_a_verdict_is_pruned_with_a_reason_or_spared_without_and_always_the_same(
    curve, peers, mode
):
    verdict = decide(curve, TARGET, peers, mode=mode)
    assert verdict.prune == bool(verdict.reason)
    assert repr(decide(curve, TARGET, peers, mode=mode)) == repr(verdict)


@UNHURRIED
@given(CURVES, PEERS)
def test_the_order_of_the_peers_does_not_matter(curve, peers):
    assert decide(curve, TARGET, peers).reason == decide(curve, TARGET, peers[::-1]).reason


@UNHURRIED
@given(CURVES)
def test_without_peers_only_a_run_that_does_not_learn_is_pruned(curve):
    learning = dataclasses.replace(curve, train_loss=tuple(1 / epoch for epoch in curve.epochs))
    assert not decide(learning, TARGET).prune
    assert rule_of(decide(curve, TARGET)) in ("", "rotating without learning")


@UNHURRIED
@given(CURVES, PEERS)
def test_the_best_metric_and_rotation_is_never_pruned(curve, peers):
    best = dataclasses.replace(
        curve,
        metric=(2.0,) * len(curve),
        distances=((1.0,) * len(LAYERS),) * len(curve),
        train_loss=tuple(1 / epoch for epoch in curve.epochs),
    )
    assert not decide(best, TARGET, peers).prune


def test_a_thousand_peers_take_milliseconds_at_most():
    curve = curve_of(0.15, epochs=3)
    peers = [Peer(index / 1000, index / 2000) for index in range(1000)]
    taken_s = []
    for _ in range(10):
        start = time.perf_counter()
        decide(curve, TARGET, peers)
        taken_s.append(time.perf_counter() - start)
    # Well under 1 ms when idle; the margin is for a busy machine.
    assert min(taken_s) < 0.005
