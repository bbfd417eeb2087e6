"""Ray Tune's searcher over the study: it turns suggestions into Ray trials."""

from __future__ import annotations

from functools import partial
from typing import Any

from ray.tune import Checkpoint, Trainable
from ray.tune.experiment import Experiment, Trial
from ray.tune.search import SearchAlgorithm

from tuner.engine.bridge import StudyBridge, Suggestion
from tuner.engine.late_nodes import LateNodes, NotSeen
from tuner.engine.losses import Losses
from tuner.engine.parts import bring_checkpoint, next_part, remove_other_parts
from tuner.engine.reserve import as_placement_group
from tuner.engine.room import Room
from tuner.engine.trial import StudyTrial
from tuner.study.places import Place


class StudySearcher(SearchAlgorithm):
    """Suggests from the study as many trials as there is room for, at once.

    Ray's own searchers admit one pending trial at a time, so that slots fill one by one.

    Args:
        bridge: the study.
        trainable: the class that every trial runs.
        trials: where the folders of all trials are.
        room: for how many there is room now, and where.
        max_concurrent: trials at a time at most, >= 1; None for as many as fit.
    """

    def __init__(
        self,
        bridge: StudyBridge,
        trainable: type[Trainable],
        trials: Place,
        room: Room,
        max_concurrent: int | None = None,
    ) -> None:
        self._bridge = bridge
        self._trainable = trainable
        self._trials = trials
        self._cluster = room
        self._late_nodes = LateNodes(bridge, room, trials)
        self._max_concurrent = max_concurrent
        self._losses = Losses(bridge)
        self._part_ids: set[str] = set()
        self._experiment: Experiment | None = None

    @property
    def total_samples(self) -> int:
        return self._bridge.num_trials

    def add_configurations(self, experiments: Any) -> None:
        (self._experiment,) = experiments

    def next_trial(self) -> Trial | None:
        self._losses.settle()
        self._bridge.listen()
        if self.is_finished() or self._bridge.live >= self._room():
            return None
        suggestion = self._bridge.ask()
        if suggestion is None:
            return None
        assert self._experiment is not None, "Ray adds the experiment before it asks for trials"
        storage = self._experiment.storage
        restore = self._checkpoint_of(suggestion)
        part = next_part(suggestion.number, self._trials, suggestion.checkpoint, self._part_ids)
        self._part_ids.add(part)
        return StudyTrial(
            self._trainable,
            partial(self._crashed, suggestion.number),
            config=suggestion.config,
            restore=restore,
            trial_id=part,
            storage=storage,
            placement_group_factory=as_placement_group(self._cluster.asked),
            checkpoint_config=self._experiment.checkpoint_config,
            trial_dirname_creator=lambda trial: f"trial-{trial.trial_id}",
        )

    def _crashed(self, number: int, error: BaseException | None) -> None:
        cause = getattr(error, "cause", None)
        if isinstance(cause, NotSeen):
            self._late_nodes.take_back(number, cause)
        else:
            self._losses.crashed(number, error)

    def _checkpoint_of(self, suggestion: Suggestion) -> Checkpoint | None:
        """Return the checkpoint that a trial goes on from, now the only one with a folder left.

        One that is gone, or that is in another driver's folder and cannot be read from here, means
        starting over: the seed makes that the same trial.
        """
        name, place = suggestion.checkpoint, suggestion.place
        if name is None:
            return None
        if place is not None and place != self._trials:
            if not bring_checkpoint(name, place, self._trials):
                return None
            self._bridge.checkpointed(suggestion.number, name)
        elif not self._trials.folders([name]):
            return None
        remove_other_parts(suggestion.number, self._trials, name)
        return Checkpoint(self._trials.at(name), self._trials.filesystem)

    def is_finished(self) -> bool:
        return self._finished or (self._bridge.exhausted and not self._losses)

    def _room(self) -> int:
        wanted = self._cluster.wanted()
        return min(wanted, self._max_concurrent) if self._max_concurrent else wanted
