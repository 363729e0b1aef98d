"""Runs: start, look up, cancel, retry, read logs."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, url_for
from spectree import SpecTree

from service.running.launch import launch
from service.store import logs, runs
from service.store.session import Commit, Database
from service.store.values import Run
from service.web.api.documentation import answer
from service.web.api.ids import known
from service.web.api.paging import page_of
from service.web.api.queries import LogFilter, RunFilter, RunHeaders, RunRequest
from service.web.parts import WebParts
from service.web.problems import not_found
from service.web.schemas import LogLineJson, LogLineListJson, RunJson, RunListJson


def register(api: Blueprint, parts: WebParts, documented: SpecTree) -> None:
    database = parts.runtime.database

    @api.get("/runs")
    @documented.validate(resp=answer(RunListJson), tags=["runs"])
    def list_runs(query: RunFilter) -> RunListJson:
        """List runs, newest first."""
        with database.read() as connection:
            found = runs.listing(connection, _filters(query), limit=query.limit + 1, after_id=query.cursor)
        page, following = page_of(found, query.limit)
        return RunListJson(items=[RunJson.of(run) for run in page], next=following)

    @api.post("/runs")
    @documented.validate(resp=answer(RunJson, status=HTTPStatus.CREATED, also=HTTPStatus.OK), tags=["runs"])
    def create_run(json: RunRequest, headers: RunHeaders) -> tuple[RunJson, HTTPStatus, dict[str, str]]:
        """Start a run of a pipeline.

        Answers 201, or 200 with the first run when its `Idempotency-Key` was sent before.
        """
        run, created = launch(
            parts.runtime,
            project=json.project,
            pipeline=json.pipeline,
            variables=json.variables,
            execution_date=json.execution_date,
            selection=json.blocks,
            idempotency_key=headers.idempotency_key,
        )
        status = HTTPStatus.CREATED if created else HTTPStatus.OK
        return RunJson.of(run), status, {"Location": url_for("api.get_run", run_id=run.id)}

    @api.get("/runs/<run_id>")
    @documented.validate(resp=answer(RunJson), tags=["runs"])
    def get_run(run_id: str) -> RunJson:
        """Return one run with its blocks."""
        return RunJson.of(_run(database, known("run", run_id)))

    @api.post("/runs/<run_id>/cancel")
    @documented.validate(resp=answer(RunJson), tags=["runs"])
    def cancel_run(run_id: str) -> RunJson:
        """Cancel a run. One that is running is stopped by its engine, a moment later."""
        wanted = known("run", run_id)
        return RunJson.of(database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, wanted)))

    @api.post("/runs/<run_id>/retry")
    @documented.validate(resp=answer(RunJson), tags=["runs"])
    def retry_run(run_id: str) -> RunJson:
        """Run a failed or cancelled run again from where it stopped, with the code it began with.

        Finished blocks are kept. To run the code as it is now, start a new run.
        """
        wanted = known("run", run_id)
        return RunJson.of(database.write(Commit.RETRY, lambda tx: runs.retry(tx, wanted)))

    @api.get("/runs/<run_id>/logs")
    @documented.validate(resp=answer(LogLineListJson), tags=["runs"])
    def read_logs(run_id: str, query: LogFilter) -> LogLineListJson:
        """Read the log of a run, oldest line first.

        To follow a run that is not over, ask again with the `seq` of the last line as `cursor`.
        """
        return _logs(database, _run(database, known("run", run_id)), query)


def _filters(query: RunFilter) -> runs.RunFilters:
    return runs.RunFilters(
        project=query.project,
        pipeline=query.pipeline,
        trigger=query.trigger,
        event_id=query.event_id,
        parent_run_id=query.parent_run_id,
        states=tuple(query.state),
        since=query.since,
        until=query.until,
    )


def _run(database: Database, run_id: str) -> Run:
    with database.read() as connection:
        run = runs.get(connection, run_id)
    if run is None:
        raise not_found("run", run_id)
    return run


def _logs(database: Database, run: Run, query: LogFilter) -> LogLineListJson:
    with database.read() as connection:
        found = logs.read(
            connection,
            run.id,
            block=query.block,
            level=query.level,
            contains=query.contains,
            after_seq=query.cursor,
            limit=query.limit + 1,
        )
    page = found[: query.limit]
    following = str(page[-1].seq) if len(found) > query.limit else None
    return LogLineListJson(items=[LogLineJson.of(line) for line in page], next=following)
