"""Short reasons, and studies as commands name them."""

from __future__ import annotations

import shlex

import pytest

from tuner.report.formatting import load_call, short_reason, study_arguments


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        ("peers: 8th of 14 at epoch 0.25; the best 5 go on. Compared by x. Saves 2 of 3 epochs.",
         "8th of 14 at epoch 0.25; the best 5 go on"),
        ("diverged: train loss nan at epoch 0.25. Saves 19.75 of 20 epochs.",
         "diverged: train loss nan at epoch 0.25"),
        ("NopPruner: nothing reported yet", "NopPruner: nothing reported yet"),
        ("RuntimeError: CUDA out of memory. Tried to allocate 2 GiB",
         "RuntimeError: CUDA out of memory"),
        ("one\n  two\x07\nthree", "one two three"),
        ("", ""),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 29 + "…" + "x" * 30),
        ("a long name: " + "y" * 70 + "!", "a long name: " + "y" * 16 + "…" + "y" * 29 + "!"),
        ("target out of reach: the hidden layers end at 0.2; peers: place 9 of 9 at epoch 1",
         "place 9 of 9 at epoch 1"),
    ],
)  # fmt: skip
def test_a_short_reason_is_the_first_sentence_in_60_characters(reason, short):
    assert short_reason(reason) == short
    assert len(short) <= 60


@pytest.mark.parametrize("name", ["a", "a b", "it's", "$HOME"])
@pytest.mark.parametrize("folder", [None, "my studies", "a;b"])
def test_a_shell_reads_the_arguments_as_they_are(name, folder):
    expected = [name] if folder is None else [name, "--folder", folder]
    assert shlex.split(study_arguments(name, folder)) == expected


def test_python_reads_the_call_as_it_is():
    assert load_call("it's", None) == 'tuner.load_study("it\'s")'
    assert load_call("a", "b c") == "tuner.load_study('a', folder='b c')"
