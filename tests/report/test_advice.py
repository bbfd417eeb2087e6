"""Every rule of advice where its situation is planted, and where its opposite is: then silence."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tests.report.advice_studies import LAYERS, LR, rates, starting, steady, study, trial
from tuner.report.advice import advice
from tuner.study.result import StudyResult


def turning(slope: float = 1.0, values: float = 0.1, count: int = 12, top: float = 0.2, **more):
    """A study in which rotation grows with the rate, and the metric with rotation."""
    trials = []
    for number, lr in enumerate(rates(count, 1e-3, top)):
        distance = 1 - math.exp(-2.0 * lr**slope)
        params = {"lr": lr, **more}
        trials.append(trial(number, params, 0.5 + values * distance, steady(distance)))
    return trials


class TestTurnFurther:
    title = "turn the layers further: raise lr"

    def test_the_rate_is_raised_as_the_studys_own_trials_say(self):
        (piece,) = starting(advice(study(turning(), {"lr": LR})), self.title)
        # s = 2 lr, and a distance of .95 is s = 3: from .2 that is too far, so the range's top.
        assert piece.params == {"lr": 1.0}
        assert "the best 3 trials end at 0.2" in piece.evidence
        assert "over 12 trials" in piece.evidence
        assert "no trial has reached 0.90" in piece.evidence
        assert "lr 0.2 -> 1 in trial 11's configuration" in piece.action
        assert "12 trials -ln(1 - distance) grows as the rate to the power 1.0" in piece.action

    def test_a_steeper_relation_takes_less(self):
        spread = {"lr": FloatDistribution(1e-3, 10.0, log=True)}
        (piece,) = starting(advice(study(turning(2.0), spread)), self.title)
        # s = 2 lr^2 is 3 at lr 1.22; the exponent found is 2, from the trials.
        assert piece.params is not None
        assert piece.params["lr"] == pytest.approx(1.22, rel=0.02)

    def test_for_a_metric_to_make_small_it_is_the_same(self):
        small = study(turning(values=-0.1), {"lr": LR}, mode="min")
        assert starting(advice(small), self.title)

    @pytest.mark.parametrize(
        ("trials", "why"),
        [
            (turning(values=-0.1), "more rotation is worse"),
            (turning(count=7), "too few"),
            (turning()[:1], "a single one"),
            ([replace(t, state="pruned") for t in turning()], "none was trained to its end"),
            (
                [*turning(), *(trial(20 + i, {"lr": 0.6}, 0.3) for i in range(2))],
                "higher rates were tried, and did worse",
            ),
            (turning(top=1.0), "the rate is at its top"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_otherwise_it_is_silent(self, trials, why):
        assert not starting(advice(study(trials, {"lr": LR})), self.title), why

    def test_without_rotation_it_is_silent(self):
        bare = [
            trial(i, {"lr": lr}, lr, lambda share: [], layers=())
            for i, lr in enumerate(rates(12, 1e-3, 0.2))
        ]
        assert not starting(advice(study(bare, {"lr": LR})), self.title)

    def test_trials_that_have_not_learnt_do_not_count(self):
        flat = [replace(t, curve=replace(t.curve, train_loss=(2.0,) * 10)) for t in turning()]
        assert not starting(advice(study(flat, {"lr": LR})), self.title)

    def test_where_rotation_is_not_informative_it_is_silent(self, monkeypatch):
        from tuner.report import evidence
        from tuner.report.advice import study_view as case

        def not_informative(result: StudyResult) -> evidence.RotationWorth:
            return evidence.RotationWorth("not informative", 0.0, 0.1, 0.4)

        monkeypatch.setattr(case, "rotation_worth", not_informative)
        assert not starting(advice(study(turning(), {"lr": LR})), self.title)


def hasty(count: int = 6, worse: float = 0.3, share: float = 0.8):
    """Half of the trials make most of their turn in the first epoch, and end worse."""

    def at_once(progress: float):
        return [0.9 * (share + (1 - share) * progress)] * len(LAYERS)

    early = [
        trial(i, {"lr": 0.5, "warmup_epochs": 0.0}, 0.9 - worse - 0.01 * i, at_once)
        for i in range(count)
    ]
    others = [
        trial(count + i, {"lr": 0.05, "warmup_epochs": 0.5}, 0.9 - 0.01 * i, steady(0.8))
        for i in range(count)
    ]
    return [*early, *others]


class TestWarmUp:
    title = "the layers turn too early: warm up"
    space = {"lr": LR, "warmup_epochs": FloatDistribution(0.0, 2.0, step=0.25)}  # noqa: RUF012

    def test_the_spaces_own_warmup_is_named_and_tried(self):
        (piece,) = starting(advice(study(hasty(), self.space)), self.title)
        assert piece.params == {"lr": 0.5, "warmup_epochs": 1.0}
        assert "6 trials make 82% of their rotation in the first tenth" in piece.evidence
        assert "warmup_epochs 0 -> 1 in trial 0's configuration" in piece.action

    def test_without_such_a_parameter_it_is_said_in_words(self):
        (piece,) = starting(advice(study(hasty(), {"lr": LR})), self.title)
        assert piece.params is None
        assert "this space has no parameter for it" in piece.action

    @pytest.mark.parametrize(
        ("trials", "why"),
        [
            (hasty(worse=0.0), "the metric does not suffer"),
            (hasty(worse=-0.05), "they are the better ones"),
            (hasty(share=0.1), "the turn is not early"),
            (hasty(count=2), "too few"),
            (
                [replace(t, params={"lr": 0.5, "warmup_epochs": 1.0}) for t in hasty()],
                "they were warmed up",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_otherwise_it_is_silent(self, trials, why):
        assert not starting(advice(study(trials, self.space)), self.title), why


def decaying(by: str = "weight_decay", speeding: bool = True, helps: bool = False):
    """A study in which layers turn by one parameter alone, the faster the longer."""
    trials = []
    for number, decay in enumerate(rates(12, 1e-5, 1e-2)):
        other = 0.01 + 0.02 * ((number * 7) % 12)
        params = {"weight_decay": decay, "lr": other}
        if by == "lr":
            params = {"weight_decay": 1e-5 * (1 + (number * 5) % 12), "lr": 0.01 + 0.02 * number}
        s = 0.05 + 0.2 * number

        def turn(share: float, s: float = s) -> list[float]:
            return [1 - math.exp(-s * share ** (2.5 if speeding else 1.0))] * len(LAYERS)

        value = number / 12 if helps else ((number * 5) % 12) / 12
        trials.append(trial(number, params, value, turn))
    return trials


class TestWeightDecay:
    title = "rotation comes from weight_decay, not from learning"
    space = {"lr": LR, "weight_decay": FloatDistribution(1e-6, 1e-2, log=True)}  # noqa: RUF012

    def test_it_is_lowered_and_the_rate_raised(self):
        (piece,) = starting(advice(study(decaying(), self.space)), self.title)
        leader = piece.params
        assert leader is not None
        assert leader["weight_decay"] < 1e-3 < 1e-2
        evidence = piece.evidence
        assert "rotation correlates with weight_decay (rank correlation 1.00)" in evidence
        assert evidence.startswith("over 12 trials, ")
        assert "the 3 trials that turned furthest have" in evidence
        assert "in 3 of them the rotation speeds up" in evidence

    @pytest.mark.parametrize(
        ("trials", "why"),
        [
            (decaying(by="lr"), "rotation follows the rate"),
            (decaying(speeding=False), "no norm falls"),
            (decaying(helps=True), "rotation is what the metric follows"),
            (decaying()[:6], "too few"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_otherwise_it_is_silent(self, trials, why):
        assert not starting(advice(study(trials, self.space)), self.title), why


def placed(values, best, layers=()):
    """A study without rotation whose best trials are those with these values of x."""
    return [
        trial(i, {"x": x}, 0.9 if x in best else 0.5 - 0.001 * i, lambda share: [], layers=layers)
        for i, x in enumerate(values)
    ]


LOG = FloatDistribution(1e-3, 1.0, log=True)


class TestEdge:
    def of(self, spread, values, best, **more):
        return starting(advice(study(placed(values, best), {"x": spread}, **more)), "the best x is")

    def test_a_log_range_is_widened_by_a_factor_and_tested_beyond(self):
        values = [*rates(9, 1e-3, 0.2), 0.8, 0.9, 0.99]
        (piece,) = self.of(LOG, values, {0.8, 0.9, 0.99})
        assert piece.title == "the best x is at the upper end of its range: widen it"
        assert piece.params is not None
        assert 1.0 < piece.params["x"] < 5.62
        assert "3 of the best 3 trials have x from 0.8 to 0.99" in piece.evidence
        assert (
            "the upper end of 0.001 to 1; 9 trials away from that end are worse" in piece.evidence
        )
        assert "search x up to 5.62, not 1, in a job with another name" in piece.action
        assert "outside the range" in piece.action

    def test_the_low_end_is_as_good_an_edge(self):
        (piece,) = self.of(LOG, [1e-3, 1.1e-3, 1.2e-3, *rates(9, 0.02, 1)], {1e-3, 1.1e-3, 1.2e-3})
        assert piece.params is not None
        assert 1.7e-4 < piece.params["x"] < 1e-3
        assert "search x down to 0.000178, not 0.001" in piece.action

    def test_a_share_is_taken_nearer_to_one_and_never_there(self):
        spread = FloatDistribution(0.0, 0.9)
        (piece,) = self.of(
            spread, [0.1 * i for i in range(9)] + [0.88, 0.89, 0.9], {0.88, 0.89, 0.9}
        )
        assert piece.params == {"x": 0.925}

    def test_whole_numbers_stay_whole(self):
        (piece,) = self.of(IntDistribution(1, 40), [*range(1, 31, 3), 38, 39, 40], {38, 39, 40})
        assert piece.params is not None
        assert isinstance(piece.params["x"], int)
        assert piece.params["x"] > 40

    @pytest.mark.parametrize(
        ("spread", "values", "best"),
        [
            (LOG, rates(12, 1e-3, 1), {*rates(12, 1e-3, 1)[5:8]}),  # in the middle
            (LOG, [*rates(9, 1e-3, 0.2), 0.8, 0.9, 0.99], {0.8, 1e-3}),  # one at each end
            (LOG, [0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 1.0], {0.8, 0.9, 0.99}),  # all are there
            (LOG, [0.1, 0.2, 0.8, 0.9, 0.99], {0.8, 0.9, 0.99}),  # too few
            (
                FloatDistribution(0.0, 0.9),
                [*(0.1 * i for i in range(10)), 0.01, 0.02],
                {0.0, 0.01, 0.02},
            ),
            (IntDistribution(1, 40), [1, 2, 3, *range(10, 40, 3)], {1, 2, 3}),  # nothing below 1
            (IntDistribution(1, 4), [1, 1, 2, 2, 3, 3, 4, 4, 4], {4}),  # four values: chance
            (
                FloatDistribution(0.0, 1.0),
                [0.1 * i for i in range(9)] + [0.98, 0.99, 1.0],
                {0.98, 0.99, 1.0},
            ),
            (CategoricalDistribution([1, 2, 3]), [1, 2, 3] * 4, {3}),
        ],
    )
    def test_otherwise_it_is_silent(self, spread, values, best):
        assert self.of(spread, values, best) == []

    @pytest.mark.parametrize("name", ["weight_decay", "warmup_epochs"])
    def test_what_is_least_already_is_not_asked_to_be_less(self, name):
        values = [1e-3, 1.1e-3, 1.2e-3, *rates(9, 0.02, 1)]
        trials = [
            replace(t, params={name: t.params["x"]}) for t in placed(values, {1e-3, 1.1e-3, 1.2e-3})
        ]
        assert advice(study(trials, {name: LOG})) == []


class TestLonger:
    title = "train longer"
    top = FloatDistribution(1e-3, 0.2, log=True)

    def trials(self, helps: float = 0.1):
        high = [
            trial(20 + i, {"lr": 0.2 - 0.001 * i}, 0.5 + helps * 0.34, steady(0.34))
            for i in range(3)
        ]
        return [*turning(values=helps, count=10, top=0.1), *high]

    def test_the_epochs_are_named_and_no_configuration(self):
        (piece,) = starting(advice(study(self.trials(), {"lr": self.top})), self.title)
        assert piece.params is None
        # s is .42 after 10 epochs where .95 is 3.0.
        assert "--epochs 72, not 10" in piece.action
        assert "learning rates of 0.198 to 0.2, at the top of the range" in piece.evidence

    def test_a_rate_that_can_still_be_raised_is_raised_first(self):
        found = advice(study(self.trials(), {"lr": FloatDistribution(1e-3, 10.0, log=True)}))
        assert not starting(found, self.title)
        assert starting(found, "turn the layers further")

    def test_where_more_rotation_is_worse_it_is_silent(self):
        assert not starting(advice(study(self.trials(-0.1), {"lr": self.top})), self.title)


def test_what_the_study_has_tried_is_not_advised():
    (piece,) = starting(advice(study(turning(), {"lr": LR})), "turn")
    waiting = trial(12, piece.params or {}, math.nan, state="running")
    assert not starting(advice(study([*turning(), waiting], {"lr": LR})), "turn")


@pytest.mark.parametrize("space", ["", "no JSON", "[]", "3", '{"lr": "{}"}', '{"lr": 3}'])
def test_a_study_that_says_nothing_of_its_space_gets_no_advice_on_it(space):
    result = replace(study(turning(), {"lr": LR}), space=space)
    assert not [piece for piece in advice(result) if piece.params is not None]


def test_an_empty_study_gets_none():
    assert advice(study([], {"lr": LR})) == []
