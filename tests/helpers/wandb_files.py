"""Read the runs that Weights & Biases wrote offline: a log of protocol buffers, in blocks as LevelDB's."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_Record: Any = vars(wandb_internal_pb2)["Record"]
_BLOCK = 32 * 1024
_FILE_HEADER = 7
_RECORD_HEADER = 7  # checksum, length and kind of a part
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """What one run holds: its description, its configuration, every row of its history, its summary and its files."""

    run: Any
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    artifacts: list[Any] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def values(self, name: str) -> list[float]:
        return [row[name] for row in self.history if name in row]

    @property
    def names(self) -> set[str]:
        return {name for row in self.history for name in row if not name.startswith("_")}


def read_offline_runs(folder: Path = Path("runs/wandb")) -> list[OfflineRun]:
    """The runs below a folder, the first to be opened first."""
    files = sorted(folder.glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_ctime_ns)
    return [read_offline_run(path) for path in files]


def read_offline_run(path: Path) -> OfflineRun:
    found = OfflineRun(None)
    for content in _records(path.read_bytes()):
        record = _Record()
        record.ParseFromString(content)
        _add(found, record, record.WhichOneof("record_type"))
    return found


def _add(found: OfflineRun, record: Any, kind: str | None) -> None:
    if kind == "run":
        found.run = record.run
        _update(found.config, record.run.config.update)
    elif kind == "config":
        _update(found.config, record.config.update)
    elif kind == "history":
        row: dict[str, Any] = {}
        _update(row, record.history.item)
        found.history.append(row)
    elif kind == "summary":
        _update(found.summary, record.summary.update)
    elif kind == "metric":
        found.metrics[record.metric.name or record.metric.glob_name] = record.metric
    elif kind == "artifact":
        found.artifacts.append(record.artifact)
    elif kind == "files":
        found.files += [each.path for each in record.files.files]


def _update(tree: dict[str, Any], items: Any) -> None:
    for item in items:
        *above, last = list(item.nested_key) or [item.key]
        at = tree
        for key in above:
            at = at.setdefault(key, {})
        at[last] = json.loads(item.value_json)


def _records(content: bytes) -> Iterator[bytes]:
    assert content[:4] == b":W&B"
    at, parts = _FILE_HEADER, b""
    while at + _RECORD_HEADER <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < _RECORD_HEADER:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        at += _RECORD_HEADER
        parts += content[at : at + length]
        at += length
        if kind in (_FULL, _LAST):
            yield parts
            parts = b""
