"""The deliveries by hand of the how-to for webhooks, sent by its own commands to a real service."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.architecture.floors import ROOT
from tests.parts.projects import BlockFile, write_pipeline, write_project
from tests.parts.service import Service, clean_environment

pytestmark = pytest.mark.acceptance

PAGE = (ROOT / "docs" / "events" / "webhooks-providers.md").read_text("utf-8")
_FENCE = r"^```{}\n(.*?)^```"
_SECRET = re.compile(r"secret\('([\w-]+)'\)")


def blocks(language: str) -> list[str]:
    return re.findall(_FENCE.format(language), PAGE, re.MULTILINE | re.DOTALL)


def environ() -> dict[str, str]:
    names = {name.upper().replace("-", "_") for name in _SECRET.findall(PAGE)}
    return {f"MILLRACE_SECRET_{name}": "whsec_" + "MDAw" * 11 for name in names}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serve all triggers of the page, in one pipeline."""
    root = write_project(tmp_path_factory.mktemp("howto") / "demo")
    triggers = [trigger for text in blocks("yaml") for trigger in YAML(typ="safe").load(text)["triggers"]]
    only = BlockFile("only", "@custom\ndef only(**kwargs):\n    return 1\n")
    spelled = json.loads(json.dumps(triggers, default=str))
    # The token of GitLab is repeated, not a key: of the two kinds the page shows that one.
    write_pipeline(root, "taxi", [only], triggers=spelled)
    chosen = environ() | {"MILLRACE_SECRET_GITLAB": "a token that is repeated"}
    with Service([root], environ=chosen) as running:
        running.wait_ready()
        yield running


@pytest.mark.parametrize(
    "command", blocks("bash"), ids=lambda command: re.findall(r"taxi/(\w+)", command)[-1]
)
def test_delivery_by_hand_is_accepted(service: Service, command: str, tmp_path: Path) -> None:
    for tool in ("bash", "curl", "openssl"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} on this machine")
    script = command.replace("http://127.0.0.1:6789", service.url).replace("curl -i", "curl -s")
    secrets = environ() | {"MILLRACE_SECRET_GITLAB": "a token that is repeated"}
    done = subprocess.run(
        ["bash", "-eu", "-c", script],
        env=clean_environment(secrets),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    answers: list[dict[str, Any]] = [
        json.loads(line) for line in done.stdout.replace("}{", "}\n{").splitlines()
    ]
    assert len(answers) == command.count("curl -i")
    assert [answer.get("outcome", answer) for answer in answers] == ["ran"] * len(answers)
