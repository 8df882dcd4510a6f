"""Faults of advanced-alchemy's own ObstoreBackend that ours mends, each as a test that must fail.

When upstream mends one, its test passes, the suite says so, and the line in ``docs/upstream.md`` can go. Each fault is
shown to be mended in ours by the same test.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from advanced_alchemy.cache.serializers import default_deserializer, default_serializer
from advanced_alchemy.config import SQLAlchemyAsyncConfig
from advanced_alchemy.types import StoredObject
from advanced_alchemy.types.file_object import FileObject, storages
from advanced_alchemy.types.file_object.backends.obstore import ObstoreBackend as UpstreamBackend
from advanced_alchemy.types.file_object.registry import StorageRegistry
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from migrate_storage import ObstoreBackend
from tests.support import ROOT
from tests.support.backend.echo import echo
from tests.support.servers import AzureServer, GCSServer, S3Server

FAULTS = {
    "allow_http": "`aws_allow_http=True` (or False, or any other client option as a plain argument) panics in Rust with a `BaseException`.",
    "connection_string": "`azure_storage_connection_string=` is an unknown key.",
    "missing_folder": "A local directory that does not exist cannot be opened.",
    "prefix": "`prefix=` is an unknown key.",
    "none": "A value of `None`, as `os.environ.get` gives it, is a TypeError.",
    "gcs_scheme": "`gcs://` is not recognised.",
    "scheme": "An endpoint without a scheme is accepted, and fails at the first use.",
    "http_endpoint": "An endpoint with `http://` alone fails at the first use with `builder error`.",
    "typo": "Unknown options of a local store are ignored without a word.",
    "spaces_url": "The URL of a DigitalOcean space becomes a plain HTTP store, which cannot write.",
    "session_token": "An `AWS_SESSION_TOKEN` of the environment is sent with explicit keys.",
    "endpoint_from_environment": "`AWS_ENDPOINT_URL_S3` of the environment beats an explicit endpoint.",
    "azure_token": "`AZURE_STORAGE_TOKEN` of the environment beats an explicit SAS token.",
    "read_options": "`get_content(options=...)` with the options that it declares as supported is a TypeError.",
    "range": "`get_content(options=...)` with a range reads everything.",
    "two_requests": "A save is two requests.",
    "checksum": "`checksum` is never set.",
    "header_override": "User metadata named `Content-Type` overrides the header.",
    "metadata_types": "Metadata comes back with other types and cases than it was saved with.",
    "unreadable": "Metadata outside ASCII is written to S3, and the object can then not be read with obstore.",
    "azure_panic": "Metadata outside ASCII panics on Azure with a `BaseException`.",
    "slash": "A key that begins or ends with a slash is written to another key.",
    "delete_missing": "Deleting what is not there raises on Azure and local disks.",
    "missing_bucket": "A delete in a bucket that does not exist raises FileNotFoundError, which advanced-alchemy takes for success.",
    "sign_azure": "A signed URL on Azure is refused by the service for keys with spaces, `#`, `?`, `%` or non-ASCII characters.",
    "sign_gcs": "A signed URL on Google Cloud Storage addresses another object for keys with `#`, `?` or `%`.",
    "seven_days": "A URL for longer than 7 days is signed on S3, and then refused.",
    "sync_in_loop": "An asynchronous credential provider hangs for ever when a synchronous call is made inside a running loop.",
    "fork": "After a fork it hangs for ever.",
    "options_secret": "`backend.options` has secrets in clear.",
    "slow_body": "A body that takes longer than 30 seconds fails, however steadily it flows.",
    "async_file": "A file that is read asynchronously, as an UploadFile is, cannot be saved.",
    "litestar_json": "Litestar does not encode a FileObject: the guide's upload handler answers 500.",
    "pydantic_json": "pydantic does not read the JSON that it wrote of a FileObject.",
}  # fmt: skip
UNMENDED = {
    "cache_serializer": "A repository's cache returns the text of a FileObject in place of the file.",
    "default_backend": "`storages.set_default_backend` with a class keeps its bare name, which cannot be imported later.",
    "hidden_failure": "The commit of an asynchronous session succeeds although the upload of its file failed.",
}
"""Faults outside of the backend, which nothing here mends."""

Backend = Callable[..., Any]


def fault(name: str) -> Any:
    """The test fails with upstream's class, strictly, and passes with ours."""
    upstream = pytest.param(UpstreamBackend, marks=pytest.mark.xfail(strict=True, reason=FAULTS[name]))
    return pytest.mark.parametrize("kind", [upstream, ObstoreBackend], ids=["upstream", "ours"])


def unmended(name: str) -> Any:
    """The test fails, strictly."""
    return pytest.mark.xfail(strict=True, reason=UNMENDED[name])


def test_every_fault_is_tested_and_in_the_docs() -> None:
    source = Path(__file__).read_text()
    assert [name for name in FAULTS if f'@fault("{name}")' not in source] == []
    assert [name for name in UNMENDED if f'@unmended("{name}")' not in source] == []
    text = " ".join((ROOT / "docs" / "upstream.md").read_text().split())
    assert [line for line in (FAULTS | UNMENDED).values() if line not in text] == []


@pytest.fixture
def s3(moto_s3: S3Server) -> Callable[..., Any]:
    bucket = moto_s3.new_bucket()

    def make(kind: Backend) -> Any:
        return kind(
            key="k",
            fs=f"s3://{bucket}/",
            aws_endpoint=moto_s3.endpoint,
            aws_access_key_id="k",
            aws_secret_access_key="s",
            client_options={"allow_http": True},
        )

    return make


@pytest.fixture
def azure(azurite: AzureServer) -> Callable[..., Any]:
    container = azurite.new_container()

    def make(kind: Backend) -> Any:
        return kind(
            key="k",
            fs=f"az://{container}/",
            azure_storage_account_name=azurite.account,
            azure_storage_account_key=azurite.key,
            azure_storage_endpoint=azurite.endpoint,
            client_options={"allow_http": True},
        )

    return make


def _panics_are_errors(call: Callable[[], Any]) -> Any:
    """A panic of Rust derives from BaseException; pytest takes such for an interruption."""
    try:
        return call()
    except Exception:
        raise
    except BaseException as panic:
        pytest.fail(f"a panic: {panic}")


@fault("allow_http")
def test_allow_http(kind: Backend) -> None:
    _panics_are_errors(lambda: kind(key="k", fs="s3://b/", aws_endpoint="http://127.0.0.1:9", aws_allow_http=True))


@fault("connection_string")
def test_connection_string(kind: Backend) -> None:
    kind(key="k", fs="az://c/", azure_storage_connection_string="AccountName=a;AccountKey=aGVsbG8=")


@fault("missing_folder")
def test_missing_folder(kind: Backend, tmp_path: Path) -> None:
    kind(key="k", fs=f"file://{tmp_path}/missing/")


@fault("prefix")
def test_prefix(kind: Backend) -> None:
    kind(key="k", fs="s3://b/", prefix="p")


@fault("none")
def test_none(kind: Backend) -> None:
    kind(key="k", fs="s3://b/", aws_region=None)


@fault("gcs_scheme")
def test_gcs_scheme(kind: Backend) -> None:
    kind(key="k", fs="gcs://b/", bearer_token="t")


@fault("scheme")
def test_scheme(kind: Backend) -> None:
    with pytest.raises(ValueError, match="has no scheme"):
        kind(key="k", fs="s3://b/", aws_endpoint="localhost:9000")


@fault("http_endpoint")
def test_http_endpoint(kind: Backend) -> None:
    with echo() as server:
        backend = kind(key="k", fs="s3://b/", aws_endpoint=server.url, aws_access_key_id="k", aws_secret_access_key="s")
        assert backend.get_content("x") == b"content"


@fault("typo")
def test_typo(kind: Backend, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        kind(key="k", fs=f"file://{tmp_path}", mkdirs=True)


@fault("spaces_url")
def test_spaces_url(kind: Backend) -> None:
    assert kind(key="k", fs="https://nyc3.digitaloceanspaces.com/space").protocol == "s3"


@fault("session_token")
def test_session_token(kind: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "ambient")
    backend = kind(key="k", fs="s3://b/", aws_access_key_id="k", aws_secret_access_key="s")
    assert "ambient" not in backend.sign("x")


@fault("endpoint_from_environment")
def test_endpoint_from_environment(kind: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://ambient.example.com")
    options = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "aws_endpoint": "https://explicit.example.com"}
    assert kind(key="k", fs="s3://b/", **options).sign("x").startswith("https://explicit.example.com/b/x")


@fault("azure_token")
def test_azure_token(kind: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_TOKEN", "ambient")
    with echo() as server:
        backend = kind(
            key="k",
            fs="az://c/",
            azure_storage_account_name="a",
            azure_storage_sas_token="sv=1&sig=explicit",
            azure_storage_endpoint=server.url,
            client_options={"allow_http": True},
        )
        backend.get_content("x")
        assert "authorization" not in server.seen[-1].headers


@fault("read_options")
def test_read_options(kind: Backend) -> None:
    backend = kind(key="k", fs="memory://")
    FileObject(backend=backend, filename="a").save(b"1")
    assert backend.get_content("a", options={"chunk_size": 1024}) == b"1"


@fault("range")
def test_range(kind: Backend) -> None:
    backend = kind(key="k", fs="memory://")
    FileObject(backend=backend, filename="a").save(b"0123")
    assert backend.get_content("a", options={"range": (1, 3)}) == b"12"


@fault("two_requests")
def test_two_requests(kind: Backend) -> None:
    with echo() as server:
        options = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "client_options": {"allow_http": True}}
        FileObject(backend=kind(key="k", fs="s3://b/", aws_endpoint=server.url, **options), filename="x").save(b"1")
        assert len(server.seen) == 1


@fault("checksum")
def test_checksum(kind: Backend) -> None:
    assert FileObject(backend=kind(key="k", fs="memory://"), filename="a").save(b"1").checksum


def _attributes(backend: Any, path: str) -> dict[str, Any]:
    return dict(backend.fs.get(path, options={"head": True}).attributes)


@fault("header_override")
def test_header_override(kind: Backend) -> None:
    backend = kind(key="k", fs="memory://")
    FileObject(backend=backend, filename="a.txt", metadata={"Content-Type": "text/evil"}).save(b"1")
    assert _attributes(backend, "a.txt")["Content-Type"] == "text/plain"


@fault("metadata_types")
def test_metadata_types(kind: Backend, s3: Callable[..., Any]) -> None:
    backend = s3(kind)
    FileObject(backend=backend, filename="a.txt", metadata={"KEY": 1, "plain": "x"}).save(b"1")
    found = _attributes(backend, "a.txt")
    read = backend.attributes("a.txt").metadata if isinstance(backend, ObstoreBackend) else found
    assert {key: read.get(key) for key in ("KEY", "plain")} == {"KEY": 1, "plain": "x"}


@fault("unreadable")
def test_unreadable(kind: Backend, s3: Callable[..., Any]) -> None:
    backend = s3(kind)
    with contextlib.suppress(Exception):
        FileObject(backend=backend, filename="a.txt", metadata={"name": "Größe"}).save(b"1")
    assert backend.get_content("a.txt") == b"1"


@fault("azure_panic")
def test_azure_panic(kind: Backend, azure: Callable[..., Any]) -> None:
    _panics_are_errors(lambda: FileObject(backend=azure(kind), filename="a", metadata={"n": "Größe"}).save(b"1"))


@fault("slash")
def test_slash(kind: Backend) -> None:
    backend = kind(key="k", fs="memory://")
    FileObject(backend=backend, filename="a").save(b"precious")
    with contextlib.suppress(ValueError):
        FileObject(backend=backend, filename="a/").save(b"other")
    assert backend.get_content("a") == b"precious"


@fault("delete_missing")
def test_delete_missing(kind: Backend, azure: Callable[..., Any]) -> None:
    azure(kind).delete_object("never/was")


@fault("missing_bucket")
def test_missing_bucket(kind: Backend, moto_s3: S3Server) -> None:
    options = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "client_options": {"allow_http": True}}
    backend = kind(key="k", fs="s3://no-such-bucket/", aws_endpoint=moto_s3.endpoint, **options)
    try:
        backend.delete_object("x")
    except FileNotFoundError as error:
        pytest.fail(f"taken for success: {error}")
    except OSError:
        return
    pytest.fail("a success")


@fault("sign_azure")
def test_sign_azure(kind: Backend, azure: Callable[..., Any]) -> None:
    backend = azure(kind)
    FileObject(backend=backend, filename="a b").save(b"1")
    assert httpx.get(backend.sign("a b")).content == b"1"


@fault("sign_gcs")
def test_sign_gcs(kind: Backend, gcs: GCSServer) -> None:
    backend = kind(key="k", fs="gs://b/", google_service_account=gcs.service_account_path)
    assert "/b/h%23x?" in backend.sign("h#x")


@fault("seven_days")
def test_seven_days(kind: Backend) -> None:
    backend = kind(key="k", fs="s3://b/", aws_access_key_id="k", aws_secret_access_key="s")
    with pytest.raises(ValueError, match="7 days"):
        backend.sign("x", expires_in=8 * 86400)


_IN_LOOP = """
import asyncio, sys
async def provider():
    return {"access_key_id": "k", "secret_access_key": "s", "token": None, "expires_at": None}
async def main(kind):
    backend = kind(key="k", fs="s3://b/", aws_region="r", credential_provider=provider)
    print(backend.sign("x")[:8])
"""


def _script(kind: Backend, script: str, *arguments: str) -> str:
    """Return what a process of its own prints. The upstream backend hangs for ever, so 10 seconds are enough for it."""
    ours = kind.__module__.startswith("migrate_storage.")
    prelude = f"from {kind.__module__} import {kind.__name__} as kind\n"
    done = subprocess.run(
        [sys.executable, "-c", prelude + script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60 if ours else 10,
    )
    return done.stdout.strip()


@fault("sync_in_loop")
def test_sync_in_loop(kind: Backend) -> None:
    assert _script(kind, f"{_IN_LOOP}\nasyncio.run(main(kind))") == "https://"


_FORK = """
import os, sys
backend = kind(key="k", fs=sys.argv[1])
def get():
    try:
        return backend.get_content("a")
    except Exception as error:
        return type(error).__name__
get()
pid = os.fork()
if pid == 0:
    print(get(), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


@fault("fork")
def test_fork(kind: Backend, tmp_path: Path) -> None:
    script = _FORK.replace("import os, sys", "import os, signal, sys")
    # A child that hangs must not outlive the test.
    script = script.replace("if pid == 0:\n", "if pid == 0:\n    signal.alarm(5)\n")
    assert _script(kind, script, tmp_path.as_uri()) == "ForkedAfterUseError"


@fault("options_secret")
def test_options_secret(kind: Backend) -> None:
    backend = kind(key="k", fs="s3://b/", aws_access_key_id="k", aws_secret_access_key="very-secret")
    assert "very-secret" not in repr(backend.options)


@fault("slow_body")
def test_slow_body(kind: Backend) -> None:
    backend = kind(key="k", fs="s3://b/", aws_access_key_id="k", aws_secret_access_key="s")
    assert (backend.fs.client_options or {}).get("timeout", "30s") != "30s"


class _Upload:
    """As Starlette's UploadFile: only ``read``, and awaited."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self, size: int = -1) -> bytes:
        content, self._content = self._content, b""
        return content


@fault("async_file")
def test_async_file(kind: Backend) -> None:
    backend = kind(key="k", fs="memory://")
    saved = asyncio.run(FileObject(backend=backend, filename="a").save_async(_Upload(b"12")))  # type: ignore[arg-type]
    assert saved.size == 2


_FILE = """
import litestar.serialization as ls, pydantic
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object import storages
{backend}
storages.register_backend(kind(key="k", fs="memory://"))
file = FileObject(backend="k", filename="a")
class Shown(pydantic.BaseModel):
    file: FileObject
"""


def _file_script(kind: Backend, script: str) -> str:
    """Run a script as an application does that imports its frameworks first."""
    backend = f"from {kind.__module__} import {kind.__name__} as kind"
    done = subprocess.run(
        [sys.executable, "-c", _FILE.format(backend=backend) + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip()


@fault("litestar_json")
def test_litestar_json(kind: Backend) -> None:
    script = "print(b'filename' in ls.encode_json(file, ls.default_serializer))"
    assert _file_script(kind, script) == "True"


@fault("pydantic_json")
def test_pydantic_json(kind: Backend) -> None:
    script = "print(Shown.model_validate_json(Shown(file=file).model_dump_json()).file.filename)"
    assert _file_script(kind, script) == "a"


@unmended("default_backend")
def test_default_backend() -> None:
    registry = StorageRegistry(default_backend="")
    registry.set_default_backend(ObstoreBackend)
    registry.register_backend("memory://", "k")
    assert registry.is_registered("k")


@unmended("cache_serializer")
def test_cache_serializer() -> None:
    class Base(DeclarativeBase):
        pass

    class Row(Base):
        __tablename__ = "rows_in_a_cache"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[FileObject] = mapped_column(StoredObject(backend="cached"))

    storages.register_backend(ObstoreBackend("cached", "memory://"))
    row = Row(id=1, file=FileObject(backend="cached", filename="a"))
    assert isinstance(default_deserializer(default_serializer(row), Row).file, FileObject)


class _Failing(ObstoreBackend):
    async def save_object_async(self, *_: Any, **__: Any) -> Any:
        raise OSError("disk full")


@unmended("hidden_failure")
async def test_hidden_failure() -> None:
    class Base(DeclarativeBase):
        pass

    class Row(Base):
        __tablename__ = "rows_of_a_failing_store"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[FileObject] = mapped_column(StoredObject(backend="failing"))

    storages.register_backend(_Failing("failing", "memory://"))
    config = SQLAlchemyAsyncConfig(connection_string="sqlite+aiosqlite://", metadata=Base.metadata)
    engine = config.get_engine()
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    with pytest.raises(OSError, match="disk full"):
        async with config.get_session() as session:
            session.add(Row(id=1, file=FileObject(backend="failing", filename="a", content=b"1")))
            await session.commit()
