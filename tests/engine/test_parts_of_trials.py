"""The folders of a trial's parts: each new, and removed once nobody will go on from them."""

from __future__ import annotations

from tuner.engine.trial import part_id, remove_other_parts


def test_parts_are_numbered_on_from_the_last_one_there(tmp_path):
    assert part_id(7, tmp_path) == "00007"
    (tmp_path / "trial-00007").mkdir()
    assert part_id(7, tmp_path) == "00007-1"
    (tmp_path / "trial-00007-1").mkdir()
    assert part_id(7, tmp_path) == "00007-2"
    (tmp_path / "trial-00007").rmdir()
    assert part_id(7, tmp_path) == "00007-2"
    assert part_id(8, tmp_path) == "00008"


def test_only_the_part_with_the_checkpoint_stays(tmp_path):
    for name in ("trial-00007", "trial-00007-1", "trial-00007-2", "trial-00070", "trial-00008-1"):
        (tmp_path / name / "checkpoint_000000").mkdir(parents=True)
    remove_other_parts(7, tmp_path, tmp_path / "trial-00007-1" / "checkpoint_000000")
    left = sorted(folder.name for folder in tmp_path.iterdir())
    assert left == ["trial-00007-1", "trial-00008-1", "trial-00070"]
