"""Who is pruned for its peers, and what the reason says."""

import dataclasses

import pytest

from tests.rotation.made_up_cases import (
    BETTER,
    HOPELESS,
    LAYERS,
    OWN,
    by_metric,
    curve_of,
    informative,
    judged,
    learnt,
    peers_of,
    rule_of,
    state_of,
)
from tuner.rotation import RotationCurve, RotationTarget, decide

# Peers.


@pytest.mark.parametrize(
    ("epochs", "warmup", "rung"),
    [
        (1, 1, True),
        (2, 1, True),
        (3, 1, False),
        (4, 1, True),
        (5, 1, False),
        (8, 1, False),
        (1, 0.25, True),
        (2, 2, True),
        (3, 2, False),
        (4, 2, True),
        (1, 2, False),
    ],
)
def test_peers_are_compared_at_rungs_only(epochs, warmup, rung):
    verdict = judged(curve_of(0.15, epochs=epochs, metric=0.1), BETTER, warmup_epochs=warmup)
    assert verdict.prune is rung
    assert (rule_of(verdict) == "peers") is rung


@pytest.mark.parametrize(
    ("better", "worse", "keep", "pruned"),
    [
        (0, 0, 0.25, False),
        (1, 0, 0.25, True),
        (1, 2, 0.25, True),
        (1, 3, 0.25, False),
        (0, 9, 0.25, False),
        (2, 5, 0.25, True),
        (2, 6, 0.25, False),
        (1, 0, 0.5, True),
        (1, 1, 0.5, False),
        (4, 5, 0.5, False),
        (5, 4, 0.5, True),
        (9, 0, 1, False),
    ],
)
def test_the_best_of_all_that_have_started_go_on(better, worse, keep, pruned):
    peers = [by_metric(0.9)] * better + [by_metric(0.1)] * worse
    assert judged(by_metric(0.5), peers, keep=keep).prune is pruned


def test_ties_at_a_rung_spare():
    assert not judged(by_metric(0.5), [by_metric(0.5)] * 8).prune


@pytest.mark.parametrize(("metric", "pruned"), [(0.4, True), (0.6, False)])
def test_a_smaller_metric_is_better_when_minimising(metric, pruned):
    peers = [by_metric(metric)] * 4
    assert judged(by_metric(0.5), peers, mode="min").prune is pruned
    assert judged(by_metric(0.5), peers, mode="max").prune is not pruned


@pytest.mark.parametrize(
    ("losses", "turned", "place"), [((0.5, 1.0), 0.2, 2), ((1.0, 0.5), 0.2, 1)]
)
def test_within_the_first_epoch_train_loss_ranks(losses, turned, place):
    own, other = (
        RotationCurve(LAYERS, 20).append(0.25, dict.fromkeys(LAYERS, turned), train_loss=loss)
        for loss in reversed(losses)
    )
    state = state_of(own, [other], warmup_epochs=0.25, early_keep=0.5)
    assert state.rungs[0].place(OWN) == place
    verdict = decide(OWN, own, state)
    assert verdict.prune is (place == 2)
    if verdict.prune:
        assert verdict.reason.startswith(
            "peers: 2nd of 2 at epoch 0.25; only the best goes on. Compared by train loss"
        )


@pytest.mark.parametrize(("rotation", "pruned"), [(1.0, False), (0.0, True)])
def test_rotation_lifts_as_far_as_it_has_a_weight(rotation, pruned):
    own = curve_of(0.3, epochs=1, metric=0.5)
    peers = [curve_of(0.1, epochs=1, metric=metric) for metric in (0.6, 0.4, 0.3)]
    state = informative(state_of(own, peers), rotation)
    assert decide(OWN, own, state).prune is pruned


def test_its_reason_names_place_rung_features_and_what_is_saved():
    own = curve_of(0.15, epochs=4, metric=0.5)
    peers = [curve_of(0.15, epochs=4, metric=metric) for metric in (0.6, 0.7, 0.8, 0.9)]
    state = informative(state_of(own, peers, metric_name="val_accuracy"))
    assert decide(OWN, own, state).reason == (
        "peers: 5th of 5 at epoch 4; only the best goes on. Compared by val_accuracy and rotation; "
        "the study has 5 trials so far. Saves 16 of 20 epochs."
    )


@pytest.mark.parametrize(
    ("place", "word"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (21, "21st"), (112, "112th")],
)
def test_a_place_is_an_ordinal_number(place, word):
    own = by_metric(0.5)
    state = state_of(own, [by_metric(0.9)] * (place - 1) + [by_metric(0.1)] * 3)
    reason = decide(OWN, own, state, may_pause=True).reason
    assert reason.startswith(f"peers: {word} of {place + 3} at epoch 1; ")


def test_a_trial_that_the_quota_admits_is_pruned_once_others_have_the_places():
    own = by_metric(0.8)
    several = decide(OWN, own, state_of(own, [by_metric(0.1)] * 7), final=True)
    assert several.reason.startswith("peers: 1st of 8 at epoch 1; the 2 places are taken. ")
    one = decide(OWN, own, state_of(own, [by_metric(0.1)] * 3), final=True)
    assert one.reason.startswith("peers: 1st of 4 at epoch 1; its place is taken. ")


@pytest.mark.parametrize(
    ("weights", "curve", "by"),
    [
        (
            (1, 1, 1, 1),
            curve_of(epochs=1, metric=0.1),
            "value, train loss, rotation and remaining learning rate",
        ),
        ((1, 1, 1, 0), curve_of(epochs=1, metric=0.1), "value, train loss and rotation"),
        ((1, 1, 0, 0), curve_of(epochs=1, metric=0.1), "value and train loss"),
        ((1, 0, 0, 0), curve_of(epochs=1, metric=0.1), "value"),
        ((1, 1, 1, 1), by_metric(0.1), "value"),
    ],
)
def test_a_reason_names_only_what_is_known_and_has_a_weight(weights, curve, by):
    peers = [dataclasses.replace(curve, metric=(0.9,))] * 9
    state = learnt(state_of(curve, peers, metric_name="value"), weights)
    assert f" Compared by {by}; the study has " in decide(OWN, curve, state).reason


@pytest.mark.parametrize(
    ("own", "peers", "by"),
    [
        (by_metric(0.1), [curve_of(epochs=1, metric=0.9)] * 9, "metric"),
        (curve_of(epochs=1, metric=0.1), [by_metric(0.9)] * 9, "metric"),
        (
            RotationCurve(LAYERS, 20).append(0.25, {}, train_loss=9.0),
            [*[RotationCurve(LAYERS, 20).append(0.25, {}, train_loss=1.0)] * 8, by_metric(0.9)],
            "train loss",
        ),
    ],
    ids=["only the metric of this trial", "only the metric of its peers", "no metric there yet"],
)
def test_a_reason_names_only_what_this_trial_shares_with_a_peer(own, peers, by):
    state = learnt(state_of(own, peers, warmup_epochs=0.25), (1.0, 1.0, 1.0, 1.0))
    reason = decide(OWN, own, state, may_pause=True).reason
    assert f" Compared by {by}; the study has 10 trials so far" in reason


def test_where_nothing_has_a_weight_nobody_is_pruned_and_a_reason_says_so():
    own = by_metric(0.5)
    state = learnt(state_of(own, [by_metric(0.9)] * 3), (-1.0, 0.0, 0.0, 0.0))
    assert not decide(OWN, own, state).prune
    assert decide(OWN, own, state, may_pause=True).reason == (
        "peers: 1st of 4 at epoch 1; its place is taken. Compared by no feature that all of them "
        "have; the study has 4 trials so far"
    )


# A layer that will miss the target: named after what decided, and it prunes no trial by itself.

MISSES = "is forecast to end at "


@pytest.mark.parametrize(
    ("curve", "metrics", "pruned", "said"),
    [
        (HOPELESS, (0.6, 0.6, 0.6), True, True),
        (HOPELESS, (0.6,), True, True),
        (HOPELESS, (0.4, 0.4, 0.4), False, False),
        (HOPELESS, (0.5, 0.5, 0.5), False, False),
        (HOPELESS, (), False, False),
        (curve_of(0.15, epochs=4), (0.6, 0.6, 0.6), True, False),
        (by_metric(0.5, epochs=4), (0.6, 0.6, 0.6), True, False),
        (curve_of(0.01, epochs=5), (0.6, 0.6, 0.6), False, False),
        (curve_of(0.01, epochs=3), (0.6, 0.6, 0.6), False, False),
    ],
    ids=[
        "worst of four",
        "worse of two",
        "best of all",
        "all tie",
        "alone",
        "within reach",
        "no forecast",
        "past a rung",
        "before a rung",
    ],
)
def test_it_ends_no_trial_that_its_peers_let_go_on(curve, metrics, pruned, said):
    state = informative(state_of(curve, peers_of(*metrics)), rotation=0.2)
    verdict = decide(OWN, curve, state)
    assert verdict.prune is pruned
    assert (MISSES in verdict.reason) is said
    assert verdict.reason.startswith("peers: ") is pruned


@pytest.mark.parametrize(
    ("mean", "deviation", "trials", "said"),
    [
        (0.3, 0.05, 100, True),
        (0.1, 0.09, 100, False),
        (0.2, 0.1, 100, True),
        (0.3, 0.05, 7, True),
        (-0.3, 0.05, 100, False),
        (0.0, 0.02, 100, False),
    ],
    ids=[
        "it ranks",
        "it ranks little",
        "the prior alone says so",
        "nobody knows yet",
        "it ranks the other way round",
        "it does not rank",
    ],
)
def test_it_is_left_out_where_rotation_has_not_ranked_this_studys_trials(
    mean, deviation, trials, said
):
    state = state_of(HOPELESS, peers_of(*[0.6] * 9))
    state = learnt(state, (1.0, 0.0, mean, 0.0), deviation, trials)
    verdict = decide(OWN, HOPELESS, state)
    assert verdict.prune
    assert rule_of(verdict) == "peers"
    assert (MISSES in verdict.reason) is said


def test_a_lower_target_is_within_reach():
    modest = RotationTarget(distance=0.3, tolerance=0.1)
    peers = peers_of(*[0.6] * 4)
    high, low = (
        decide(OWN, HOPELESS, informative(state_of(HOPELESS, peers, target=target)))
        for target in (RotationTarget(), modest)
    )
    assert MISSES in high.reason
    assert MISSES not in low.reason


def test_its_sentence_names_the_layer_the_forecast_its_interval_and_the_target():
    curve = RotationCurve(LAYERS, 20)
    for epoch in range(1, 5):
        curve = curve.append(
            epoch,
            {"stem": 0.0, "slow": 0.0, "fast": 0.01 * epoch, "head": 0.0},
            lr_progress=epoch / 20,
            metric=0.5,
        )
    peers = peers_of(0.6, 0.6, 0.7, 0.8)
    verdict = decide(OWN, curve, informative(state_of(curve, peers, metric_name="val_accuracy")))
    at = verdict.forecast.layers.index("fast")
    low, mid, high = (
        end[at] for end in (verdict.forecast.low, verdict.forecast.mid, verdict.forecast.high)
    )
    assert verdict.reason.endswith(
        f" Layer fast is forecast to end at {mid:.2f} (90 % interval {low:.2f} to {high:.2f}), "
        "below the target 0.90. Saves 16 of 20 epochs."
    )


def test_a_layer_whose_interval_reaches_the_target_is_not_named():
    own = curve_of(0.15, epochs=4, metric=0.1)
    verdict = decide(OWN, own, informative(state_of(own, peers_of(0.6, 0.7, 0.8, 0.9))))
    hidden = [verdict.forecast.layers.index(name) for name in ("slow", "fast")]
    assert all(verdict.forecast.high[at] >= 0.9 for at in hidden)
    assert verdict.prune
    assert MISSES not in verdict.reason
