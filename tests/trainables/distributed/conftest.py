"""What the tests of several processes share: that these start at once."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from tests.forked_processes import ForkedWorker
from trainables.distributed import workers


@pytest.fixture(scope="module", autouse=True)
def _forked_workers(request):
    """Fork the processes of a trial, but where Ray's workers start them or one has a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__.rpartition(".")[2] != "test_two_gpus":
            forking = SimpleNamespace(**{**vars(subprocess), "Popen": ForkedWorker})
            patch.setattr(workers, "subprocess", forking)
        yield
