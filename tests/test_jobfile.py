"""A job from a Python file, or from names on the command line."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray import cloudpickle

import trainables
from search_spaces import adamw
from tuner.errors import InvalidInput
from tuner.jobfile import (
    _MOVED_MODULES,
    _RENAMED,
    built_in_job,
    find_space,
    load_job,
    unpickle_job,
)

JOB = """
    from tuner import TuningJob

    def space(trial):
        return {"lr": trial.suggest_float("lr", 1e-4, 1.0, log=True)}

    def train(config):
        pass

    job = TuningJob(name="from-file", trainable=train, search_space=space, metric="loss")
"""


@pytest.fixture(autouse=True)
def _imports_nothing_for_good(tmp_path, monkeypatch) -> Iterator[None]:
    """What a job file adds to the interpreter goes with its test."""
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            if name in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.unregister_pickle_by_value(sys.modules[name])
            del sys.modules[name]


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    def write(text: str, name: str = "a_job_file.py") -> Path:
        file = tmp_path / name
        file.write_text(textwrap.dedent(text))
        return file

    return write


def refused(reference: object) -> str:
    """Return the one line with which a job file is refused."""
    with pytest.raises(InvalidInput) as caught:
        load_job(str(reference))
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestLoading:
    def test_a_file_gives_the_job_it_defines(self, write):
        job = load_job(str(write(JOB)))
        assert (job.name, job.metric) == ("from-file", "loss")

    def test_a_relative_path_is_from_here(self, write):
        write(JOB)
        assert load_job("a_job_file.py").name == "from-file"

    def test_a_job_may_be_named(self, write):
        file = write(JOB + '\n    other = job.with_changes(name="other")\n')
        assert load_job(f"{file}:job").name == "from-file"
        assert load_job(f"{file}:other").name == "other"

    def test_a_file_may_import_what_lies_beside_it(self, write):
        write("NAME = 'from-beside'", "lies_beside.py")
        job = textwrap.dedent(JOB).replace('"from-file"', "lies_beside.NAME")
        file = write("import lies_beside\n" + job)
        assert load_job(str(file)).name == "from-beside"

    def test_another_process_can_unpickle_what_the_file_defines(self, write, tmp_path):
        job = load_job(str(write(JOB)))
        (tmp_path / "job.pkl").write_bytes(cloudpickle.dumps(job))
        (tmp_path / "a_job_file.py").unlink()
        script = (
            "import sys; from ray import cloudpickle; "
            "job = cloudpickle.loads(open(sys.argv[1], 'rb').read()); print(job.trainable({}))"
        )
        ended = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "job.pkl")],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            timeout=120,
        )
        assert (ended.stdout, ended.stderr) == ("None\n", "")


class TestRefusing:
    def test_a_file_without_a_job(self, write):
        file = write("x = 1")
        assert refused(file) == (
            f"a job file must define one TuningJob, {file} defines none; add job = TuningJob(...)"
        )

    def test_a_file_of_two_jobs_without_a_name(self, write):
        file = write(JOB + '\n    other = job.with_changes(name="other")\n')
        assert refused(file) == (
            f"a job file must define one TuningJob, {file} defines job, other; name one: {file}:job"
        )

    def test_a_name_the_file_does_not_define(self, write):
        file = write(JOB)
        assert refused(f"{file}:jobs") == f"unknown job in {file} 'jobs'; known: job"

    @pytest.mark.parametrize("name", ["missing.py", "", "folder"])
    def test_a_file_that_is_not_there(self, name, tmp_path):
        (tmp_path / "folder").mkdir()
        assert refused(name) == (
            f"a job file must exist, got {str(Path(name))!r}; "
            "or use --trainable NAME --space NAME instead of a file"
        )

    def test_a_file_that_is_not_python(self, write):
        file = write("name: fashion", "job.yaml")
        assert refused(file) == f"a job file must be Python, got {str(file)!r}; name it FILE.py"

    @pytest.mark.parametrize(
        ("text", "error", "line"),
        [
            ("x = 1\ny = undefined\n", "NameError: name 'undefined' is not defined", 2),
            ("x = 1\n\ndef f(:\n", "SyntaxError: ", 3),
            ("import json\n\njson.loads('{')\n", "JSONDecodeError: ", 3),
            ("import no_such_module_at_all\n", "ModuleNotFoundError: No module named ", 1),
            ("def f():\n    return 1 / 0\n\n\nf()\n", "ZeroDivisionError: division by zero", 5),
            ("assert False, 'one\\ntwo'\n", "AssertionError: one", 1),
        ],
        ids=["name", "syntax", "library", "import", "own function", "two lines"],
    )
    def test_a_file_that_fails_is_told_with_the_line_of_that_file(self, write, text, error, line):
        file = write(text)
        message = refused(file)
        assert message.startswith(f"a job file must run, {file} raised {error}")
        assert message.endswith(f"(line {line}); try: python {file}")

    def test_a_file_that_ends_the_interpreter(self, write):
        assert "raised SystemExit" in refused(write("import sys\n\nsys.exit(3)\n"))

    def test_a_job_that_breaks_a_rule_is_told_as_it_is(self, write):
        file = write(JOB.replace('"from-file"', '"from file"'))
        assert refused(file).startswith("name must be letters, digits, ")


class TestByName:
    def test_a_trainable_and_a_space_make_a_job(self):
        job = built_in_job("digits-mlp", "adamw", num_trials=3)
        assert (job.name, job.num_trials, job.metric) == ("digits-mlp-adamw", 3, "val_accuracy")
        assert job.search_space is adamw

    def test_a_given_name_is_kept(self):
        assert built_in_job("digits-mlp", "sgd", name="mine").name == "mine"

    @pytest.mark.parametrize(
        ("trainable", "space", "told"),
        [
            ("digits-mpl", "sgd", "unknown trainable 'digits-mpl'; known: digits-mlp, "),
            ("digits-mlp", "sdg", "unknown search space 'sdg'; known: sgd, "),
            ("nothing-like-it", "sgd", "unknown trainable 'nothing-like-it'; known: c10-cnn1, "),
        ],
    )
    def test_an_unknown_name_lists_the_nearest_first(self, trainable, space, told):
        with pytest.raises(InvalidInput, match=f"^{told}"):
            built_in_job(trainable, space)

    def test_a_bad_field_is_one_line(self):
        with pytest.raises(InvalidInput, match=r"^num_trials must be >= 1, got 0; "):
            built_in_job("digits-mlp", "sgd", num_trials=0)


class TestByModule:
    @pytest.mark.parametrize("module", ["own_module", "own_module.py"])
    def test_a_trainable_and_a_space_are_found_in_a_module_of_this_folder(self, write, module):
        write(JOB, "own_module.py")
        job = built_in_job(f"{module}:train", f"{module}:space", metric="loss")
        assert job.trainable.__name__ == "train"
        assert job.search_space is find_space(f"{module}:space")
        assert job.name == f"{module}-train-{module}-space"

    @pytest.mark.parametrize(
        ("reference", "got"),
        [
            ("no_such_module:space", "No module named 'no_such_module'"),
            ("own_module:spaec", "has no attribute 'spaec'"),
            ("own_module:", "attribute"),
            (":space", ""),
            ("..own_module:space", ""),
            ("own_module/x:space", "No module named"),
            ("broken_module:space", "'undefined' is not defined"),
            ("unreadable_module:space", "invalid syntax"),
        ],
    )
    def test_what_cannot_be_imported_is_one_line(self, write, reference, got):
        write(JOB, "own_module.py")
        write("x = undefined\n", "broken_module.py")
        write("def f(:\n", "unreadable_module.py")
        with pytest.raises(InvalidInput) as caught:
            find_space(reference)
        message = str(caught.value)
        assert message.startswith(f"{reference!r} must be a name or module:attribute that can be ")
        assert got in message
        assert message.endswith("; run from the folder that holds the module")
        assert "\n" not in message


class TestJobsOfEarlierVersions:
    """Their pickles name modules that have moved since."""

    def test_an_included_trainable_and_a_pruner_are_found(self):
        # Written by the version before its modules moved into packages, from
        # built_in_job("digits-mlp", "adamw", num_trials=3, pruner=RotationPruner(
        #     RotationTarget(distance=0.9), warmup_epochs=0.5))
        job = unpickle_job(Path(__file__).parent / "jobs" / "before_the_move.pkl")
        assert (job.trainable, job.search_space) == (trainables.DigitsMlp, adamw)
        assert (job.num_trials, job.max_epochs) == (3, 20)
        assert job.pruner.criteria.target.distance == 0.9
        assert job.pruner.criteria.warmup_epochs == 0.5

    @pytest.mark.parametrize(
        ("pickled", "found"),
        [
            (b"ctrainables.data\nData\n.", trainables.Data),
            (b"ctrainables.layca\nLayca\n.", trainables.Layca),
            (b"ctrainables.tasks\nC10Cnn1\n.", trainables.C10Cnn1),
            (b"ctrainables.small_tasks\nC10Cnn1Small\n.", trainables.C10Cnn1Small),
            (b"ctrainables.tasks.basic\nDigitsMlp\n.", trainables.DigitsMlp),
        ],
    )
    def test_a_class_is_found_where_it_is_now(self, pickled, found, tmp_path):
        (tmp_path / "job.pkl").write_bytes(pickled)
        assert unpickle_job(tmp_path / "job.pkl") is found

    def test_a_module_that_a_users_function_refers_to_is_found(self, tmp_path):
        pickled = b"cray.cloudpickle.cloudpickle\nsubimport\n(S'trainables.data'\ntR."
        (tmp_path / "job.pkl").write_bytes(pickled)
        assert unpickle_job(tmp_path / "job.pkl").Data is trainables.Data

    def test_every_moved_module_is_there(self):
        for module in _MOVED_MODULES.values():
            importlib.import_module(module)
        for (module, _), name in _RENAMED.items():
            assert hasattr(importlib.import_module(_MOVED_MODULES[module]), name)

    def test_a_module_that_is_gone_is_one_line(self, tmp_path):
        (tmp_path / "job.pkl").write_bytes(b"ctrainables.gone\nNet\n.")
        with pytest.raises(InvalidInput, match=r"No module named 'trainables.gone'; run its") as e:
            unpickle_job(tmp_path / "job.pkl")
        assert "\n" not in str(e.value)
