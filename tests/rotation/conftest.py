"""What the rotation tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A distributed job of one process, in this process."""
    store = torch.distributed.FileStore(str(tmp_path / "store"))
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()
