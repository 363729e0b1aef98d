"""`make demo`: Millrace's main job on one machine, with nothing to install beside it.

Serves synthetic trips over HTTP, starts the service on the taxi example, posts a signed webhook, shows the
run that it starts, and prints what the run wrote. On a terminal it serves until Ctrl-C. State, warehouse and
lake lie in a temporary folder of this demo's own, so that several demos may run side by side.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

TAXI = Path(__file__).parent / "taxi"
MILLRACE = [sys.executable, "-P", "-m", "service.cli"]
PREFERRED_PORT = 6789
MONTHS = ["2020-10", "2020-11", "2020-12"]
ROWS_A_MONTH = 20_000
START_SECONDS = 60

RESULT = """
SELECT lpep_pickup_date AS day, count(*) AS trips, round(avg(trip_distance), 2) AS miles,
       round(sum(total_amount), 2) AS dollars
FROM mage.green_taxi GROUP BY day ORDER BY day LIMIT 8
"""
TOTAL = "SELECT count(*), count(DISTINCT lpep_pickup_date) FROM mage.green_taxi"


def main() -> int:
    console = Console()
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    with tempfile.TemporaryDirectory(prefix="millrace-demo-") as name:
        folder = Path(name)
        environ = _environ(folder, secret)
        with _source() as source, _service(console, folder, environ) as url:
            console.print(f"[bold]2.[/] Post a signed webhook: {source} has published three months of trips.")
            accepted = _post_signed(
                url, secret, {"type": "trips.published", "source": source, "months": MONTHS}
            )
            console.print(f"   answered: event {accepted['event_id']}, {accepted['outcome']}")
            console.print("[bold]3.[/] The run that it started:")
            watched = subprocess.run(
                [*MILLRACE, "runs", "watch", accepted["run_ids"][0]], env=environ, check=False
            )
            if watched.returncode == 0:
                _show_result(console, folder)
            console.print(f"[bold]5.[/] The page: [link={url}]{url}[/link]")
            if sys.stdout.isatty():
                _serve_until_interrupted(console)
    return 0 if watched.returncode == 0 else 1


def _environ(folder: Path, secret: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return kept | {
        "MILLRACE_PROJECT": str(TAXI),
        "MILLRACE_HOME": str(folder / "state"),
        "MILLRACE_SECRET_TAXI_WEBHOOK": secret,
        "MILLRACE_LOG_FORMAT": "json",
        "TAXI_DUCKDB": str(folder / "warehouse.duckdb"),
        "TAXI_LAKE": str(folder / "lake"),
    }


@contextlib.contextmanager
def _source() -> Iterator[str]:
    """Serve synthetic trips; yield the address."""
    port = _free_port()
    command = [
        sys.executable,
        str(TAXI / "source_server.py"),
        "--port",
        str(port),
        "--rows",
        str(ROWS_A_MONTH),
    ]
    with _running(command, dict(os.environ), stdout=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        if not _becomes_ready(process, f"{url}/titanic.csv"):
            raise SystemExit(f"{TAXI / 'source_server.py'} did not start")
        yield url


@contextlib.contextmanager
def _service(console: Console, folder: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """Start the service on the taxi example; yield its address once it is ready."""
    console.print("[bold]1.[/] Start the service on examples/taxi: SQLite, DuckDB, a folder as the lake.")
    log = folder / "service.log"
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        for port in (PREFERRED_PORT, _free_port()):
            command = [*MILLRACE, "start", "--port", str(port)]
            process = stack.enter_context(_running(command, environ, stdout=output, stderr=output))
            # It must say so itself: on a port that is taken, another demo may answer in its place.
            if _listens(process, log) and _becomes_ready(process, f"http://127.0.0.1:{port}/readyz"):
                yield f"http://127.0.0.1:{port}"
                return
    raise SystemExit(f"the service did not start:\n{log.read_text()}")


@contextlib.contextmanager
def _running(
    command: list[str], environ: Mapping[str, str], **output: Any
) -> Iterator[subprocess.Popen[bytes]]:
    # A session of its own: Ctrl-C is for the demo, which then stops its parts in order.
    process = subprocess.Popen(command, env=dict(environ), start_new_session=True, **output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _listens(process: subprocess.Popen[bytes], log: Path) -> bool:
    """Wait until the service says that it has its port; False when it ends instead."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if '"message": "listening"' in log.read_text():
            return True
        time.sleep(0.05)
    return False


def _becomes_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the address answers well; False when the process ends first, as when its port was taken."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return process.poll() is None
        time.sleep(0.05)
    return False


def _post_signed(url: str, secret: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Post as Standard Webhooks says, and return the answer."""
    data = json.dumps(body).encode()
    message_id, stamp = f"msg_{secrets.token_hex(8)}", str(int(time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, f"{message_id}.{stamp}.".encode() + data, hashlib.sha256).digest()
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
    address = f"{url}/webhooks/green_taxi/months_published"
    with urllib.request.urlopen(urllib.request.Request(address, data, headers), timeout=30) as answer:
        return dict(json.load(answer))


def _show_result(console: Console, folder: Path) -> None:
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as warehouse:
        rows = warehouse.sql(RESULT).fetchall()
        trips, days = warehouse.sql(TOTAL).fetchall()[0]
    files = len(list((folder / "lake").rglob("*.parquet")))
    table = Table(title="mage.green_taxi in DuckDB", caption="synthetic trips, the first days")
    for heading in ("day", "trips", "miles on average", "dollars"):
        table.add_column(heading, justify="right")
    for day, count, miles, dollars in rows:
        table.add_row(str(day), f"{count:,}", f"{miles:,.2f}", f"{dollars:,.2f}")
    console.print(
        f"[bold]4.[/] The result: {trips:,} trips of {days} days, and {files} Parquet files in the lake."
    )
    console.print(table)


def _serve_until_interrupted(console: Console) -> None:
    console.print("   Serving until Ctrl-C.")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
