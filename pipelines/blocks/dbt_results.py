"""What dbt says of a call: its artifacts, as lines of the log, rows and failures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_GOOD = ("success", "pass", "skipped", "no-op", "warn", "partial success")


@dataclass(frozen=True)
class NodeResult:
    """How one model, test, seed or snapshot ended."""

    name: str  # "model orders"
    status: str
    seconds: float
    message: str
    rows: int | None

    @property
    def is_good(self) -> bool:
        return self.status in _GOOD

    def __str__(self) -> str:
        rows = "" if self.rows is None else f", {self.rows} rows"
        message = "" if self.is_good and self.status != "warn" else f": {self.message}"
        return f"{self.name}: {self.status} in {self.seconds:.2f} s{rows}{message}"


def results(folder: Path) -> list[NodeResult]:
    """Return the results of all calls, in their order."""
    return [
        _node(entry)
        for file in sorted(folder.glob("run_results_*.json"))
        for entry in json.loads(file.read_text("utf-8"))["results"]
    ]


def _node(entry: Mapping[str, Any]) -> NodeResult:
    kind, _, name = str(entry["unique_id"]).partition(".")
    rows = (entry.get("adapter_response") or {}).get("rows_affected")
    short = name.split(".")[1] if name.count(".") else name
    return NodeResult(
        name=f"{kind} {short}",
        status=str(entry["status"]),
        seconds=float(entry.get("execution_time") or 0),
        message=" ".join(str(entry.get("message") or "").split()),
        rows=rows if isinstance(rows, int) and rows >= 0 and kind != "test" else None,
    )


def failure(results: Sequence[NodeResult], ended: Sequence[Mapping[str, Any]]) -> str | None:
    """Return one sentence that tells of all that failed; None when nothing has."""
    bad = [str(result) for result in results if not result.is_good]
    if bad:
        return "; ".join(bad)
    errors = [str(call["error"] or "it failed") for call in ended if not call.get("success")]
    return "; ".join(errors) or None


def relation(folder: Path, model: str) -> str | None:
    """Return the table or view of a model as SQL names it; None where it has none."""
    manifest = folder / "target" / "manifest.json"
    if not manifest.exists():
        return None
    for node in json.loads(manifest.read_text("utf-8"))["nodes"].values():
        if node["resource_type"] == "model" and node["name"] == model:
            name = node.get("relation_name")
            return str(name) if name else None
    return None
