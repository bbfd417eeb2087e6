"""How a trial ranks among others at the same epoch."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import rank
from tuner.rotation import Peer
from tuner.rotation.peers import standing, worst_share

NAN = math.nan
# A busy machine is no reason to fail.
UNHURRIED = settings(deadline=None)


@pytest.mark.parametrize(
    ("trial", "peers", "place", "by_rotation"),
    [
        (Peer(0.5, 0.9), [Peer(0.6, 0.1), Peer(0.4, 0.5), Peer(0.3, 0.6)], 1, True),
        (Peer(0.5, 0.1), [Peer(0.6, 0.9), Peer(0.4, 0.5)], 2, True),
        (Peer(0.4, 0.9), [Peer(0.6, 0.1), Peer(0.5, 0.5)], 3, True),
        (Peer(0.5, NAN), [Peer(0.6, 0.1), Peer(0.4, 0.1)], 2, False),
        (Peer(0.5, 0.9), [Peer(0.6, NAN), Peer(0.4, NAN)], 2, False),
        (Peer(0.5, 0.9), [], 1, False),
        (Peer(0.5, 1.2), [Peer(0.6, 1.0), Peer(0.4, 1.1), Peer(0.3, 1.1)], 2, True),
    ],
    ids=[
        "rotation lifts over the next better metric",
        "least rotation keeps its place by metric",
        "rotation does not outweigh the metric",
        "own rotation unknown",
        "peers' rotation unknown",
        "alone",
        "beyond the target earns nothing",
    ],
)
def test_standing_is_rank_of_metric_plus_half_the_rank_of_rotation(
    trial, peers, place, by_rotation
):
    result = standing(trial, peers, "max", enough=1.0)
    assert (result.place, result.by_rotation) == (place, by_rotation)
    assert result.trials == len(peers) + 1


def test_a_peer_without_rotation_counts_as_the_median_one():
    known = [Peer(0.6, 0.2), Peer(0.7, 0.4), Peer(0.4, 0.6)]
    unknown, median = Peer(0.55, NAN), Peer(0.55, 0.4)
    for reached in (0.1, 0.3, 0.5, 0.7):
        trial = Peer(0.5, reached)
        with_unknown = standing(trial, [*known, unknown], "max", 1.0)
        assert with_unknown == standing(trial, [*known, median], "max", 1.0)


PEER = st.builds(Peer, st.sampled_from([0.1, 0.2, 0.3, 0.4]), st.sampled_from([0.1, 0.5, 0.9]))


@UNHURRIED
@given(PEER, st.lists(PEER, min_size=1, max_size=12), st.sampled_from(["min", "max"]))
def test_standing_matches_the_reference(trial, peers, mode):
    everyone = [trial, *peers]
    sign = 1 if mode == "min" else -1
    metrics = [sign * peer.metric for peer in everyone]
    turned = [-peer.reached for peer in everyone]
    scores = [
        rank(metric, metrics) + rank(reached, turned) / 2
        for metric, reached in zip(metrics, turned, strict=True)
    ]
    place = 1 + sum(score < scores[0] for score in scores)
    assert standing(trial, peers, mode, enough=1.0).place == place


@pytest.mark.parametrize(
    ("metrics", "mode", "boundary", "number"),
    [
        ((0.1, 0.2, 0.3, 0.4, 0.5), "max", 0.2, 5),
        ((0.1, 0.2, 0.3, 0.4, 0.5), "min", 0.4, 5),
        ((0.1, NAN, 0.3), "max", 0.15, 2),
        ((NAN,), "max", NAN, 0),
        ((), "min", NAN, 0),
    ],
)
def test_the_worst_share_leaves_out_peers_without_a_metric(metrics, mode, boundary, number):
    result = worst_share([Peer(metric, 0.5) for metric in metrics], mode, share=0.25)
    assert result == (pytest.approx(boundary, nan_ok=True), number)
