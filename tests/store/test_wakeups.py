from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest

from service.store.session import Commit, Database
from service.store.wakeups import WakeUps
from tests.parts.stores import opened_store
from tests.parts.waiting import wait_until
from tests.store.builders import enqueue

_SENDER = """
import sys
from pathlib import Path
from tests.parts.stores import opened_store
from tests.store.builders import enqueue
with opened_store(sys.argv[1], Path(sys.argv[2])) as database:
    enqueue(database)
"""


def test_a_commit_wakes_subscribers_in_every_process(
    database: Database, store_url: str, tmp_path: Path
) -> None:
    heard: list[str] = []
    wakeups = WakeUps(database)
    wakeups.start()
    with wakeups.subscribe(heard.append):
        enqueue(database)
        wait_until(lambda: heard == ["queued"], what="the wake-up of this process")
        subprocess.run([sys.executable, "-c", _SENDER, store_url, str(tmp_path)], check=True, timeout=60)
        wait_until(lambda: heard == ["queued", "queued"], what="the wake-up of the other process")
    wakeups.close()


def test_nothing_is_heard_of_a_transaction_that_failed(database: Database) -> None:
    heard: list[str] = []
    wakeups = WakeUps(database)
    wakeups.start()
    wakeups.subscribe(heard.append)

    def fail(tx: object) -> None:
        tx.notify("lost")  # type: ignore[attr-defined]
        raise KeyError

    with pytest.raises(KeyError):
        database.write(Commit.REPORT, fail)
    database.write(Commit.REPORT, lambda tx: tx.notify("kept"))

    wait_until(lambda: heard, what="a wake-up")
    wakeups.close()
    assert heard == ["kept"]


def test_a_subscriber_that_fails_does_not_silence_the_others(database: Database) -> None:
    heard: list[str] = []
    wakeups = WakeUps(database)
    wakeups.start()
    wakeups.subscribe(lambda topic: [][1])
    gone = wakeups.subscribe(lambda topic: heard.append("gone"))
    wakeups.subscribe(heard.append)
    gone.close()

    database.write(Commit.REPORT, lambda tx: tx.notify("triggers"))

    wait_until(lambda: heard, what="a wake-up")
    wakeups.close()
    assert heard == ["triggers"]


def test_the_mailbox_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    (tmp_path / "wake").mkdir()
    stale = tmp_path / "wake" / "1"
    stale.touch()

    with opened_store(f"sqlite:///{tmp_path}/m.db", tmp_path) as database:
        database.write(Commit.REPORT, lambda tx: tx.notify("queued"))

    assert not stale.exists()


def test_a_cut_connection_is_taken_up_again(postgres_url: str, tmp_path: Path) -> None:
    heard: list[str] = []
    with opened_store(postgres_url, tmp_path) as database:
        wakeups = WakeUps(database)
        wakeups.start()
        wakeups.subscribe(heard.append)
        cutter = psycopg2.connect(postgres_url.replace("+psycopg2", ""))
        cutter.autocommit = True
        with cutter.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            )
        cutter.close()

        wait_until(lambda: "triggers" in heard, what="the new connection")
        database.write(Commit.REPORT, lambda tx: tx.notify("run:1"))
        wait_until(lambda: "run:1" in heard, what="the wake-up")
        wakeups.close()


def test_closing_what_never_started_is_fine(database: Database) -> None:
    WakeUps(database).close()
