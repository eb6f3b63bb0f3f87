"""What survives a kill: results that were paid for, line by line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from deepmmsearch.files import for_owner, make_folder


class Journal:
    """Results by id in a file of JSON lines, and in `tries` how often each was asked for where that was not once. A
    half-written last line is cut off when the journal is opened.

    A line is handed to the operating system before `append` returns: it survives the death of the process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Any] = {}
        self.tries: dict[str, int] = {}
        make_folder(path.parent, private=True)
        whole = 0
        if path.exists():
            with path.open("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):
                        break
                    row = json.loads(line)
                    self.entries[row["id"]] = row["value"]
                    self.tries[row["id"]] = int(row.get("tries", 1))
                    whole += len(line)
            os.truncate(path, whole)
        self._file = open(path, "ab", buffering=0, opener=for_owner)  # noqa: SIM115

    def append(self, id: str, value: Any, tries: int = 1) -> None:
        line = {"id": id, "value": value, **({"tries": tries} if tries > 1 else {})}
        self._file.write(json.dumps(line, ensure_ascii=True).encode() + b"\n")
        self.entries[id], self.tries[id] = value, tries

    def close(self) -> None:
        self._file.close()
