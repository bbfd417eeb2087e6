"""Ray Tune's searcher over the study: it turns suggestions into Ray trials."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ray.tune import Trainable
from ray.tune.experiment import Experiment, Trial
from ray.tune.search import SearchAlgorithm

from tuner.engine.bridge import StudyBridge
from tuner.engine.losses import Losses
from tuner.engine.trial import StudyTrial, part_id, remove_other_parts


class StudySearcher(SearchAlgorithm):
    """Suggests from the study as many trials as there is room for, at once.

    Ray's own searchers admit one pending trial at a time, so that slots fill one by one.

    Args:
        bridge: the study.
        trainable: the class that every trial runs.
        wanted: returns how many trials to have ready now, >= 1.
        max_concurrent: trials at a time at most, >= 1; None for as many as fit.
    """

    def __init__(
        self,
        bridge: StudyBridge,
        trainable: type[Trainable],
        wanted: Callable[[], int],
        max_concurrent: int | None = None,
    ) -> None:
        self._bridge = bridge
        self._trainable = trainable
        self._wanted = wanted
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
        if self.is_finished() or self._bridge.live >= self._room():
            return None
        suggestion = self._bridge.ask()
        if suggestion is None:
            return None
        assert self._experiment is not None, "Ray adds the experiment before it asks for trials"
        spec, storage = self._experiment.spec, self._experiment.storage
        trials = Path(storage.experiment_fs_path)
        restore = trials / suggestion.checkpoint if suggestion.checkpoint else None
        # A checkpoint that is gone means starting over: the seed makes that the same trial.
        if restore is not None and restore.is_dir():
            remove_other_parts(suggestion.number, trials, restore)
        else:
            restore = None
        part = part_id(suggestion.number, trials, self._part_ids)
        self._part_ids.add(part)
        return StudyTrial(
            self._trainable,
            partial(self._losses.crashed, suggestion.number),
            config=suggestion.config,
            trial_id=part,
            storage=storage,
            placement_group_factory=spec.get("resources_per_trial"),
            checkpoint_config=self._experiment.checkpoint_config,
            restore_path=str(restore) if restore else None,
            trial_dirname_creator=lambda trial: f"trial-{trial.trial_id}",
        )

    def is_finished(self) -> bool:
        return self._finished or (self._bridge.exhausted and not self._losses)

    def _room(self) -> int:
        wanted = self._wanted()
        return min(wanted, self._max_concurrent) if self._max_concurrent else wanted
