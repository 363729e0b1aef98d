"""Paths of Mage's container are found where the project lies, and code for older pandas still works."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pandas as pd
import pytest

from pipelines.mage.importing import mage_names
from pipelines.mage.places import Places
from pipelines.mage.sources import compiled


@pytest.fixture
def places(tmp_path: Path) -> Places:
    root = tmp_path / "my-shop"
    (root / "data").mkdir(parents=True)
    (tmp_path / "key.json").touch()
    return Places(root, frozenset({"shop"}), tmp_path / "state" / "mage_data")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/home/src/my-shop/data/x.csv", "my-shop/data/x.csv"),
        ("/home/src/shop/new.csv", "my-shop/new.csv"),
        ("/home/src/data/x.csv", "my-shop/data/x.csv"),
        ("/home/src/key.json", "key.json"),
        ("/home/src/old_name/data/x.csv", "my-shop/data/x.csv"),
        ("/home/src/all_of_them/my-shop/new.csv", "my-shop/new.csv"),
        ("/home/src/nowhere.csv", "my-shop/nowhere.csv"),
        ("/home/src/", "my-shop/"),
        ("/home/src", "my-shop"),
        ("/home/src/mage_data/shop/x.parquet", "state/mage_data/shop/x.parquet"),
    ],
)
def test_path_is_mapped(places: Places, text: str, place: str) -> None:
    whole = str(places.root.parent / place) + ("/" if place.endswith("/") else "")

    assert places.located(text) == whole
    assert places.located(f"read_csv('{text}', x)") == f"read_csv('{whole}', x)"


@pytest.mark.parametrize(
    "text", ["/home/srcs/x", "s3://bucket/home/src/x", "/mnt/home/src/x", "/home/src/../etc/passwd", "plain"]
)
def test_other_text_stays(places: Places, text: str) -> None:
    assert places.located(text) == text


def test_variables_of_a_run_are_mapped(places: Places) -> None:
    given = {"path": "/home/src/shop/data", "days": 3, "names": ["/home/src/data"]}

    found = places.located_values(given)

    assert found == {**given, "path": f"{places.root}/data"}


def test_project_in_home_src_keeps_its_paths() -> None:
    assert Places(Path("/home/src/shop")).located("/home/src/x/y") == "/home/src/x/y"


def executed(source: str, places: Places, **names: Any) -> dict[str, Any]:
    with mage_names(places):
        exec(compiled(source, str(places.root / "block.py"), places), names)
    return names


def test_texts_of_code_are_mapped_and_lines_stay(places: Places) -> None:
    source = (
        "name = 'x'\n"
        "plain = '/home/src/data/a.csv'\n"
        "made = f'/home/src/data/{name}.csv'\n"
        "def where():\n    raise ValueError('/home/src/data')\n"
    )

    found = executed(source, places)

    assert found["plain"] == f"{places.root}/data/a.csv"
    assert found["made"] == f"{places.root}/data/x.csv"
    with pytest.raises(ValueError, match="my-shop/data") as caught:
        found["where"]()
    assert caught.traceback[-1].lineno == 4
    assert str(caught.traceback[-1].statement).strip() == "raise ValueError('/home/src/data')"


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        ("os.path.join('/home/src', 'key.json')", "key.json"),
        ("os.path.join('/home/src', 'shop', 'data', name + '.csv')", "my-shop/data/x.csv"),
        ("join('/home/src', f'data/{name}.csv')", "my-shop/data/x.csv"),
        ("f'/home/src/{project}/data/{name}.csv'", "my-shop/data/x.csv"),
        ("'/home/src/' + project + '/data'", "my-shop/data"),
        ("'/home/src/%s/data' % project", "my-shop/data"),
        ("'/home/src/{}/data'.format(project)", "my-shop/data"),
        ("str(Path('/home/src') / 'key.json')", "key.json"),
        ("str(Path('/home/src', project).joinpath('data'))", "my-shop/data"),
        ("str(pathlib.Path('/home/src/shop') / 'data' / name)", "my-shop/data/x"),
        ("os.path.join(str(len('/home/src/data') and ''), '/home/src/data')", "my-shop/data"),
    ],
)
def test_path_that_is_put_together_is_mapped_as_a_whole(places: Places, expression: str, place: str) -> None:
    source = (
        '"""A block."""\nfrom __future__ import annotations\n'
        "import os, pathlib\nfrom os.path import join\nfrom pathlib import Path\n"
        f"project, name = 'shop', 'x'\nfound = {expression}\n"
    )

    assert executed(source, places)["found"] == str(places.root.parent / place)


def test_path_object_stays_one(places: Places) -> None:
    source = "from pathlib import Path\nfound = Path('/home/src') / 'shop'\n"

    assert executed(source, places)["found"] == places.root


@pytest.mark.parametrize(
    ("statement", "a"),
    [
        ("df['a'].fillna(0, inplace=True)", [1, 0, 3]),
        ("df.a.fillna(0, inplace=True)", [1, 0, 3]),
        ("df['a'].replace({1.0: 9.0}, inplace=True); df['a'].fillna(0, inplace=True)", [9, 0, 3]),
        ("df['a'][df['b'] > 4] = 7", [1, 7, 7]),
        ("df['a'].loc[1:2] = 7", [1, 7, 7]),
        ("df['a'].iloc[0] = 7; df['a'][1] = 2", [7, 2, 3]),
        ("df['a'][0] += 1; df['a'][1] = 2", [2, 2, 3]),
    ],
)
def test_columns_are_changed_in_place_as_before_pandas_3(
    places: Places, statement: str, a: list[int]
) -> None:
    frame = pd.DataFrame({"a": [1, None, 3], "b": [4, 5, 6]})

    executed(f"# mage_ai\n{statement}\n", places, df=frame)

    assert frame["a"].tolist() == a


def test_parts_of_other_things_are_assigned_as_ever(places: Places) -> None:
    counts: dict[str, Any] = {"a": [1, 2], "b": {"x": 1}}

    source = "'doc'\nfrom __future__ import annotations\n# mage_ai\nc['a'][i] = 5\nc['a'][0] += 1\n"
    executed(source, places, c=counts, i=1)

    assert counts["a"] == [2, 5]


@pytest.mark.parametrize("part", ["frames['a']", "frames[name]", "holder.frame"])
def test_frames_in_other_things_are_changed_in_place_as_ever(places: Places, part: str) -> None:
    frame = pd.DataFrame({"x": [1, None], "y": [None, 2]})
    names = {"frames": {"a": frame}, "name": "a", "holder": SimpleNamespace(frame=frame)}

    executed(f"# mage_ai\n{part}.fillna(value=0, inplace=True)\n", places, **names)

    assert frame.to_dict("list") == {"x": [1, 0], "y": [0, 2]}


def test_attribute_of_a_frame_that_is_no_column_is_changed_in_place(places: Places) -> None:
    class Labelled(pd.DataFrame):
        _metadata: ClassVar[list[str]] = ["labels"]

    frame = Labelled({"x": [1]})
    labels = pd.Series([None, 2])
    frame.labels = labels  # type: ignore[attr-defined]

    executed("# mage_ai\nframe.labels.fillna(0, inplace=True)\n", places, frame=frame)

    assert labels.tolist() == [0, 2]
