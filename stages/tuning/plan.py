"""What a study is of: a task's entry, what it may vary in it, and the files that it is trained on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.data import pointers
from stages.params import document
from stages.params.task import TaskParams
from stages.params.tuning import FIXED, TuningParams, fields, placed, value_at
from stages.tracking.process import LOCAL_STATE

FOLDER = LOCAL_STATE / "tune"
CODE = "stages/"


@dataclass(frozen=True)
class Plan:
    """The study of one task as params.yaml and the files say now."""

    key: str
    entry: Mapping[str, Any]  # tasks.KEY as it is written
    tuning: TuningParams
    seed: int
    cpu_threads: int
    dep_hashes: Mapping[str, str]  # of finetune@KEY

    @classmethod
    def read(cls, key: str) -> "Plan":
        """The plan of a task; ValueError when params.yaml says nothing of its tuning."""
        entry, tuning = document.read()["tasks"][key], document.tuning_params(key)
        with pointers.stage_files(f"finetune@{key}") as files:
            dep_hashes = files.dep_hashes()
        return cls(key, entry, tuning, document.seed(), document.cpu_threads(), dep_hashes)

    def params(self, values: Mapping[str, Any] | None = None) -> TaskParams:
        """The task's section as a trial trains it; ValueError when its values do not go together."""
        content = placed(self.entry, {**self.tuning.overrides, **(values or {})})
        return document.task_section(content, f"tasks.{self.key}")

    @property
    def file(self) -> Path:
        """Where the study lies; other data, another backbone, other parameters or ranges have another place.

        Values of the keys that are tuned do not count, nor does code: the best may be written into params.yaml, and a
        study go on.
        """
        kept = {name: value for name, value in self.params().model_dump(mode="json").items() if name not in FIXED}
        facts = {
            "task": placed(kept, dict.fromkeys(self.tuning.ranges)),
            "kind": self.params().kind,
            "tuning": self.tuning.model_dump(mode="json", exclude={"trials"}),
            "seed": self.seed,
            "cpu_threads": self.cpu_threads,
            "inputs": {path: digest for path, digest in self.dep_hashes.items() if not path.startswith(CODE)},
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return FOLDER / f"{self.key}-{digest[:16]}.journal"

    def is_whole(self) -> dict[str, bool]:
        """Key with a range -> whether it is a whole number."""
        known = fields(type(self.params()))
        return {path: known[path] for path in self.tuning.ranges}

    def present(self) -> dict[str, Any]:
        """The values that the keys have in params.yaml: those of trial 0."""
        section = self.params().model_dump(mode="json")
        return {path: value_at(section, path) for path in self.tuning.ranges}
