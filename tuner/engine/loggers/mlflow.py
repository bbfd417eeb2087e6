"""Trials as MLflow runs, on the tracking server that the user has set or in the study's folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient

from tuner.engine.loggers.base import Event, Known, LogWriter
from tuner.engine.loggers.registry import tracking_uri

_STUDY, _TRIAL = "quarterturn.study", "quarterturn.trial"  # tags
# Only complete trials are FINISHED: their metrics are final. MLflow marks the other two with the
# same cross; the tag `state` distinguishes them.
_STATUSES = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
# The limits of MLflow.
_METRICS_AT_ONCE, _PARAMS_AT_ONCE, _RUNS_AT_ONCE = 800, 100, 1000  # 1000 of all kinds
_LONGEST_PARAM, _LONGEST_TAG = 6000, 8000
_NOT_IN_A_NAME = re.compile(r"[^\w\-. :/]")


class Mlflow(LogWriter):
    """Writes a study's trials as runs of one experiment.

    A run is found again by its tags, which hold the study's id and the trial's number.

    Args:
        study: the name of the study, and of the experiment unless MLFLOW_EXPERIMENT_NAME is set.
        study_id: the id of the study; other studies of this name have other ids.
        folder: the folder of the study.
    """

    def __init__(self, study: str, study_id: str, folder: Path) -> None:
        super().__init__()
        self._study_id = study_id
        self._client = MlflowClient(tracking_uri=tracking_uri(folder))
        self._experiment = self._find_experiment(
            os.environ.get("MLFLOW_EXPERIMENT_NAME") or study, folder
        )
        self._runs = {int(run.data.tags[_TRIAL]): run for run in self._stored()}
        self._ids = {number: run.info.run_id for number, run in self._runs.items()}

    def find(self, number: int) -> Known:
        run = self._runs.get(number)
        if run is None:
            return Known(begun=number in self._ids)
        epochs = self._client.get_metric_history(run.info.run_id, "epoch")
        return Known.of((metric.value for metric in epochs), run.info.status != "RUNNING")

    def add(self, number: int, events: Sequence[Event]) -> None:
        run_id = self._ids.get(number) or self._begin(number, events[0])
        metrics = [
            Metric(_name(key), number, round(1000 * event.at), event.step)
            for event in events
            for key, number in event.numbers.items()
        ]
        params = [
            Param(_name(key), str(value)[:_LONGEST_PARAM])
            for event in events
            for key, value in event.params.items()
        ]
        end = events[-1]
        # Each call is a transaction, so there are few. If a call is repeated after an error, MLflow
        # stores the same point only once.
        for at in range(max(_calls(metrics, _METRICS_AT_ONCE), _calls(params, _PARAMS_AT_ONCE), 1)):
            self._client.log_batch(
                run_id,
                metrics=metrics[at * _METRICS_AT_ONCE : (at + 1) * _METRICS_AT_ONCE],
                params=params[at * _PARAMS_AT_ONCE : (at + 1) * _PARAMS_AT_ONCE],
                tags=_tags_of(end) if at == 0 else [],
            )
        if end.state:
            self._client.set_terminated(run_id, _STATUSES[end.state], end_time=round(1000 * end.at))

    def _begin(self, number: int, event: Event) -> str:
        tags = {
            _STUDY: self._study_id,
            _TRIAL: str(number),
            "mlflow.source.name": "quarterturn",
        }
        run = self._client.create_run(
            self._experiment,
            start_time=round(1000 * event.at),
            tags=tags,
            run_name=f"trial {number}",
        )
        run_id: str = run.info.run_id
        self._ids[number] = run_id
        return run_id

    def _find_experiment(self, name: str, folder: Path) -> str:
        if found := self._client.get_experiment_by_name(name):
            experiment: str = found.experiment_id
            return experiment
        # A server chooses the place of its files. A local database would use the current folder.
        files = None if "MLFLOW_TRACKING_URI" in os.environ else (folder / "mlruns").as_uri()
        return str(self._client.create_experiment(name, artifact_location=files))

    def _stored(self) -> Iterator[Run]:
        """Yield the runs of the study in the log."""
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                f"tags.`{_STUDY}` = '{self._study_id}'",
                max_results=_RUNS_AT_ONCE,
                page_token=token,
            )
            yield from page
            if not (token := page.token):
                return


def _tags_of(end: Event) -> list[RunTag]:
    if not end.state:
        return []
    reason = end.reason[:_LONGEST_TAG]
    # MLflow's page cuts tags to one line, but shows the whole description.
    tags = {"state": end.state, "reason": reason, "mlflow.note.content": reason}
    return [RunTag(name, text) for name, text in tags.items() if text]


def _calls(items: Sequence[object], at_once: int) -> int:
    return -(-len(items) // at_once)


def _name(key: str) -> str:
    return _NOT_IN_A_NAME.sub("_", key)
