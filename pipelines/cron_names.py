"""Names that stand for cron expressions, as in crontab(5), and two of Mage's that none can say."""

from __future__ import annotations

from collections.abc import Mapping

ONCE = "@once"  # one tick for ever, at first sight
ALWAYS_ON = "@always_on"  # a new run whenever none is open
WITHOUT_EXPRESSION = (ONCE, ALWAYS_ON)

_EXPRESSIONS: Mapping[str, str] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# Mage's week begins on Monday, and its cron reader wants seconds last, where ours wants them first.
IN_MAGE: Mapping[str, str] = {**_EXPRESSIONS, "@weekly": "0 0 * * 1"}


def cron_text(text: str) -> str:
    """Return the expression a name stands for, and any other text as it is."""
    return _EXPRESSIONS.get(text.strip().lower(), text.strip())


def mage_cron_text(text: str) -> str:
    """Return what a `schedule_interval` of Mage means, as our expression."""
    fields = IN_MAGE.get(text, text).split()
    return " ".join(fields[-1:] + fields[:-1]) if len(fields) == 6 else " ".join(fields)
