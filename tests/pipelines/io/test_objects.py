"""What only stores of objects do: conditions, manifests, markers, large objects, credentials."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pipelines.io import S3, GoogleCloudStorage
from pipelines.io.errors import AccessRefused, ConnectionFailed, ConnectorError, ExportRefused, UnreadableFile
from pipelines.io.frames import FrameKind, give, to_arrow
from pipelines.io.objects.datasets import Dataset
from pipelines.io.objects.gcs import GcsStore
from pipelines.io.objects.manifest import Manifest
from pipelines.io.objects.store import ObjectChanged, ObjectMissing, Store, Stored
from tests.parts.gcs import GcsEmulator
from tests.parts.google_tokens import key_of
from tests.parts.s3 import S3Emulator
from tests.pipelines.io.projects import running_block, write_profiles

ROWS = pd.DataFrame({"a": [1, 2, 3], "day": [date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 1)]})
LARGE = 17 * 2**20  # more than one chunk, or part


@pytest.fixture
def lake(gcs: GcsEmulator, tmp_path: Path) -> GoogleCloudStorage:
    write_profiles(tmp_path, default={"GOOGLE_STORAGE_ENDPOINT": gcs.endpoint})
    return _made(tmp_path, GOOGLE_STORAGE_ENDPOINT=gcs.endpoint)


@pytest.fixture
def bucket(gcs: GcsEmulator) -> str:
    return gcs.make_bucket()


def _made(root: Path, **keys: Any) -> GoogleCloudStorage:
    return GoogleCloudStorage.from_profile(write_profiles(root, default=keys or {"X": 1}).profile())


def _store(lake: GoogleCloudStorage) -> GcsStore:
    return GcsStore(lake._settings)


@pytest.mark.parametrize(
    "name",
    ["a.parquet", "a.parquet.zst", "a.csv", "a.csv.gz", "a.csv.zst", "a.json", "a.jsonl.gz", "a.xlsx"],
)
def test_each_format_and_compression_is_told_by_the_ending(
    lake: GoogleCloudStorage, bucket: str, name: str
) -> None:
    frame = pd.DataFrame({"n": [1, 2], "s": ["ü", "b"]})

    with lake:
        assert lake.export(frame, bucket, f"deep/{name}") == 2
        assert lake.load(bucket, f"deep/{name}").to_dict("list") == {"n": [1, 2], "s": ["ü", "b"]}
        assert lake.stream(f"gs://{bucket}/deep/{name}").read_all().num_rows == 2


@pytest.mark.parametrize("frame", ["pandas", "arrow", "polars", "list", "dict"])
@pytest.mark.parametrize("name", ["a.parquet", "a.csv.gz", "a.json", "a.jsonl.zst"])
def test_each_format_takes_and_gives_each_kind_of_frame(
    lake: GoogleCloudStorage, bucket: str, name: str, frame: FrameKind
) -> None:
    rows = give(pa.table({"n": [1, 2], "s": ["ü", "b"]}), frame)

    with lake:
        assert lake.export(rows, bucket, name) == 2
        loaded = lake.load(bucket, name, frame=frame)

    assert type(loaded) is type(rows)
    assert to_arrow(loaded).to_pylist() == [{"n": 1, "s": "ü"}, {"n": 2, "s": "b"}]


def test_what_is_not_there_is_named(lake: GoogleCloudStorage, bucket: str) -> None:
    with lake:
        with pytest.raises(ObjectMissing, match=rf"no object gs://{bucket}/no\.csv"):
            lake.load(bucket, "no.csv")
        with pytest.raises(ObjectMissing, match="no bucket 'nowhere'"):
            lake.load("nowhere", "no.csv")
        with pytest.raises(ObjectMissing, match="no bucket 'nowhere'"):
            lake.export(ROWS, "nowhere", "a.csv")
        with pytest.raises(ConnectorError, match=r"such as gs://bucket/"):
            lake.load("no-address")
        assert not lake.exists(bucket, "no")


def test_a_damaged_object_is_named(lake: GoogleCloudStorage, gcs: GcsEmulator, bucket: str) -> None:
    gcs.put(bucket, "cut.parquet", b"PAR1 and no more")

    with pytest.raises(UnreadableFile, match=rf"gs://{bucket}/cut\.parquet cannot be read"):
        lake.load(bucket, "cut.parquet")


def test_a_dataset_keeps_dates_and_loses_old_partitions(lake: GoogleCloudStorage, bucket: str) -> None:
    with lake:
        lake.export(ROWS, bucket, "ds", partition_cols="day")
        lake.export(ROWS[:1], bucket, "ds", partition_cols=["day"], if_exists="append")
        appended = lake.load(bucket, "ds")
        lake.export(ROWS[1:2], bucket, "ds", partition_cols=["day"])

        assert sorted(appended["a"]) == [1, 1, 2, 3]
        assert lake.load(bucket, "ds/").to_dict("list") == {"a": [2], "day": [date(2024, 1, 2)]}
        assert [name.split("/")[1] for name in lake.list(bucket, "ds/")] == [
            "_common_metadata",
            "day=2024-01-02",
        ]
        streamed = lake.stream(bucket, "ds").read_all()
        assert streamed.schema.field("day").type == pa.date32()
        some = lake.stream(bucket, "ds", columns=["a"], filters=[("a", ">", 2)])
        assert some.read_all().to_pydict() == {"a": []}


def test_parts_of_other_programs_are_read_until_they_are_replaced(
    lake: GoogleCloudStorage, gcs: GcsEmulator, bucket: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"a": [7]}), tmp_path / "x.parquet")
    gcs.put(bucket, "ds/", b"")
    gcs.put(bucket, "ds/day=2024-01-01/", b"")
    gcs.put(bucket, "ds/day=2024-01-01/guid-0.parquet", (tmp_path / "x.parquet").read_bytes())

    with lake:
        assert lake.load(bucket, "ds")["a"].tolist() == [7]
        lake.export(ROWS, bucket, "ds", partition_cols="day", if_exists="append")
        assert sorted(lake.load(bucket, "ds")["a"]) == [1, 2, 3, 7]
        lake.export(ROWS, bucket, "ds", partition_cols="day")
        assert sorted(lake.load(bucket, "ds")["a"]) == [1, 2, 3]
        gcs.put(bucket, "ds/notes.txt", b"mine")
        with pytest.raises(ExportRefused, match=r"holds notes\.txt"):
            lake.export(ROWS, bucket, "ds", partition_cols="day")


class _StoreOfOne(Store):
    """Lists names that no file system could hold, as a bucket may have them."""

    scheme = "gs"

    def __init__(self, name: str, part: bytes) -> None:
        self._name, self._part = name, part

    def head(self, bucket: str, name: str) -> Stored | None:
        return None

    def listed(self, bucket: str, prefix: str) -> Iterator[Stored]:
        yield Stored(self._name, len(self._part), "1")

    def fetch(self, bucket: str, name: str, path: Path) -> None:
        if name != self._name:
            raise ObjectMissing(name)
        path.write_bytes(self._part)

    def put(self, *place: Any, **given: Any) -> None:
        raise AssertionError("nothing is written here")

    def delete(self, bucket: str, seen: Stored) -> None:
        raise AssertionError("nothing is deleted here")

    def close(self) -> None: ...


@pytest.mark.parametrize("name", ["{outside}/x.parquet", "../../outside/x.parquet", "a//x.parquet"])
def test_an_object_whose_name_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    below = name.format(outside=outside)
    dataset = Dataset(_StoreOfOne(f"ds/{below}", b"PAR1"), "lake", "ds")

    with pytest.raises(UnreadableFile, match=rf"gs://lake/ds/ .*'{re.escape(below)}' leads out"):
        dataset.fetch(tmp_path / "work" / "ds")

    assert not outside.exists()


def test_a_key_that_ends_in_dots_leaves_nothing_outside_of_the_folder(
    lake: GoogleCloudStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"a": [7]}), tmp_path / "x.parquet")
    store = _StoreOfOne("ds/../x.parquet", (tmp_path / "x.parquet").read_bytes())
    monkeypatch.setattr(lake, "_opened", lambda: store)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    assert lake.load("lake", "ds/..")["a"].tolist() == [7]

    assert not [*(tmp_path / "temporary").iterdir()]


def test_who_reads_a_dataset_sees_only_parts_of_finished_writes() -> None:
    manifest = Manifest(superseded=(("old-0.parquet", "7"),))

    def takes(name: str, version: str = "7") -> bool:
        return manifest.takes(name, Stored(name, 1, version))

    assert not takes(f"day=1/data-{'a' * 16}-0.parquet")
    assert not takes("old-0.parquet")
    assert takes("old-0.parquet", "8")
    assert not takes("_common_metadata")


@pytest.mark.parametrize(("values", "mixes"), [([7], True), (["x"], False)], ids=["same", "other"])
def test_two_first_appends_at_once_join_only_if_their_types_do(
    lake: GoogleCloudStorage,
    gcs: GcsEmulator,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: list[object],
    mixes: bool,
) -> None:
    put, quicker = GcsStore.put, [_made(tmp_path, GOOGLE_STORAGE_ENDPOINT=gcs.endpoint)]
    append = {"partition_cols": [], "if_exists": "append"}

    def put_second(self: GcsStore, *place: Any, **given: Any) -> None:
        if str(place[1]).endswith("_common_metadata") and quicker:
            quicker.pop().export(pd.DataFrame({"a": [1]}), bucket, "ds", **append)
        put(self, *place, **given)

    monkeypatch.setattr(GcsStore, "put", put_second)
    frame = pd.DataFrame({"a": values})
    if mixes:
        lake.export(frame, bucket, "ds", **append)
    else:
        with pytest.raises(ObjectChanged, match="was changed by somebody else"):
            lake.export(frame, bucket, "ds", **append)

    assert sorted(lake.load(bucket, "ds")["a"]) == ([1, 7] if mixes else [1])


def test_a_change_by_somebody_else_is_not_overwritten(
    lake: GoogleCloudStorage, gcs: GcsEmulator, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(b"ours")
    store = _store(lake)
    gcs.put(bucket, "x", b"first")
    seen = store.head(bucket, "x")
    gcs.put(bucket, "x", b"theirs")

    for instead_of in (seen, None):
        with pytest.raises(ObjectChanged, match=f"gs://{bucket}/x was changed by somebody else"):
            store.put(bucket, "x", tmp_path / "x", instead_of=instead_of, metadata={})
    store.close()


def test_a_try_that_lost_its_answer_finds_its_own_object(
    lake: GoogleCloudStorage, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = GcsStore.put

    def put_twice(self: GcsStore, *place: Any, **given: Any) -> None:
        put(self, *place, **given)
        put(self, *place, **given)

    monkeypatch.setattr(GcsStore, "put", put_twice)
    with running_block(tmp_path):
        assert lake.export(ROWS, bucket, "a.csv", if_exists="fail") == 3
    with running_block(tmp_path, attempt=2) as context:
        assert lake.export(ROWS, bucket, "a.csv", if_exists="fail") == 3
        assert context.effects.rows == 3


def test_a_large_local_file_goes_up_in_chunks_and_is_checked_on_its_way_down(
    lake: GoogleCloudStorage, gcs: GcsEmulator, bucket: str, tmp_path: Path
) -> None:
    source, target = tmp_path / "large.bin", tmp_path / "back.bin"
    source.write_bytes(os.urandom(LARGE))
    store = _store(lake)

    assert lake.export(source, bucket, "large.bin") == 0
    store.fetch(bucket, "large.bin", target)
    assert target.read_bytes() == source.read_bytes()

    stored = gcs.file(bucket, "large.bin")
    stored.write_bytes(b"x" + stored.read_bytes()[1:])
    with pytest.raises(ConnectionFailed, match="was damaged on its way"):
        store.fetch(bucket, "large.bin", target)
    store.close()
    with pytest.raises(ExportRefused, match="no_such_file"):
        lake.export("no_such_file.csv", bucket, "a.csv")


def test_large_objects_of_s3_go_in_parts(s3: S3Emulator, tmp_path: Path) -> None:
    bucket = s3.make_bucket()
    (tmp_path / "large.bin").write_bytes(os.urandom(LARGE))

    with S3.from_profile(write_profiles(tmp_path, default=s3.keys).profile()) as lake:
        lake.export(tmp_path / "large.bin", bucket, "large.bin")
        seen = lake._store.head(bucket, "large.bin")  # type: ignore[union-attr]
        with pytest.raises(ObjectChanged, match=f"s3://{bucket}/large.bin"):
            lake._store.put(  # type: ignore[union-attr]
                bucket, "large.bin", tmp_path / "large.bin", instead_of=None, metadata={}
            )

    assert seen is not None
    assert (seen.size, seen.version.endswith('-2"')) == (LARGE, True)


def test_what_an_object_cannot_do_is_said(lake: GoogleCloudStorage, bucket: str) -> None:
    with lake:
        with pytest.raises(ExportRefused, match="cannot be merged"):
            lake.export(ROWS, bucket, "a.csv", if_exists="merge", keys="a")
        with pytest.raises(ExportRefused, match="cannot append to the object"):
            lake.export(ROWS, bucket, "a.csv", if_exists="append")
        with pytest.raises(ExportRefused, match="bucket_name and object_key"):
            lake.export(ROWS)
        with pytest.raises(ConnectorError, match="runs no statements"):
            lake.execute("SELECT 1")


def _key(email: str) -> dict[str, str]:
    private = key_of("tests").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "type": "service_account",
        "project_id": "of-the-key",
        "private_key": private,
        "client_email": email,
        "token_uri": "http://127.0.0.1:1/token",
    }


@pytest.mark.parametrize(
    ("keys", "email"),
    [
        ({}, "machine@tests"),
        ({"GOOGLE_SERVICE_ACC_KEY_FILEPATH": "keys/file.json"}, "file@tests"),
        ({"GOOGLE_SERVICE_ACC_KEY": _key("map@tests")}, "map@tests"),
        (
            {
                "GOOGLE_SERVICE_ACC_KEY": _key("map@tests"),
                "GOOGLE_SERVICE_ACC_KEY_FILEPATH": "keys/file.json",
            },
            "map@tests",
        ),
    ],
    ids=["default", "file", "map", "both"],
)
def test_credentials_come_from_a_map_a_file_or_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], email: str
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    (tmp_path / "keys").mkdir()
    for name in ("file", "machine"):
        (tmp_path / "keys" / f"{name}.json").write_text(json.dumps(_key(f"{name}@tests")))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "keys" / "machine.json"))
    profile = write_profiles(tmp_path, default=keys or {"OTHER": 1}).profile()

    found, project = GoogleCloudStorage.from_profile(profile)._settings.credentials()

    assert (found.service_account_email, project) == (email, "of-the-key")  # type: ignore[attr-defined]


SAMPLE = {"type": "service_account", "private_key": "-----BEGIN\nyour_private_key\n-----END"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"GOOGLE_SERVICE_ACC_KEY_FILEPATH": "no.json"}, r"key file .*no\.json cannot be read: No such file"),
        ({"GOOGLE_SERVICE_ACC_KEY_FILEPATH": "bad.json"}, r"bad\.json is no key of a service account"),
        (
            {"GOOGLE_SERVICE_ACC_KEY": {"private_key": "hush"}},
            "GOOGLE_SERVICE_ACC_KEY is no key of a service",
        ),
        ({"GOOGLE_SERVICE_ACC_KEY": SAMPLE}, "no Google credentials: profile 'default'"),
        ({"GOOGLE_SERVICE_ACC_KEY_FILEPATH": "/path/to/your/service/account/key.json"}, "no Google cred"),
    ],
)
def test_what_is_wrong_with_credentials_is_said_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], said: str
) -> None:
    for variable in ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    (tmp_path / "bad.json").write_text(json.dumps({"private_key": "hush"}))

    with pytest.raises(AccessRefused, match=said) as error:
        _made(tmp_path, **keys).load("b", "a.csv")
    assert "hush" not in str(error.value)
