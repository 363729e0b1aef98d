"""Code that was written for Mage asks for other pipelines, variables, secrets, and for what is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store.values import Run, RunState
from tests.parts.example import Bench, bench
from tests.pipelines.projects import ProjectFolder

CUSTOM = """\
if 'custom' not in globals():
    from mage_ai.data_preparation.decorators import custom
"""
CODE = {
    "count": """
        @custom
        def count(*args, **kwargs):
            print('step', kwargs.get('step'), 'of', kwargs['most'], kwargs['ds'])
            return {'step': kwargs.get('step')}
        """,
    "asks": """
        import mage_ai
        from mage_ai.data_preparation.variable_manager import (
            get_global_variable, get_variable, set_global_variable,
        )
        from mage_ai.orchestration.run_status_checker import check_status
        from mage_ai.orchestration.triggers.api import trigger_pipeline

        @custom
        def asks(*args, **kwargs):
            date = kwargs['execution_date']
            assert not check_status('counts', date, hours=1)
            set_global_variable('counts', 'most', 9)
            assert get_global_variable('counts', 'most') == 9
            run = trigger_pipeline(
                'counts', variables={'step': 3}, check_status=True, error_on_failure=True,
                poll_interval=3600, schedule_name='by_hand', verbose=False,
            )
            assert (run.status, run.execution_date) == ('completed', date)
            assert get_variable('counts', 'count', 'output_0') == {'step': 3}
            assert check_status('counts', date) and check_status('counts', date, block_uuid='count')
            assert mage_ai.run('counts', step=4, block_uuid='count').variables == {'step': 4}
        """,
    "again": """
        from pathlib import Path
        from mage_ai.orchestration.triggers.api import trigger_pipeline

        @custom
        def again(*args, **kwargs):
            trigger_pipeline('counts', variables={'step': kwargs['retry']['attempts']}, check_status=True)
            if kwargs['retry']['attempts'] == 1:
                raise OSError('not yet')
        """,
    "hides": """
        from mage_ai.data_preparation.shared.secrets import create_secret, get_secret_value

        @custom
        def hides(*args, **kwargs):
            assert get_secret_value('shop_token') == 'from-the-environment'
            for ask in (lambda: get_secret_value('nobody'), lambda: create_secret('a', 'b')):
                try:
                    ask()
                except Exception as error:
                    print(error)
        """,
    "knows": """
        from default_repo.utils.calc import double
        from my_shop.utils.calc import double as by_folder
        from mlops.utils.calc import double as by_another_name
        from utils.calc import double as from_the_root
        from beside import NAME

        print('globals', count, df_1)

        @custom
        def knows(data, *args, **kwargs):
            assert double is not None and double(1) == by_folder(1) == by_another_name(1) == from_the_root(1)
            print('args', data, NAME)
        """,
    "lacks": """
        @custom
        def lacks(*args, **kwargs):
            from mage_ai.io.mongodb import MongoDB
        """,
    "needs": """
        @custom
        def needs(*args, **kwargs):
            import utils.lake
        """,
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = ProjectFolder(tmp_path_factory.mktemp("runs") / "my_shop")
    for name, code in CODE.items():
        folder.write(f"custom/{name}.py", code)
        path = folder.root / "custom" / f"{name}.py"
        path.write_text(CUSTOM + path.read_text())
        folder.write(f"pipelines/{name}/metadata.yaml", f"blocks: [{{uuid: {name}, type: custom}}]\n")
    folder.write(
        "pipelines/counts/metadata.yaml", "variables: {most: 5}\nblocks: [{uuid: count, type: custom}]\n"
    )
    folder.write(
        "pipelines/again/metadata.yaml",
        "blocks: [{uuid: again, type: custom, retry_config: {retries: 1, delay: 0}}]\n",
    )
    folder.write(
        "pipelines/knows/metadata.yaml",
        """\
        variables: {most: 1}
        blocks:
        - {uuid: count, type: custom}
        - {uuid: knows, type: custom, upstream_blocks: [count]}
        """,
    )
    folder.write("utils/__init__.py", "")
    folder.write("utils/calc.py", "def double(number):\n    return 2 * number\n")
    folder.write("utils/lake.py", "import os\nfrom mage_ai.io.iceberg_s3 import Iceberg\n")
    folder.write("../beside.py", "NAME = 'beside'\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MILLRACE_SECRET_SHOP_TOKEN", "from-the-environment")
        environment.delenv("MILLRACE_DATABASE_URL", raising=False)
        with bench(folder.root) as running:
            yield running


def succeeded(shop: Bench, run: Run) -> str:
    assert run.state is RunState.SUCCEEDED, f"{run.error}\n{shop.log(run)}"
    return shop.log(run)


def test_pipelines_are_started_awaited_and_asked_for_by_mages_names(shop: Bench) -> None:
    succeeded(shop, shop.run("asks"))

    text = (shop.root / "pipelines" / "counts" / "metadata.yaml").read_text()
    assert "most: 9" in text


def test_pipeline_is_started_once_over_all_tries(shop: Bench) -> None:
    log = succeeded(shop, shop.run("again"))

    assert "by an earlier call" in log
    assert len(set(re.findall(r"run (\S+) of pipeline", log))) == 1


def test_secrets_come_from_outside_and_are_not_made_by_blocks(shop: Bench) -> None:
    log = succeeded(shop, shop.run("hides"))

    assert "the secret 'nobody' is not set; set MILLRACE_SECRET_NOBODY" in log
    assert "MILLRACE_SECRET_A" in log


def test_upstream_outputs_and_the_project_go_by_all_their_names(shop: Bench) -> None:
    log = succeeded(shop, shop.run("knows", step=2))

    assert "globals {'step': 2} {'step': 2}" in log
    assert "args {'step': 2} beside" in log


@pytest.mark.parametrize(
    ("pipeline", "told"),
    [
        ("lacks", "custom/lacks.py:6: MageNameMissing: mage_ai.io.mongodb is not in Millrace; use pymongo"),
        (
            "needs",
            "utils/lake.py:2: MageNameMissing: mage_ai.io.iceberg_s3 is not in Millrace; use pyiceberg",
        ),
    ],
)
def test_name_that_lacks_is_one_line_with_its_place(shop: Bench, pipeline: str, told: str) -> None:
    run = shop.run(pipeline)

    assert run.state is RunState.FAILED
    assert told in (run.error or "")
    assert len((run.error or "").splitlines()) == 1


def test_project_is_checked_without_an_error(shop: Bench) -> None:
    project = shop.runtime.projects.default

    assert [str(one) for one in project.problems if Path(one.file).stem != "lacks"] == []
