"""A study as text that survives a log: packed where it is kept, and unpacked to be read elsewhere.

It is packed as the journal that Optuna would have written, whatever storage it is in, so that what
is unpacked is plain JSON: nothing that comes from another machine is run.
"""

from __future__ import annotations

import base64
import tempfile
import textwrap
import zlib
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tuner.errors import InvalidInput
from tuner.study.catalog import StudyFolder, open_for_reading
from tuner.study.database import close_database
from tuner.study.load import CHECKPOINTS

_BEGIN, _END = "-----BEGIN STUDY-----", "-----END STUDY-----"


def pack(home: StudyFolder) -> str:
    """Return a study as lines of text, with where its trials' folders are on this machine.

    Raises:
        InvalidInput: its storage cannot be opened.
    """
    journal = _copied(home) if home.storage_url.exists() else home.journal.read_bytes()
    content = str(home.trials.absolute()).encode() + b"\n" + journal
    text = base64.b64encode(zlib.compress(content, level=9)).decode()
    return "\n".join([_BEGIN, *textwrap.wrap(text, 1000), _END])


def unpack(text: str, name: str, folder: Path) -> StudyFolder:
    """Write a packed study, found in `text` wherever it stands, to a folder of its name.

    Raises:
        InvalidInput: there is none in it, whole.
    """
    _, _, after = text.partition(_BEGIN)
    packed, end, _ = after.partition(_END)
    if not end:
        raise InvalidInput(f"study {name!r} must arrive whole, it did not; try again")
    home = StudyFolder(folder / name)
    home.path.mkdir(parents=True)
    content = zlib.decompress(base64.b64decode("".join(packed.split())))
    trials, _, journal = content.partition(b"\n")
    home.journal.write_bytes(journal)
    study = optuna.load_study(
        study_name=name, storage=JournalStorage(JournalFileBackend(str(home.journal)))
    )
    if CHECKPOINTS not in study.user_attrs:  # they are in the study's folder, and that is there
        study.set_user_attr(CHECKPOINTS, trials.decode())
    return home


def _copied(home: StudyFolder) -> bytes:
    """Return the journal of a study that is kept in a database."""
    storage = open_for_reading(home)
    try:
        with tempfile.TemporaryDirectory() as made:
            file = Path(made, "study.log")
            optuna.copy_study(
                from_study_name=home.name,
                from_storage=storage,
                to_storage=JournalStorage(JournalFileBackend(str(file))),
            )
            return file.read_bytes()
    finally:
        close_database(storage)
