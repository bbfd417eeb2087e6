"""The folders of a trial's parts: each new, and removed once nobody will go on from them."""

from __future__ import annotations

import pytest
from ray.train._internal.storage import StorageContext
from ray.tune import Trainable

from tuner.engine.checkpoints import new_attempt_dir, remove_other_attempts
from tuner.engine.ray_tune import StudyTrial
from tuner.storage.paths import StoragePath


@pytest.mark.parametrize(
    ("folders", "checkpoint", "part"),
    [
        ([], None, "00007"),
        (["trial-00008", "trial-00070"], None, "00007"),
        (["trial-00007"], None, "00007-1"),
        (["trial-00007", "trial-00007-1"], None, "00007-2"),
        (["trial-00007"], "trial-00007/checkpoint_000003", "00007-1"),
        (["trial-00007-1"], "trial-00007-1/checkpoint_000000", "00007-2"),
        (["trial-00007-1", "trial-00007-2"], "trial-00007-1/checkpoint_000000", "00007-3"),
        (["trial-00007-10"], "trial-00007-10/checkpoint_000000", "00007-11"),
    ],
)
def test_the_next_part_has_a_folder_of_its_own(tmp_path, folders, checkpoint, part):
    for name in folders:
        (tmp_path / name).mkdir()
    assert new_attempt_dir(7, StoragePath(str(tmp_path)), checkpoint) == part


def test_only_the_part_with_the_checkpoint_stays(tmp_path):
    parts = ("trial-00007", "trial-00007-1", "trial-00007-2", "trial-00007-3", "trial-00007-4")
    for name in (*parts, "trial-00070", "trial-00008-1"):
        (tmp_path / name / "checkpoint_000000").mkdir(parents=True)
    remove_other_attempts(7, StoragePath(str(tmp_path)), "trial-00007-2/checkpoint_000000")
    left = sorted(folder.name for folder in tmp_path.iterdir())
    assert left == ["trial-00007-2", "trial-00008-1", "trial-00070"]


def test_a_folder_has_the_attempts_name_where_two_studies_begin_in_one_second(tmp_path, two_cpus):
    # The name of Ray's local folder of an experiment has the second of its start.
    storage = StorageContext(str(tmp_path), "trials")
    for _ in range(2):
        trial = StudyTrial(Trainable, lambda error: None, trial_id="00007-1", storage=storage)
        trial.init_local_path()
        assert trial.storage.trial_dir_name == trial.relative_logdir == "trial-00007-1"
