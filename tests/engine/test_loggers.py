"""What loggers write is what the study holds: once each, whatever interrupts it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from curve_trials import Curve, Interrupting
from optuna.distributions import FloatDistribution
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from tuner import InvalidInput, TuningJob, load_study, resume, run
from tuner.engine.callbacks import RunCallback
from tuner.study.load import LOG_ID, opened

# MLflow 3.17 on SQLAlchemy 2.1.
IGNORED = "ignore:The ``noload`` loader strategy"
pytestmark = [pytest.mark.usefixtures("two_cpus"), pytest.mark.filterwarnings(IGNORED)]
LAYERS = ("first", "hidden", "head")


class Notes(RunCallback):
    """Keeps what it is told to say."""

    def __init__(self):
        self.lines = []

    def noted(self, line):
        self.lines.append(line)


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


def logged_job(folder, **fields):
    """A study in which trials pause, go on, are pruned and complete."""
    space = {
        "height": FloatDistribution(0.3, 1.0),
        "speed": FloatDistribution(0.1, 1.0, log=True),
        "turn": FloatDistribution(0.05, 1.3),
        "saves": True,
    }
    defaults = {
        "name": "logged",
        "trainable": Curve,
        "search_space": space,
        "num_trials": 6,
        "max_epochs": 8,
        "sampler": "random",
        "max_concurrent": 1,
        "loggers": ("tensorboard", "mlflow"),
        "folder": folder,
    }
    return TuningJob(**{**defaults, **fields})


def in_study(result):
    """Per trial, its parameters, its end, and each scalar's points: (step, value), in order."""
    return {
        trial.number: (
            trial.params,
            trial.state,
            trial.reason,
            {
                "score": list(zip(trial.curve.epochs, trial.curve.metric, strict=True)),
                "train_loss": list(zip(trial.curve.epochs, trial.curve.train_loss, strict=True)),
                "lr_progress": list(zip(trial.curve.epochs, trial.curve.lr_progress, strict=True)),
                **{
                    f"rotation/{layer}": [
                        (epoch, distances[i])
                        for epoch, distances in zip(
                            trial.curve.epochs, trial.curve.distances, strict=True
                        )
                    ]
                    for i, layer in enumerate(LAYERS)
                },
            },
        )
        for trial in result.trials
    }


def in_tensorboard(folder):
    """The same, as TensorBoard's own reader finds it."""
    found = {}
    for path in sorted((folder / "tensorboard").iterdir()):
        log = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0}).Reload()
        tags = log.Tags()
        hparams = log.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        params = {
            name: value.number_value
            for name, value in metadata.parse_session_start_info_plugin_data(
                hparams
            ).hparams.items()
        }
        [end] = log.Tensors("end/text_summary")
        state, _, reason = end.tensor_proto.string_val[0].decode().partition(": ")
        scalars = {
            tag: [(point.step, point.value) for point in log.Scalars(tag)]
            for tag in tags["scalars"]
        }
        found[int(path.name.removeprefix("trial-"))] = (params, state, reason, scalars)
    return found


def in_mlflow(folder, uri=""):
    """The same, as MLflow's own client finds it."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri or f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(folder.name)
    with opened(folder.name, folder.parent) as (study, _):
        own = f"tags.`quarterturn.study` = '{study.user_attrs[LOG_ID]}'"
    found = {}
    for one in client.search_runs([experiment.experiment_id], own):
        number = int(one.data.tags["quarterturn.trial"])
        assert number not in found, "a trial is one run"
        assert one.info.run_name == f"trial {number}"
        state = one.data.tags["state"]
        status = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}[state]
        assert one.info.status == status
        found[number] = (
            {name: float(value) for name, value in one.data.params.items()},
            state,
            one.data.tags.get("reason", ""),
            {
                key: [(m.step, m.value) for m in client.get_metric_history(one.info.run_id, key)]
                for key in one.data.metrics
            },
        )
    return found


def assert_same(found, study):
    """A log holds every trial of the study, and of each scalar the very points, each once."""
    assert sorted(found) == sorted(study)
    for number, (params, state, reason, scalars) in study.items():
        own = found[number]
        assert own[0] == pytest.approx(params)
        assert own[1:3] == (state, reason)
        for key, points in scalars.items():
            # Six decimals are what the study keeps of a distance.
            assert [step for step, _ in own[3][key]] == [step for step, _ in points], (number, key)
            assert [v for _, v in own[3][key]] == pytest.approx([v for _, v in points], abs=2e-6)
        assert [value for _, value in own[3]["epoch"]] == [step for step, _ in scalars["score"]]
        assert {"rotation_min", "rotation_mean"} <= own[3].keys()


@pytest.fixture(scope="module")
def whole(two_cpus, tmp_path_factory):
    """A study with pauses, prunings and completions, logged to both."""
    folder = tmp_path_factory.mktemp("logged") / "studies"
    notes = Notes()
    result = run(logged_job(folder), observer=notes)
    return folder / "logged", result, notes


def test_every_report_is_in_tensorboard_at_its_epoch(whole):
    folder, result, _ = whole
    assert {trial.state for trial in result.trials} == {"complete", "pruned"}
    assert_same(in_tensorboard(folder), in_study(result))


def test_every_report_is_in_mlflow_and_a_paused_trial_is_one_run(whole):
    folder, result, _ = whole
    parts = [path.name for path in (folder / "trials").glob("trial-*-1")]
    assert parts, "no trial has gone on after a pause"
    assert_same(in_mlflow(folder), in_study(result))


def test_a_study_says_where_it_is_logged(whole):
    folder, _, notes = whole
    assert notes.lines == [
        f"logging to tensorboard; to see it: tensorboard --logdir {folder}/tensorboard",
        f"logging to mlflow; to see it: mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db",
    ]


@pytest.fixture
def server(whole, monkeypatch):
    """A place of the user's own for MLflow, which has runs of another study of the same name."""
    uri = f"sqlite:///{whole[0]}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def test_an_interrupted_study_goes_on_in_the_same_runs(tmp_path, whole, server):
    folder = tmp_path / "studies"
    first = next(t.number for t in whole[1].trials if t.state == "complete")
    part = run(logged_job(folder), observer=Interrupting(first, 4))
    assert part.trials[first].state == "running"
    [torn] = (folder / "logged" / "tensorboard" / f"trial-{first:05}").iterdir()
    with torn.open("ab") as file:
        file.write(b"\x07\0\0\0\0")
    result = resume("logged", folder=folder, observer=RunCallback())
    assert result.finished
    assert not (folder / "logged" / "mlflow.db").exists()
    assert_same(in_tensorboard(folder / "logged"), in_study(result))
    assert_same(in_mlflow(folder / "logged", server), in_study(result))


def test_a_server_that_is_away_is_one_line_and_the_study_goes_on(tmp_path, server, monkeypatch):
    folder = tmp_path / "studies"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    notes = Notes()
    job = logged_job(folder, num_trials=2, pruner="none", max_epochs=3, loggers="mlflow")
    assert run(job, observer=notes).finished
    where, away, lacks = notes.lines
    assert where == "logging to mlflow; to see it: http://127.0.0.1:9"
    assert away.startswith("mlflow cannot be written (")
    assert "secret" not in away
    assert lacks == (
        "mlflow lacks 6 reports of this study; once it can be written, quarterturn resume logged "
        "adds them"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    result = resume("logged", folder=folder, observer=notes)
    assert notes.lines[3:] == ["logging to mlflow; to see it: mlflow ui"]
    assert_same(in_mlflow(folder / "logged", server), in_study(result))


def test_a_logger_whose_process_dies_does_not_stop_the_study(tmp_path):
    class Killer(Notes):
        def started(self, number, params):
            if number == 1:
                own = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
                for pid in own:
                    if b"loggers.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(int(pid), 9)

    folder, killer = tmp_path / "studies", Killer()
    job = logged_job(folder, num_trials=3, pruner="none", max_epochs=3, loggers=("tensorboard",))
    assert run(job, observer=killer).finished
    assert killer.lines[1:] == [
        "tensorboard's process ended by itself (-9); quarterturn resume logged adds the missing "
        "events"
    ]
    result = resume("logged", folder=folder, observer=RunCallback())
    assert_same(in_tensorboard(folder / "logged"), in_study(result))


@pytest.mark.parametrize(
    ("logger", "package"), [("tensorboard", "tensorboardX"), ("mlflow", "mlflow")]
)
def test_a_missing_package_is_refused_before_anything_starts(
    tmp_path, monkeypatch, logger, package
):
    monkeypatch.setitem(sys.modules, package, None)
    rule = rf"logger {logger} needs the package {package}.*; pip install 'quarterturn\[{logger}\]'"
    with pytest.raises(InvalidInput, match=rule):
        run(logged_job(tmp_path / "studies"))
    assert not list(tmp_path.iterdir())


def test_none_ends_logging_and_what_was_logged_stays(whole):
    folder, _, _ = whole
    before = in_tensorboard(folder)
    notes = Notes()
    again = resume("logged", folder=folder.parent, loggers=("none",), observer=notes)
    assert (again, notes.lines) == (load_study("logged", folder=folder.parent), [])
    assert in_tensorboard(folder) == before
