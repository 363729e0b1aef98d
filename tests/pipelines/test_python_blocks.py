"""Python blocks: how a file is executed, what its function receives, and how it is told that it failed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pipelines.model import RetryPolicy
from pipelines.surroundings import add_project_to_path, restored_process
from tests.pipelines.running import EXECUTION_DATE, Bench, python


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def code(text: str) -> str:
    return textwrap.dedent(text).lstrip()


def loader(body: str, signature: str = "*args, **kwargs") -> str:
    return (
        f"@data_loader\ndef load({signature}):\n"
        + textwrap.indent(textwrap.dedent(body).strip(), "    ")
        + "\n"
    )


def transformer(body: str, signature: str = "data, *args, **kwargs") -> str:
    return (
        f"@transformer\ndef change({signature}):\n"
        + textwrap.indent(textwrap.dedent(body).strip(), "    ")
        + "\n"
    )


def error_of(bench: Bench, block: str) -> str:
    error = bench.listener.report(block).error
    assert error is not None
    return error


def test_mages_idiom_for_imports_works_without_mage(bench: Bench) -> None:
    source = code("""
        if 'data_loader' not in globals():
            from mage_ai.data_preparation.decorators import data_loader
        if 'test' not in globals():
            from mage_ai.data_preparation.decorators import test

        @data_loader
        def load_data(*args, **kwargs):
            return {'file': __file__}

        @test
        def test_output(output, *args) -> None:
            assert output is not None, 'The output is undefined'
        """)

    result = bench.run(python("a", source))

    assert result.state == "succeeded"
    assert bench.outputs("a") == ({"file": str(bench.root / "data_loaders/a.py")},)


def test_our_own_imports_work_bare_and_called(bench: Bench) -> None:
    source = code("""
        from pipelines import data_loader, test

        @data_loader()
        def load():
            return 1

        @test
        def is_one(output):
            assert output == 1
        """)

    assert bench.run(python("a", source)).state == "succeeded"


def test_the_first_decorated_function_runs_and_helpers_do_not(bench: Bench) -> None:
    source = code("""
        def helper():
            return "helper"

        @data_loader
        def first():
            return helper() + " of first"

        @data_loader
        def second():
            return "second"
        """)

    bench.run(python("a", source))

    assert bench.outputs("a") == ("helper of first",)


def test_decorated_functions_of_imported_modules_do_not_count(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bench.root / "shared_by_blocks.py").write_text(
        "from pipelines import data_loader\n@data_loader\ndef other():\n    return 'other'\n"
    )
    monkeypatch.syspath_prepend(str(bench.root))

    bench.run(python("a", "import shared_by_blocks\n" + loader("return 'own'")))

    assert bench.outputs("a") == ("own",)


def test_keywords_are_variables_and_facts_of_the_run(bench: Bench) -> None:
    source = loader(
        "return kwargs['month'], kwargs['execution_date'], kwargs['block_uuid'], kwargs['attempt']"
    )

    bench.run(python("a", source), variables={"month": 3})

    assert bench.outputs("a") == (3, EXECUTION_DATE, "a", 1)


def test_a_path_of_mages_container_in_a_variable_is_one_of_the_project(bench: Bench) -> None:
    bench.run(python("a", loader("return kwargs['path']")), variables={"path": "/home/src/data/x.csv"})

    assert bench.outputs("a") == (str(bench.root / "data" / "x.csv"),)


def test_a_function_without_kwargs_gets_what_it_names(bench: Bench) -> None:
    bench.run(python("a", loader("return month, limit", "*, month, limit=7")), variables={"month": 3})

    assert bench.outputs("a") == (3, 7)


def test_a_variable_with_the_name_of_an_input_does_not_collide(bench: Bench) -> None:
    result = bench.run(
        python("a", loader("return 1")),
        python("b", transformer("return data"), "a"),
        variables={"data": "variable"},
    )

    assert result.state == "succeeded"
    assert bench.outputs("b") == (1,)


RETURNS: dict[str, tuple[str, str]] = {
    "nothing": ("None", "None"),
    "one": ("5", "5"),
    "a tuple": ("(1, 2)", "[1, 2]"),
    "a list": ("[1, 2, 3]", "[1, 2, 3]"),
    "a list of one": ("[{'a': 1}]", "{'a': 1}"),
    "an empty list": ("[]", "[]"),
    "a dictionary": ("{'a': (1, 2)}", "{'a': (1, 2)}"),
}


@pytest.mark.parametrize("kind", RETURNS)
def test_a_downstream_block_gets_outputs_as_mage_hands_them_on(bench: Bench, kind: str) -> None:
    returned, received = RETURNS[kind]

    bench.run(python("a", loader(f"return {returned}")), python("b", transformer("return repr(data)"), "a"))

    assert bench.outputs("b") == (received,)


def test_inputs_come_in_the_order_of_upstream_blocks(bench: Bench) -> None:
    bench.run(
        python("a", loader("return 'a'")),
        python("b", loader("return 'b'")),
        python("c", transformer("return x + y", "x, y, **kwargs"), "b", "a"),
    )

    assert bench.outputs("c") == ("ba",)


def test_tests_get_the_outputs_spread_and_fail_the_block(bench: Bench) -> None:
    source = loader("return 1, 2") + code("""

        @test
        def ordered(first, second, *args):
            assert first < second

        @test
        def large(first, *args, **kwargs):
            assert first > kwargs['minimum'], f'{first} is too small'
        """)

    result = bench.run(python("a", source), variables={"minimum": 10})

    assert result.state == "failed"
    assert error_of(bench, "a") == "data_loaders/a.py:10: AssertionError: 1 is too small"


def test_a_test_of_a_block_that_returned_nothing_gets_none(bench: Bench) -> None:
    source = (
        loader("pass") + "\n@test\ndef there(output, *args):\n    assert output is not None, 'no output'\n"
    )

    bench.run(python("a", source))

    assert error_of(bench, "a") == "data_loaders/a.py:7: AssertionError: no output"


def test_a_missing_upstream_block_is_named(bench: Bench) -> None:
    bench.run(
        python("a", loader("return 1")),
        python("b", transformer("return 1", "trips, zones, **kwargs"), "a", line=12),
    )

    error = error_of(bench, "b")
    assert "transformers/b.py:1: change() takes 2 inputs" in error
    assert "1 upstream blocks (a)" in error
    assert "nothing is there for 'zones'" in error
    assert "pipelines/shop/metadata.yaml:12" in error


def test_a_variable_fills_a_parameter_of_its_name_that_no_input_takes(bench: Bench) -> None:
    bench.run(
        python("a", "@data_loader\ndef load(ds):\n    return ds\n"),
        python("b", "@transformer\ndef change(day, block_uuid):\n    return [day, block_uuid]\n", "a"),
    )

    assert bench.outputs("b") == ("2024-01-02", "b")


def test_an_input_that_no_parameter_takes_is_named(bench: Bench) -> None:
    bench.run(
        python("a", loader("return 1")),
        python("b", loader("return 1")),
        python("c", transformer("return 1", "trips, **kwargs"), "a", "b"),
    )

    assert "nothing takes the output of b" in error_of(bench, "c")


def test_a_file_without_a_function_for_its_type_says_what_it_has(bench: Bench) -> None:
    block, _ = python("a", loader("return 1"))

    bench.run((block, "@transformer\ndef f(x):\n    return x\n"))

    assert error_of(bench, "a") == (
        "data_loaders/a.py: block 'a' is a data_loader and needs a function decorated with @data_loader; "
        "it has @transformer instead"
    )


def test_an_exception_is_told_by_file_line_and_message(bench: Bench) -> None:
    bench.run(python("a", loader("rows = {}\nreturn rows['price']")))

    assert error_of(bench, "a") == "data_loaders/a.py:4: KeyError: 'price'"
    log = bench.listener.text_of("a")
    assert "return rows['price']" in log  # the line, though no such file is on the disk
    assert "pipelines/run.py" not in log
    assert "blocks/python.py" not in log


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("ValueError('a\\0b\\ud800')", "ValueError: a\N{REPLACEMENT CHARACTER}b?"),
        ("ValueError('x' * 1_000_000)", " more characters)"),
        ("Silent()", "Silent: (its message cannot be read)"),
        ("SyntaxError('odd', ('file', 'x', 'y', 5))", "SyntaxError: odd"),
    ],
)
def test_whatever_an_exception_says_can_be_kept(bench: Bench, raised: str, said: str) -> None:
    silent = "class Silent(Exception):\n    def __str__(self):\n        raise RuntimeError\n\n\n"

    result = bench.run(python("a", silent + loader(f"raise {raised}")))

    assert result.state == "failed"
    assert said in error_of(bench, "a")
    assert len(error_of(bench, "a")) < 5_000
    error_of(bench, "a").encode()


def test_a_traceback_through_a_library_shows_its_end_only(bench: Bench) -> None:
    bench.run(python("a", "import json\n" + loader("return json.loads('{')")))

    assert error_of(bench, "a").startswith("data_loaders/a.py:4: JSONDecodeError")
    assert bench.listener.text_of("a").count("File ") == 2


def test_a_syntax_error_is_told_by_file_and_line(bench: Bench) -> None:
    bench.run(python("a", loader("return 1") + "\n!pip install pandas\n"))

    assert error_of(bench, "a").startswith("data_loaders/a.py:5: SyntaxError")


def test_sys_exit_fails_the_block_and_nothing_else(bench: Bench) -> None:
    result = bench.run(python("a", "import sys\n" + loader("sys.exit(3)")), python("b", loader("return 1")))

    assert "sys.exit(3)" in error_of(bench, "a")
    assert result.state == "failed"
    assert bench.listener.states()["b"] == "succeeded"


CHAINED = {
    "inplace": "df['a'].fillna(0, inplace=True)",
    "item": "df['a'][0] = 5",
}


@pytest.mark.parametrize("kind", CHAINED)
def test_chained_assignment_fails_with_line_and_remedy_though_warnings_are_off(
    bench: Bench, kind: str
) -> None:
    source = f"""
        import warnings
        warnings.filterwarnings('ignore')
        import pandas as pd
        from pipelines import data_loader
        @data_loader
        def load():
            df = pd.DataFrame({{'a': [1.0, None]}})
            {CHAINED[kind]}
            return df
        """

    bench.run(python("a", code(source)))

    error = error_of(bench, "a")
    assert error.startswith("data_loaders/a.py:8: ChainedAssignmentError")
    assert "df['a'] = df['a'].fillna(0)" in error


def test_chained_assignment_fails_where_the_block_silences_warnings_as_it_runs(bench: Bench) -> None:
    source = """
        import warnings
        import pandas as pd
        from pipelines import data_loader
        @data_loader
        def load():
            df = pd.DataFrame({'a': [1.0, None]})
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                df.a.fillna(0, inplace=True)
            return df
        """

    bench.run(python("a", code(source)))

    assert error_of(bench, "a").startswith("data_loaders/a.py:9: ChainedAssignmentError")


def test_other_warnings_still_name_the_line_that_earned_them(bench: Bench) -> None:
    bench.run(
        python("a", "import warnings\n" + loader("warnings.simplefilter('always')\nwarnings.warn('old')"))
    )

    assert "data_loaders/a.py:5: UserWarning: old" in bench.listener.text_of("a")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "return (n for n in [1, 2])",
            "returned a generator, which gives its values only once; return a list",
        ),
        ("return 1, iter([1, 2])", "returned a list_iterator"),
        ("async def later():\n    return 1\nreturn later()", "returned a coroutine"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_an_output_that_can_be_read_only_once_is_refused(bench: Bench, body: str, said: str) -> None:
    bench.run(python("a", loader(body)))

    assert said in error_of(bench, "a")


def test_a_block_knows_its_effect_id_and_its_project(bench: Bench) -> None:
    bench.run(python("a", loader("return kwargs['effect_id'], kwargs['repo_path']")))

    assert bench.outputs("a") == ("run-1.a", str(bench.root))


def test_an_error_of_ours_shows_neither_our_code_nor_what_lies_behind_it(bench: Bench) -> None:
    (bench.root / "io_config.yaml").write_text("default:\n  DUCKDB_DATABASE: ':memory:'\n")
    query = "SELECT 'hunter2' FROM nowhere"
    source = "from pipelines.io import DuckDB\n" + loader(f'return DuckDB.from_profile().load("{query}")')

    bench.run(python("a", source))

    log = bench.listener.text_of("a")
    assert log.count("File ") == 1
    assert "data_loaders/a.py" in log
    assert "QueryFailed: Catalog Error" in log
    assert "LINE 1" not in log


def test_a_block_fed_with_nothing_is_told_who_returned_nothing(bench: Bench) -> None:
    bench.run(python("a", loader("1 + 1")), python("b", transformer("return data.dropna()"), "a"))

    error = error_of(bench, "b")
    assert "'NoneType' object has no attribute 'dropna'" in error
    assert "upstream block 'a' returned nothing" in error


def test_a_terminal_error_is_not_retried(bench: Bench) -> None:
    source = "from pipelines import TerminalError\n" + loader("raise TerminalError('wrong key')")

    result = bench.run(python("a", source, retry=RetryPolicy(retries=3, delay_seconds=0)))

    assert result.state == "failed"
    assert bench.listener.report("a").attempt == 1


def test_dataclasses_with_postponed_annotations_work(bench: Bench) -> None:
    source = code("""
        from __future__ import annotations
        from dataclasses import dataclass, asdict

        @dataclass
        class Row:
            name: str

        @data_loader
        def load():
            return asdict(Row('x'))
        """)

    bench.run(python("a", source))

    assert bench.outputs("a") == ({"name": "x"},)
    assert not [name for name in sys.modules if name.startswith("millrace_block_")]


def test_classes_of_a_block_are_pickled_with_their_code(bench: Bench) -> None:
    source = "class Model:\n    def score(self):\n        return 42\n\n" + loader("return Model()")

    bench.run(python("a", source), allow_pickle=True)

    assert bench.outputs("a")[0].score() == 42


def test_a_forked_child_does_not_walk_the_graph(bench: Bench) -> None:
    source = "import os\n" + loader("""
        child = os.fork()
        if child == 0:
            return 'child'
        os.waitpid(child, 0)
        return 'parent'
        """)

    result = bench.run(python("a", source), python("b", transformer("return data"), "a"))

    assert result.state == "succeeded"
    assert bench.outputs("b") == ("parent",)


def test_the_process_is_restored_after_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "before")
    folder, path = os.getcwd(), list(sys.path)

    with restored_process(tmp_path):
        assert Path.cwd() == tmp_path
        os.environ.update(KEPT="changed", ADDED="1")
        os.chdir("/")
        sys.path.append("/nowhere")

    assert (os.getcwd(), sys.path) == (folder, path)
    assert os.environ["KEPT"] == "before"
    assert "ADDED" not in os.environ


def test_a_project_does_not_shadow_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')")
    (tmp_path / "helpers_of_shop.py").write_text("VALUE = 5")
    script = f"""
import sys
from pathlib import Path
from pipelines.surroundings import add_project_to_path
sys.modules.pop("json", None)
add_project_to_path(Path({str(tmp_path)!r}))
add_project_to_path(Path({str(tmp_path)!r}))
import json, helpers_of_shop
print(sys.path[-2:])
"""

    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert shown.strip() == repr([str(tmp_path), str(tmp_path.parent)])
    assert add_project_to_path is not None


def test_importing_the_package_loads_no_data_library() -> None:
    script = "import pipelines, sys; print({'pandas', 'pyarrow', 'numpy', 'duckdb'} & set(sys.modules))"

    shown: Any = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "set()"
