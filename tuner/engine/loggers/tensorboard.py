"""Trials as TensorBoard runs: a folder with one event file for each trial."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tensorboardX.proto.api_pb2 import Status
from tensorboardX.proto.event_pb2 import Event as Record
from tensorboardX.proto.plugin_hparams_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import text

from tuner.engine.loggers.base import Event, Known, LogWriter

_START, _END = "_hparams_/session_start_info", "_hparams_/session_end_info"
_HEADER, _CHECK = struct.Struct("<Q"), struct.Struct("<I")


class TensorBoard(LogWriter):
    """Writes a folder that TensorBoard reads.

    Args:
        folder: the folder of the study; the runs are in its folder ``tensorboard``.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder / "tensorboard"

    def find(self, number: int) -> Known:
        file = self._file(number)
        if not file.exists():
            return Known()
        epochs, ended, whole = [], False, 0
        for record, whole in _read(file):  # noqa: B007 - the last value is the length of the whole records
            for value in record.summary.value:
                if value.tag == "epoch":
                    epochs.append(value.simple_value)
                ended |= value.tag == _END
        with file.open("rb+") as torn:  # a killed writer leaves a partial record
            torn.truncate(whole)
        return Known.of(epochs, ended) if whole else Known()

    def add(self, number: int, events: Sequence[Event]) -> None:
        file = self._file(number)
        records = [record for event in events for record in _records_of(event)]
        if not file.exists() or not file.stat().st_size:
            file.parent.mkdir(parents=True, exist_ok=True)
            records.insert(0, Record(wall_time=events[0].at, file_version="brain.Event:2"))
        with file.open("ab") as log:
            log.write(b"".join(map(_framed, records)))

    def _file(self, number: int) -> Path:
        # TensorBoard looks for this name. It is the same in every process that writes the study.
        return self._folder / f"trial-{number:05}" / "events.out.tfevents.0.quarterturn"


def _records_of(event: Event) -> Iterator[Record]:
    if event.epoch is not None:
        values = [
            Summary.Value(tag=key, simple_value=number) for key, number in event.numbers.items()
        ]
        yield Record(wall_time=event.at, step=event.step, summary=Summary(value=values))
    elif event.state:
        status = "STATUS_FAILURE" if event.state == "failed" else "STATUS_SUCCESS"
        end = SessionEndInfo(status=Status.Value(status), end_time_secs=event.at)
        said = f"{event.state}: {event.reason}" if event.reason else event.state
        yield Record(wall_time=event.at, summary=text("end", said))
        yield _hparams(event, _END, session_end_info=end)
    else:
        start = SessionStartInfo(start_time_secs=event.at)
        for name, value in event.params.items():
            _set(start.hparams[name], value)
        yield _hparams(event, _START, session_start_info=start)


def _set(hparam: Any, value: Any) -> None:
    if isinstance(value, bool):
        hparam.bool_value = value
    elif isinstance(value, int | float):
        hparam.number_value = value
    else:
        hparam.string_value = str(value)


def _hparams(event: Event, tag: str, **content: Any) -> Record:
    data = HParamsPluginData(version=0, **content).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data)
    value = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))
    return Record(wall_time=event.at, summary=Summary(value=[value]))


def _framed(record: Record) -> bytes:
    """Return a record as an event file stores it: length and bytes, each with a checksum."""
    data = record.SerializeToString()
    header = _HEADER.pack(len(data))
    checks = (_CHECK.pack(masked_crc32c(header)), _CHECK.pack(masked_crc32c(data)))
    return b"".join((header, checks[0], data, checks[1]))


def _read(file: Path) -> Iterator[tuple[Record, int]]:
    """Yield the records of a file, each with its end position; stop at a partial record."""
    content, at = file.read_bytes(), 0
    while at + _HEADER.size <= len(content):
        (length,) = _HEADER.unpack_from(content, at)
        begin = at + _HEADER.size + _CHECK.size
        at = begin + length + _CHECK.size
        if at > len(content):
            return
        yield Record.FromString(content[begin : begin + length]), at
