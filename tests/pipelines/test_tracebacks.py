"""What a block's log says of an exception."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from pipelines.blocks.tracebacks import user_traceback
from pipelines.calls import CallRefused


def test_an_error_of_ours_that_came_by_a_future_is_its_sentence(tmp_path: Path) -> None:
    future: Future[None] = Future()
    future.set_exception(CallRefused("there is no pipeline 'sums'"))

    with pytest.raises(CallRefused) as caught:
        future.result()

    assert user_traceback(caught.value, tmp_path) == "CallRefused: there is no pipeline 'sums'"
