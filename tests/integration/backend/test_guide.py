"""Every heading of advanced-alchemy's guide to its obstore backend has a test; what it shows works as written."""

from __future__ import annotations

import ast
import asyncio
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from advanced_alchemy.types import FileObject, StoredObject
from advanced_alchemy.types.file_object import storages
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError
from tests.support.backend.signatures import ACCOUNT_KEY, check_s3_signature
from tests.support.servers import AzureServer, GCSServer, S3Server

HEADINGS = """
Obstore Backend; Characteristics; Supported Backends; Installation; Basic Usage; Backend Registration; Using in Models;
Local Filesystem; Basic Setup; Relative Paths; Amazon S3; Access Key Authentication; IAM Role Authentication;
S3-Compatible Services; MinIO; Cloudflare R2; DigitalOcean Spaces; Google Cloud Storage; Service Account;
Default Credentials; Azure Blob Storage; Connection String; Account Key; SAS Token; Memory (Testing); In-Memory Storage;
File Operations; Upload with Metadata; Signed URLs; Multipart Upload; Advanced Configuration; Environment Variables;
Startup Configuration; Multiple Backends; Framework Integration; File Upload Handling; Signed URL Generation; Testing;
Memory Backend; Test Fixtures; Performance Optimization; Chunk Size Configuration; Concurrent Operations;
Connection Reuse; Common Issues; LocalStore Metadata Support; Signed URL Support; Authentication Errors;
Endpoint Format; Migration from FSSpec; Configuration Changes; Model Code Unchanged; See Also
"""

ELSEWHERE = {
    "IAM Role Authentication": "test_credentials.py::test_the_role_of_an_instance",
    "Default Credentials": "test_explicit.py::test_default_credentials_of_kinds_that_obstore_does_not_read",
    "Startup Configuration": "test_apps.py::test_upload_and_download",
    "Framework Integration": "test_apps.py::test_upload_and_download",
    "File Upload Handling": "test_apps.py::test_upload_and_download",
    "Signed URL Generation": "test_apps.py::test_a_client_uploads_to_a_signed_url",
    "Connection Reuse": "test_requests.py::test_connections_are_used_again",
    "Authentication Errors": "test_errors.py::test_refused_credentials",
    "Model Code Unchanged": "test_orm.py::test_saved_with_the_row",
    "Using in Models": "test_orm.py::test_saved_with_the_row",
    "See Also": "test_contract.py::test_every_difference_is_in_the_docs",
}

_covered: dict[str, str] = {}


def covers(*headings: str) -> Callable[[Any], Any]:
    def mark(test: Any) -> Any:
        _covered.update(dict.fromkeys(headings, test.__name__))
        return test

    return mark


def test_every_heading_has_a_test() -> None:
    headings = {" ".join(heading.split()) for heading in HEADINGS.split(";")}
    assert headings - set(_covered) - set(ELSEWHERE) == set()
    assert (set(_covered) | set(ELSEWHERE)) - headings == set()
    for place in ELSEWHERE.values():
        file, _, name = place.partition("::")
        tree = ast.parse((Path(__file__).parent / file).read_text())
        assert name in {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    before = storages.registered_backends()
    yield
    for key in set(storages.registered_backends()) - set(before):
        storages.unregister_backend(key)


@pytest.fixture
def minio(rclone_s3: S3Server) -> dict[str, Any]:
    """What the guide writes for MinIO, on a server that is there."""
    return {
        "fs": f"s3://{rclone_s3.new_bucket('my-bucket')}/",
        "aws_endpoint": rclone_s3.endpoint,
        "aws_access_key_id": rclone_s3.key,
        "aws_secret_access_key": rclone_s3.secret,
        "aws_region": "us-east-1",
        "aws_allow_http": True,
    }


async def _works(backend: ObstoreBackend) -> None:
    """The round trip of the guide, both ways."""
    storages.register_backend(backend)
    file = FileObject(backend=backend.key, filename="round/trip.txt", content=b"1")
    file.save()
    assert file.get_content() == b"1"
    await file.save_async(b"2")
    assert await file.get_content_async() == b"2"
    await file.delete_async()
    with pytest.raises(FileNotFoundError):
        file.get_content()


@covers("Obstore Backend", "Characteristics", "Basic Usage", "Backend Registration", "Local Filesystem", "Basic Setup")
async def test_basic_setup(tmp_path: Path) -> None:
    await _works(ObstoreBackend(key="local", fs=f"file://{tmp_path}/var/app/uploads/"))


@covers("Supported Backends")
@pytest.mark.parametrize(
    ("url", "protocol"),
    [("s3://b/", "s3"), ("gs://b/", "gcs"), ("az://c/", "azure"), ("file:///tmp/g/", "file"), ("memory://", "memory")],
)
def test_supported_backends(url: str, protocol: str) -> None:
    options = {"gcs": {"google_bearer_token": "t"}, "azure": {"azure_storage_account_name": "a"}}.get(protocol, {})
    backend = ObstoreBackend(key="k", fs=url, **options)
    assert backend.protocol == protocol
    assert StoredObject(backend=backend).backend is backend
    assert repr(StoredObject(backend=backend)) == "StoredObject(backend='k')"


@covers("Installation")
def test_installation() -> None:
    assert importlib.metadata.version("obstore")
    assert importlib.metadata.version("advanced-alchemy")


@covers("Relative Paths")
def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    upload_dir = os.path.abspath("uploads")
    asyncio.run(_works(ObstoreBackend(key="local", fs=f"file://{upload_dir}/")))
    asyncio.run(_works(ObstoreBackend(key="local", fs=Path("uploads"))))


@covers("Amazon S3", "Access Key Authentication")
def test_access_keys() -> None:
    backend = ObstoreBackend(
        key="s3",
        fs="s3://my-bucket/",
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        aws_region="us-west-2",
    )
    url = str(backend.sign("invoice.pdf"))
    assert url.startswith("https://s3.us-west-2.amazonaws.com/my-bucket/invoice.pdf?")
    assert check_s3_signature(url, "GET", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")["key"] == "AKIAIOSFODNN7EXAMPLE"


@covers("S3-Compatible Services", "MinIO")
async def test_minio(minio: dict[str, Any]) -> None:
    await _works(ObstoreBackend(key="minio", **minio))
    production = ObstoreBackend(
        key="minio-prod",
        fs="s3://production-bucket/",
        aws_endpoint="https://minio.example.com",
        aws_access_key_id="production-key",
        aws_secret_access_key="production-secret",
        aws_region="us-east-1",
        aws_allow_http=False,
    )
    assert str(production.sign("a")).startswith("https://minio.example.com/production-bucket/a?")


@covers("Cloudflare R2")
def test_r2() -> None:
    backend = ObstoreBackend(
        key="r2",
        fs="s3://my-bucket/",
        aws_endpoint="https://account-id.r2.cloudflarestorage.com",
        aws_access_key_id="R2_ACCESS_KEY_ID",
        aws_secret_access_key="R2_SECRET_ACCESS_KEY",
    )
    url = str(backend.sign("a"))
    assert url.startswith("https://account-id.r2.cloudflarestorage.com/my-bucket/a?")
    assert check_s3_signature(url, "GET", "R2_SECRET_ACCESS_KEY")["region"] == "auto"


@covers("DigitalOcean Spaces")
def test_spaces() -> None:
    backend = ObstoreBackend(
        key="spaces",
        fs="s3://my-space/",
        aws_endpoint="https://nyc3.digitaloceanspaces.com",
        aws_access_key_id="SPACES_ACCESS_KEY",
        aws_secret_access_key="SPACES_SECRET_KEY",
        aws_region="us-east-1",
    )
    url = str(backend.sign("a"))
    assert url.startswith("https://nyc3.digitaloceanspaces.com/my-space/a?")
    assert check_s3_signature(url, "GET", "SPACES_SECRET_KEY")["region"] == "us-east-1"


@covers("Google Cloud Storage", "Service Account")
async def test_google(gcs: GCSServer) -> None:
    await _works(
        ObstoreBackend(
            key="gcs", fs=f"gs://{gcs.new_bucket()}/", google_service_account=gcs.service_account_path, allow_http=True
        )
    )


@covers("Azure Blob Storage", "Connection String")
async def test_azure_connection_string(azurite: AzureServer) -> None:
    url = f"az://{azurite.new_container()}/"
    await _works(ObstoreBackend(key="azure", fs=url, azure_storage_connection_string=azurite.connection_string))
    vendor = f"DefaultEndpointsProtocol=https;AccountName=acct;AccountKey={ACCOUNT_KEY};EndpointSuffix=core.windows.net"
    backend = ObstoreBackend(key="azure", fs="az://my-container/", azure_storage_connection_string=vendor)
    assert str(backend.sign("a")).startswith("https://acct.blob.core.windows.net/my-container/a?")


@covers("Account Key")
async def test_azure_account_key(azurite: AzureServer) -> None:
    await _works(
        ObstoreBackend(
            key="azure",
            fs=f"az://{azurite.new_container()}/",
            azure_storage_account_name=azurite.account,
            azure_storage_account_key=azurite.key,
            azure_storage_endpoint=azurite.endpoint,
        )
    )


@covers("SAS Token")
async def test_azure_sas_token(azurite: AzureServer) -> None:
    import datetime

    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    container = azurite.new_container()
    token = generate_container_sas(
        azurite.account,
        container,
        azurite.key,
        permission=ContainerSasPermissions(read=True, write=True, delete=True, list=True, create=True),
        expiry=datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1),
    )
    for spelled in (token, f"?{token}"):
        await _works(
            ObstoreBackend(
                key="azure",
                fs=f"az://{container}/",
                azure_storage_account_name=azurite.account,
                azure_storage_sas_token=spelled,
                azure_storage_endpoint=azurite.endpoint,
            )
        )


@covers("Memory (Testing)", "In-Memory Storage")
async def test_memory() -> None:
    await _works(ObstoreBackend(key="memory", fs="memory://"))


@covers("File Operations", "Upload with Metadata")
async def test_upload_with_metadata(moto_s3: S3Server) -> None:
    options = {"aws_endpoint": moto_s3.endpoint, "aws_access_key_id": "k", "aws_secret_access_key": "s"}
    backend = ObstoreBackend(key="s3", fs=f"s3://{moto_s3.new_bucket()}/", **options)
    storages.register_backend(backend)
    metadata = {"invoice_number": "INV-2025-001", "customer_id": "12345", "amount": "1500.00"}
    file_obj = FileObject(
        backend="s3", filename="invoice.pdf", content_type="application/pdf", metadata=metadata, content=b"pdf"
    )
    await file_obj.save_async()
    found = await backend.attributes_async("invoice.pdf")
    assert (found.content_type, found.metadata) == ("application/pdf", metadata)
    # As any other tool sees it.
    seen = moto_s3.client.head_object(Bucket=backend.fs.config["bucket"], Key="invoice.pdf")
    assert (seen["ContentType"], seen["Metadata"]) == ("application/pdf", metadata)


@covers("Signed URLs")
async def test_signed_urls(minio: dict[str, Any]) -> None:
    storages.register_backend(ObstoreBackend(key="s3", **minio))
    file_obj = FileObject(backend="s3", filename="a.txt")
    async with httpx.AsyncClient() as client:
        upload_url = await file_obj.sign_async(expires_in=300, for_upload=True)
        assert (await client.put(upload_url, content=b"uploaded")).status_code == 200
        download_url = await file_obj.sign_async(expires_in=3600)
        assert (await client.get(download_url)).content == b"uploaded"


@covers("Multipart Upload", "Performance Optimization", "Chunk Size Configuration")
async def test_multipart(minio: dict[str, Any]) -> None:
    storages.register_backend(ObstoreBackend(key="s3", **minio))
    content = os.urandom(12 * 1024 * 1024)
    file = FileObject(backend="s3", filename="large.bin")
    await file.save_async(content)
    assert await file.get_content_async() == content
    await file.save_async(content, use_multipart=True, chunk_size=50 * 1024 * 1024, max_concurrency=20)
    assert await file.get_content_async() == content
    await file.save_async(b"small", use_multipart=False)
    assert await file.get_content_async(options={"use_multipart": False, "chunk_size": 1024}) == b"small"


@covers("Advanced Configuration", "Environment Variables")
async def test_environment_variables(minio: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio.pop("aws_access_key_id"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio.pop("aws_secret_access_key"))
    monkeypatch.delenv("AWS_REGION", raising=False)
    del minio["aws_region"]
    explicit = ObstoreBackend(
        key="s3",
        **minio,
        aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        aws_region=os.environ.get("AWS_REGION", "us-east-1"),
    )
    await _works(explicit)
    await _works(ObstoreBackend(key="s3", **minio, aws_region=os.environ.get("AWS_REGION")))


@covers("Multiple Backends")
async def test_multiple_backends(minio: dict[str, Any], gcs: GCSServer, tmp_path: Path) -> None:
    storages.register_backend(ObstoreBackend(key="documents", **minio))
    storages.register_backend(
        ObstoreBackend(
            key="images",
            fs=f"gs://{gcs.new_bucket()}",
            google_service_account=gcs.service_account_path,
            allow_http=True,
        )
    )
    storages.register_backend(ObstoreBackend(key="temp", fs=f"file://{tmp_path}/uploads/"))
    for key in ("documents", "images", "temp"):
        await FileObject(backend=key, filename="x", content=key.encode()).save_async()
    for key in ("documents", "images", "temp"):
        assert await FileObject(backend=key, filename="x").get_content_async() == key.encode()


@pytest.fixture
def memory_storage() -> Iterator[ObstoreBackend]:
    """The guide's own fixture ends with ``storages._backends``, which does not exist."""
    backend = ObstoreBackend(key="test", fs="memory://")
    storages.register_backend(backend)
    yield backend
    storages.unregister_backend("test")


@pytest.fixture
async def sample_file(memory_storage: ObstoreBackend) -> FileObject:
    file_obj = FileObject(backend="test", filename="sample.txt", content_type="text/plain", content=b"Sample content")
    await file_obj.save_async()
    return file_obj


@covers("Testing", "Memory Backend")
async def test_file_upload(memory_storage: ObstoreBackend) -> None:
    file_obj = FileObject(backend="test", filename="test.txt", content=b"Test content")
    await file_obj.save_async()
    assert await file_obj.get_content_async() == b"Test content"


@covers("Test Fixtures")
async def test_file_operations(sample_file: FileObject) -> None:
    assert await sample_file.get_content_async() == b"Sample content"
    await sample_file.delete_async()


@covers("Concurrent Operations")
async def test_concurrent_operations(minio: dict[str, Any]) -> None:
    backend = ObstoreBackend(key="s3", **minio)
    storages.register_backend(backend)
    files = [FileObject(backend="s3", filename=f"file{i}.txt", content=b"data") for i in range(100)]
    await asyncio.gather(*[f.save_async() for f in files])
    assert len([meta async for meta in backend.list_async()]) == 100


@covers("Common Issues", "LocalStore Metadata Support")
def test_local_metadata_is_ignored(tmp_path: Path) -> None:
    storages.register_backend(ObstoreBackend(key="local", fs=tmp_path))
    file = FileObject(
        backend="local", filename="test.txt", content_type="text/plain", metadata={"key": "value"}, content=b"data"
    )
    file.save()
    assert file.get_content() == b"data"
    assert file.metadata == {"key": "value"}


@covers("Signed URL Support")
async def test_local_cannot_sign(tmp_path: Path) -> None:
    storages.register_backend(ObstoreBackend(key="local", fs=tmp_path))
    with pytest.raises(NotImplementedError):
        await FileObject(backend="local", filename="a").sign_async(expires_in=3600)


@covers("Endpoint Format")
async def test_endpoint_format(minio: dict[str, Any]) -> None:
    await _works(ObstoreBackend(key="s3", **{**minio, "fs": minio["fs"].rstrip("/")}))
    with pytest.raises(ConfigurationError, match="has no scheme; write https://localhost:9000"):
        ObstoreBackend(key="s3", **{**minio, "aws_endpoint": "localhost:9000"})


@covers("Migration from FSSpec", "Configuration Changes")
async def test_migration_from_fsspec(rclone_s3: S3Server, minio: dict[str, Any]) -> None:
    bucket = minio["fs"].removeprefix("s3://").rstrip("/")
    before = FSSpecBackend(key="s3", fs=rclone_s3.fs(), prefix=bucket)
    FileObject(backend=before, filename="a/old.txt").save(b"saved by fsspec")
    after = ObstoreBackend(key="s3", **minio)
    assert await FileObject(backend=after, filename="a/old.txt").get_content_async() == b"saved by fsspec"
    translated = ObstoreBackend.from_fsspec(before)
    assert await FileObject(backend=translated, filename="a/old.txt").get_content_async() == b"saved by fsspec"
