"""The project that the benchmark runs: small pipelines that cost little themselves."""

from __future__ import annotations

import json
from pathlib import Path

TRIGGER = """\
triggers:
- name: hook
  type: webhook
  verify: none
  variables:
    number: "{{ event.data.number }}"
    stamp: "{{ event.data.stamp }}"
"""

SECRET = "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZg" * 2

SIGNED = f"""\
- name: signed
  type: webhook
  verify: {{scheme: standard_webhooks, secret: "{SECRET}"}}
  variables:
    number: "{{{{ event.data.number }}}}"
    stamp: "{{{{ event.data.stamp }}}}"
"""

LOADER = """\
import time

@data_loader
def load(*args, **kwargs):
    begun = time.time_ns()
    import pandas as pd
    if kwargs["stamp"]:
        with open(kwargs["stamp"], "a") as stamps:
            stamps.write(f"{begun}\\n")
    return pd.DataFrame({"a": range(10), "b": [0.5] * 10})
"""

TRANSFORMER = """\
@transformer
def pass_on(frame, *args, **kwargs):
    return frame
"""

EXPORTER = """\
@data_exporter
def end(frame, *args, **kwargs):
    pass
"""

FIRST_NUMBER = """\
@custom
def first(*args, **kwargs):
    return {"fib": _fib(10)}

def _fib(n):
    return n if n < 2 else _fib(n - 1) + _fib(n - 2)
"""

NEXT_NUMBER = """\
@custom
def following(before, *args, **kwargs):
    return {"fib": _fib(10)}

def _fib(n):
    return n if n < 2 else _fib(n - 1) + _fib(n - 2)
"""

BIG_LOADER = """\
import time
import numpy as np
import pandas as pd

@data_loader
def load(*args, **kwargs):
    numbers = np.random.default_rng(1).random((1_000_000, 10))
    frame = pd.DataFrame(numbers, columns=[f"c{i}" for i in range(10)])
    frame.attrs["returned"] = time.time_ns()
    return frame
"""

SMALL_LOADER = """\
import time
import pandas as pd

@data_loader
def load(*args, **kwargs):
    frame = pd.DataFrame({"a": range(10), "b": [0.5] * 10})
    frame.attrs["returned"] = time.time_ns()
    return frame
"""

RECEIVER = """\
import time

@transformer
def receive(frame, *args, **kwargs):
    arrived = time.time_ns()
    with open(kwargs["stamp"], "a") as stamps:
        stamps.write(f"{frame.attrs['returned']}\\n{arrived}\\n")
    return None
"""

WAITER = """\
import time

@data_exporter
def durable(frame, *args, **kwargs):
    arrived = time.time_ns()
    with open(kwargs["stamp"], "a") as stamps:
        stamps.write(f"{frame.attrs['returned']}\\n{arrived}\\n")
"""

HOLDER = """\
import time
from pathlib import Path

@custom
def hold(*args, **kwargs):
    while not Path(kwargs["stamp"]).exists():
        time.sleep(0.02)
"""

ITEMS = """\
@data_loader
def items(*args, **kwargs):
    return [list(range(1_000))]
"""

CHILD = """\
@transformer
def child(item, *args, **kwargs):
    return {"twice": 2 * item}
"""

CHAIN_LENGTH = 40
CHILDREN = 1_000
# What blocks have beside their code, by name.
CONFIGURATION = {"items": "{dynamic: true}", "child": "{reduce_output: true}"}


def write_bench_project(root: Path) -> Path:
    """Write the project below `root` and return its folder."""
    project = root / "bench"
    code = {
        "data_loaders/load.py": LOADER,
        "transformers/pass_on.py": TRANSFORMER,
        "data_exporters/end.py": EXPORTER,
        "custom/first.py": FIRST_NUMBER,
        "custom/following.py": NEXT_NUMBER,
        "data_loaders/big.py": BIG_LOADER,
        "data_loaders/small.py": SMALL_LOADER,
        "transformers/receive.py": RECEIVER,
        "data_exporters/durable.py": WAITER,
        "custom/hold.py": HOLDER,
        "data_loaders/items.py": ITEMS,
        "transformers/child.py": CHILD,
    }
    pipelines = {
        "noop": [
            ("load", "data_loader", None),
            ("pass_on", "transformer", "load"),
            ("end", "data_exporter", "pass_on"),
        ],
        "hold": [("hold", "custom", None)],  # keeps a slot busy until its file is there
        "chain": _chain(),
        "fan": [
            ("items", "data_loader", None),
            ("child", "transformer", "items"),
            ("end", "data_exporter", "child"),
        ],
        "small": [("small", "data_loader", None), ("receive", "transformer", "small")],
        "big": [("big", "data_loader", None), ("receive", "transformer", "big")],
        "big_durable": [("big", "data_loader", None), ("durable", "data_exporter", "big")],
    }
    for path, text in code.items():
        _write(project / path, text)
    for name, blocks in pipelines.items():
        _write(project / "pipelines" / name / "metadata.yaml", _pipeline(name, blocks))
        _write(project / "pipelines" / name / "triggers.yaml", TRIGGER + SIGNED)
    _write(project / "metadata.yaml", "name: bench\n")
    return project


def write_crowd_project(root: Path, *, schedules: int, sensors: int) -> Path:
    """Write a project of one pipeline with many triggers, whose events start nothing."""
    project, inbox = root / "crowd", root / "inbox"
    inbox.mkdir(parents=True)
    crowd: list[dict[str, object]] = [
        {"name": f"s{number}", "type": "schedule", "cron": "* * * * *", "filter": False}
        for number in range(schedules)
    ]
    crowd += [
        {
            "name": f"w{number}",
            "type": "sensor",
            "sensor": "files",
            "options": {"path": str(inbox), "pattern": f"{number}-*.csv"},
            "every": "30s",
        }
        for number in range(sensors)
    ]
    _write(project / "metadata.yaml", "name: crowd\n")
    _write(project / "custom/first.py", FIRST_NUMBER)
    _write(project / "pipelines/noop/metadata.yaml", _pipeline("noop", [("first", "custom", None)]))
    _write(project / "pipelines/noop/triggers.yaml", json.dumps({"triggers": crowd}))
    return project


def _chain() -> list[tuple[str, str, str | None]]:
    names = ["first", *(f"n{number}" for number in range(2, CHAIN_LENGTH + 1))]
    return [(name, "custom", names[index - 1] if index else None) for index, name in enumerate(names)]


def _pipeline(name: str, blocks: list[tuple[str, str, str | None]]) -> str:
    lines = [f"name: {name}", "type: python", "blocks:"]
    for block, kind, upstream in blocks:
        lines += [f"- name: {block}", f"  uuid: {block}", f"  type: {kind}", "  language: python"]
        lines.append(f"  upstream_blocks: [{upstream or ''}]")
        if block.startswith("n") and block[1:].isdigit():
            lines.append("  configuration: {file_path: custom/following.py}")
        elif block in CONFIGURATION:
            lines.append(f"  configuration: {CONFIGURATION[block]}")
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
