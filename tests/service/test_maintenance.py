from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from service.clock import utc_now
from service.maintenance import Maintenance, delete_set_aside, set_aside
from service.runtime import Runtime, build_runtime
from service.settings import Settings
from service.store import runs
from service.store.ids import new_id
from service.store.session import Commit
from service.store.tables import runs as runs_table
from service.store.values import NewRun
from tests.parts.clockwork import write_project
from tests.parts.waiting import wait_until


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    write_project(tmp_path / "city", "triggers: []\n")
    settings = Settings(
        project=(tmp_path / "city",),
        home=tmp_path / "home",
        checkpoint_days=1,
        run_days=2,
        prune_seconds=0.1,
    )
    runtime = build_runtime(settings)
    yield runtime
    runtime.close()


def finished_run(runtime: Runtime, *, days_ago: float) -> Path:
    """Make a run that ended so long ago; return the folder of its checkpoints."""
    new = NewRun(id=new_id(), project="city", pipeline="taxi", execution_date=utc_now())
    runtime.database.write(Commit.ENQUEUE, lambda tx: runs.enqueue(tx, new))
    ended = {"state": "succeeded", "finished_at": utc_now() - timedelta(days=days_ago)}
    runtime.database.write(
        Commit.REPORT,
        lambda tx: tx.connection.execute(update(runs_table).where(runs_table.c.id == new.id).values(ended)),
    )
    folder = runtime.settings.checkpoints / new.id
    folder.mkdir(parents=True)
    (folder / "load.1.arrow").write_text("data")
    return folder


def count(runtime: Runtime) -> int:
    with runtime.database.read() as connection:
        return connection.execute(select(func.count()).select_from(runs_table)).scalar_one()


def test_the_oldest_checkpoints_go_early_when_there_are_too_many(tmp_path: Path, runtime: Runtime) -> None:
    kept, gone = finished_run(runtime, days_ago=0.01), finished_run(runtime, days_ago=0.9)
    for folder in (kept, gone):
        (folder / "load.1.arrow").write_bytes(bytes(600_000))
    small = replace(runtime, settings=runtime.settings.model_copy(update={"checkpoint_gb": 0.001}))

    Maintenance(small).prune()

    assert kept.exists()
    assert not gone.exists()
    assert count(runtime) == 2


def test_checkpoints_go_before_their_runs(runtime: Runtime) -> None:
    fresh = finished_run(runtime, days_ago=0.5)
    old = finished_run(runtime, days_ago=1.5)

    Maintenance(runtime).prune()

    assert fresh.exists()
    assert not old.exists()
    assert count(runtime) == 2


def test_everything_old_goes_in_small_batches(runtime: Runtime) -> None:
    folders = [finished_run(runtime, days_ago=3) for _ in range(5)]
    finished_run(runtime, days_ago=0.5)

    Maintenance(runtime, batch=2).prune()

    assert not any(folder.exists() for folder in folders)
    assert count(runtime) == 1


def test_open_runs_are_never_touched(runtime: Runtime) -> None:
    new = NewRun(id=new_id(), project="city", pipeline="taxi", execution_date=utc_now() - timedelta(days=999))
    runtime.database.write(Commit.ENQUEUE, lambda tx: runs.enqueue(tx, new))

    Maintenance(runtime).prune()

    assert count(runtime) == 1


def test_thread_prunes_by_itself_and_stops(runtime: Runtime) -> None:
    old = finished_run(runtime, days_ago=3)
    maintenance = Maintenance(runtime)

    maintenance.start()
    wait_until(lambda: not old.exists() and count(runtime) == 0)
    maintenance.stop()


def test_run_id_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "checkpoints").mkdir()

    set_aside(tmp_path / "checkpoints", ["../outside", "..", ".", ""])

    assert outside.exists()


def test_what_a_retried_run_stores_anew_is_not_deleted(runtime: Runtime) -> None:
    """Files are deleted after the transaction; by then somebody may have retried the run."""
    old = finished_run(runtime, days_ago=1.5)
    set_aside(runtime.settings.checkpoints, [old.name])
    old.mkdir()
    (old / "load.2.arrow").write_text("new")

    delete_set_aside(runtime.settings.checkpoints)

    assert [file.name for file in old.iterdir()] == ["load.2.arrow"]
    assert list((runtime.settings.checkpoints / ".deleted").iterdir()) == []


def test_what_a_dead_engine_had_set_aside_is_deleted(runtime: Runtime) -> None:
    old = finished_run(runtime, days_ago=0.5)
    set_aside(runtime.settings.checkpoints, [old.name])

    Maintenance(runtime).prune()

    assert list((runtime.settings.checkpoints / ".deleted").iterdir()) == []
