"""The servers answer, each in its own way, and the private ones end alone."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, PermissionDeniedError
from sqlalchemy import create_engine, text

from tests.support import services
from tests.support.servers import AzureServer, GCSServer, S3Server, start_mariadb, start_postgres, start_rclone


@pytest.mark.parametrize("server", ["rclone_s3", "moto_s3"])
def test_s3_is_read_by_both_sides(server: str, request: pytest.FixtureRequest) -> None:
    s3: S3Server = request.getfixturevalue(server)
    bucket = s3.new_bucket()
    obstore.put(s3.store(bucket), "a/b c.txt", b"content")
    fs = s3.fs()
    assert fs.cat(f"{bucket}/a/b c.txt") == b"content"
    fs.pipe(f"{bucket}/back.txt", b"back")
    assert bytes(obstore.get(s3.store(bucket), "back.txt").bytes()) == b"back"


def test_rclone_checks_signatures(rclone_s3: S3Server) -> None:
    store = rclone_s3.store(rclone_s3.new_bucket(), secret_access_key="wrong")
    with pytest.raises(PermissionDeniedError):
        obstore.put(store, "a", b"x")


def test_azurite_is_read_by_both_sides(azurite: AzureServer) -> None:
    container = azurite.new_container()
    obstore.put(azurite.store(container), "a/b.txt", b"content", attributes={"Content-Type": "text/plain"})
    assert azurite.fs().cat(f"{container}/a/b.txt") == b"content"


def test_gcs_is_read_by_both_sides(gcs: GCSServer) -> None:
    bucket = gcs.new_bucket()
    store = gcs.store(bucket)
    obstore.put(store, "a/b c.txt", b"content", attributes={"Content-Type": "text/plain", "owner": "me"})
    told = obstore.get(store, "a/b c.txt", options={"head": True})
    assert told.attributes["Content-Type"] == "text/plain"
    assert told.attributes["owner"] == "me"
    fs = gcs.fs()
    assert fs.cat(f"{bucket}/a/b c.txt") == b"content"
    fs.pipe(f"{bucket}/back.txt", b"back")
    assert bytes(obstore.get(store, "back.txt").bytes()) == b"back"
    assert sorted(entry["path"] for page in obstore.list(store) for entry in page) == ["a/b c.txt", "back.txt"]
    obstore.delete(store, "back.txt")
    with pytest.raises(FileNotFoundError):
        obstore.head(store, "back.txt")


def test_gcs_creates_only_once(gcs: GCSServer) -> None:
    store = gcs.store(gcs.new_bucket())
    obstore.put(store, "a", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "a", b"second", mode="create")
    assert bytes(obstore.get(store, "a").bytes()) == b"first"


def test_gcs_takes_multipart_and_copy(gcs: GCSServer) -> None:
    store = gcs.store(gcs.new_bucket())
    content = bytes(range(256)) * 65536
    obstore.put(store, "big", content, use_multipart=True, chunk_size=5 * 1024 * 1024)
    assert bytes(obstore.get(store, "big").bytes()) == content
    obstore.copy(store, "big", "copy")
    assert obstore.head(store, "copy")["size"] == len(content)


def test_databases_are_fresh(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE only_once (name VARCHAR(20))"))
        connection.execute(text("INSERT INTO only_once VALUES (:name)"), {"name": "grüße 🎈"})
        assert connection.execute(text("SELECT name FROM only_once")).scalar() == "grüße 🎈"
    engine.dispose()


@pytest.mark.parametrize("start", [start_postgres, start_mariadb])
def test_a_private_database_comes_back_with_its_rows_after_a_crash(
    start,
) -> None:
    directory = Path(tempfile.mkdtemp(prefix="ms-private-"))
    directory.chmod(0o755)
    try:
        with start(directory) as server, server.database() as url:
            engine = create_engine(url, pool_pre_ping=True)
            with engine.begin() as connection:
                connection.execute(text("CREATE TABLE kept (id INTEGER)"))
                connection.execute(text("INSERT INTO kept VALUES (7)"))
            server.service.kill()
            assert not server.service.alive
            with start(directory, port=server.service.port), engine.begin() as connection:
                assert connection.execute(text("SELECT id FROM kept")).scalar() == 7
            engine.dispose()
    finally:
        shutil.rmtree(directory)


def test_a_private_server_ends_alone(rclone_s3: S3Server, tmp_path: Path) -> None:
    with start_rclone(tmp_path) as private:
        bucket = private.new_bucket()
        obstore.put(private.store(bucket), "a", b"x")
        assert private.service.alive
    assert not private.service.alive
    assert rclone_s3.service.alive
    assert (tmp_path / "data" / bucket / "a").read_bytes() == b"x"
    with start_rclone(tmp_path, port=private.service.port) as again:
        assert bytes(obstore.get(again.store(bucket), "a").bytes()) == b"x"


def test_a_shared_server_that_died_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "HOME", tmp_path)
    monkeypatch.setattr(services, "STATE", tmp_path / "state.json")
    first = services.ensure("rclone")
    assert services.ensure("rclone") == first
    first.kill()
    second = services.ensure("rclone")
    assert second.pid != first.pid
    assert services.stop() == ["rclone"]
    assert not second.alive
    assert not Path(second.directory).exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path, rclone_s3: S3Server) -> None:
    with (
        pytest.raises(services.ServiceError, match="another process does"),
        start_rclone(tmp_path, port=rclone_s3.service.port),
    ):
        pass
