"""How many runs of a kind may run at once: decided under a lock on the limit's own row.

A run that finds a limit full is parked: it waits with `blocked_by` set, out of the queue that claims look at,
until a run that held the limit lets go. At a maximum of 1 the runs go first in, first out: a run that waits
for a retry keeps its hold, and nobody starts before an earlier run of the same key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import BindParameter, and_, bindparam, delete, func, or_, select, update

from service.store.bulk import BulkInsert
from service.store.database import Transaction
from service.store.statements import OR_LOCK
from service.store.tables import limits, run_limits, runs
from service.store.values import RunState

_RUN_IDS: BindParameter[str] = bindparam("run_ids", expanding=True)
_insert_or_lock = BulkInsert(limits, tail=OR_LOCK)
_insert = BulkInsert(limits, tail="ON CONFLICT DO NOTHING RETURNING key")
_LOCK_FREE = (
    select(limits.c.key)
    .where(limits.c.key.in_(bindparam("keys", expanding=True)))
    .with_for_update(skip_locked=True)
)
_NEEDS = (
    select(run_limits.c.run_id, run_limits.c.key, run_limits.c.maximum, run_limits.c.held)
    .where(run_limits.c.run_id.in_(_RUN_IDS))
    .order_by(run_limits.c.run_id, run_limits.c.key)
)
# Joined with the state, so that a row that was left behind can never hold a limit for ever.
_HELD = (
    select(run_limits.c.key, func.count())
    .join(runs, runs.c.id == run_limits.c.run_id)
    .where(
        run_limits.c.key.in_(bindparam("keys", expanding=True)),
        run_limits.c.held.is_(True),
        runs.c.state.in_([RunState.RUNNING, RunState.WAITING]),
    )
    .group_by(run_limits.c.key)
)
# A run that a throttle holds back stands in nobody's way before its time.
_FIRST_IN_LINE = (
    select(run_limits.c.run_id)
    .join(runs, runs.c.id == run_limits.c.run_id)
    .where(
        run_limits.c.key == bindparam("key"),
        run_limits.c.held.is_(False),
        or_(runs.c.available_at.is_(None), runs.c.available_at <= bindparam("now")),
    )
    .order_by(run_limits.c.rank, run_limits.c.run_id)
    .limit(1)
)
_PARKED = (
    select(runs.c.id, run_limits.c.maximum)
    .join(run_limits, and_(run_limits.c.run_id == runs.c.id, run_limits.c.key == runs.c.blocked_by))
    .where(runs.c.blocked_by == bindparam("key"), runs.c.state == RunState.WAITING)
    .order_by(run_limits.c.rank, runs.c.id)
    .limit(bindparam("most"))
    .with_for_update(of=runs, skip_locked=True)
)
_PARK = (
    update(runs)
    .where(runs.c.id == bindparam("run_id"))
    .values(state=RunState.WAITING, blocked_by=bindparam("full"), available_at=None)
)
_UNPARK = update(runs).where(runs.c.id.in_(_RUN_IDS)).values(state=RunState.QUEUED, blocked_by=None)
_HOLD = update(run_limits).where(run_limits.c.run_id.in_(_RUN_IDS)).values(held=True)
_LET_GO = update(run_limits).where(run_limits.c.run_id.in_(_RUN_IDS)).values(held=False)
_LET_GO_UNORDERED = _LET_GO.where(run_limits.c.maximum > 1)
_LEAVE = delete(run_limits).where(run_limits.c.run_id.in_(_RUN_IDS))
_BLOCKING = select(runs.c.blocked_by).where(runs.c.blocked_by.is_not(None)).distinct().limit(200)

Lock = Callable[[Transaction, Iterable[str]], list[str]]
MOST_UNPARKED = 64  # at once for one key; each of them lets go in its turn


class Busy(Exception):
    """Somebody else decides by one of these limits at the moment."""


@dataclass(frozen=True, slots=True)
class _Need:
    key: str
    maximum: int
    held: bool


def admit(tx: Transaction, run_ids: Sequence[str], *, most: int, lock: Lock) -> set[str]:
    """Take the limits of up to `most` runs that are about to be claimed, and return these; park the blocked.

    The caller has locked the runs, and names them in the order in which they may start; runs without limits
    may be among them. Raises what `lock` raises.
    """
    needs = _needs(tx, run_ids)
    if not needs:
        return set(run_ids[:most])
    locked = lock(tx, {need.key for wanted in needs.values() for need in wanted})
    held = _held(tx, locked)
    first = {
        need.key: tx.connection.execute(_FIRST_IN_LINE, {"key": need.key, "now": tx.now}).scalar_one_or_none()
        for wanted in needs.values()
        for need in wanted
        if need.maximum == 1
    }
    admitted: set[str] = set()
    parked = []
    for run_id in run_ids:
        if len(admitted) == most:
            break
        full = _first_full(run_id, needs.get(run_id, ()), held, first)
        if full is not None:
            parked.append({"run_id": run_id, "full": full})
            continue
        admitted.add(run_id)
        for need in needs.get(run_id, ()):
            held[need.key] += not need.held
    if parked:
        tx.connection.execute(_PARK, parked)
    if admitted & needs.keys():
        tx.connection.execute(_HOLD, {"run_ids": sorted(admitted & needs.keys())})
    return admitted


def let_go(tx: Transaction, run_ids: Sequence[str]) -> None:
    """The runs are back in the queue: give up their limits. They are first in line for them."""
    if run_ids:
        tx.connection.execute(_LET_GO, {"run_ids": list(run_ids)})


def leave(tx: Transaction, final: Sequence[str], waiting: Sequence[str] = ()) -> None:
    """Take runs that are final out of every line, and let the next ones in.

    Those that wait for a retry give up their limits, but keep the ones that promise an order.
    """
    keys = _keys(tx, [*final, *waiting])
    if not keys:
        return
    locked = lock(tx, keys)  # of both at once, which keeps the order
    if final:
        tx.connection.execute(_LEAVE, {"run_ids": list(final)})
    if waiting:
        tx.connection.execute(_LET_GO_UNORDERED, {"run_ids": list(waiting)})
    _unpark(tx, locked)


def sweep(tx: Transaction) -> None:
    """Let in whoever is parked though there is room. Finds nothing, unless something went wrong before."""
    blocking = tx.connection.execute(_BLOCKING).scalars().all()
    if blocking:
        with suppress(Busy):
            _unpark(tx, try_lock(tx, blocking))


def _first_full(
    run_id: str, needs: Sequence[_Need], held: Mapping[str, int], first: Mapping[str, str | None]
) -> str | None:
    """Return the first limit that keeps the run from starting."""
    for need in needs:
        if need.held:
            continue
        is_overtaking = need.maximum == 1 and first[need.key] != run_id
        if held[need.key] >= need.maximum or is_overtaking:
            return need.key
    return None


def _needs(tx: Transaction, run_ids: Sequence[str]) -> dict[str, list[_Need]]:
    found: dict[str, list[_Need]] = defaultdict(list)
    for run_id, key, maximum, held in tx.connection.execute(_NEEDS, {"run_ids": list(run_ids)}):
        found[run_id].append(_Need(key, maximum, held))
    return found


def _keys(tx: Transaction, run_ids: Sequence[str]) -> set[str]:
    return {need.key for needs in _needs(tx, run_ids).values() for need in needs} if run_ids else set()


def lock(tx: Transaction, keys: Iterable[str]) -> list[str]:
    """Lock rows of limits, always in the order of their keys, which keeps transactions from deadlock."""
    wanted = sorted(set(keys))
    if wanted:
        _insert_or_lock(tx.connection, [{"key": key} for key in wanted])
    return wanted


def try_lock(tx: Transaction, keys: Iterable[str]) -> list[str]:
    """Lock rows of limits beside others that are locked already. Waits for nobody, but raises Busy."""
    wanted = set(keys)
    if not wanted:
        return []
    found = set(tx.connection.execute(_LOCK_FREE, {"keys": sorted(wanted)}).scalars())
    new = [{"key": key} for key in sorted(wanted - found)]
    if new and len(_insert(tx.connection, new)) < len(new):
        raise Busy
    return sorted(wanted)


def _held(tx: Transaction, keys: Sequence[str]) -> defaultdict[str, int]:
    held: defaultdict[str, int] = defaultdict(int)
    for key, count in tx.connection.execute(_HELD, {"keys": keys}):
        held[key] = count
    return held


def _unpark(tx: Transaction, keys: Sequence[str]) -> None:
    held = _held(tx, keys)
    free: list[str] = []
    for key in keys:
        parked = tx.connection.execute(_PARKED, {"key": key, "most": MOST_UNPARKED}).all()
        room = parked[0].maximum - held[key] if parked else 0
        free.extend(row.id for row in parked[: max(room, 0)])
    if free:
        tx.connection.execute(_UNPARK, {"run_ids": free})
        tx.notify("queued")
