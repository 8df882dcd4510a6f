"""Recognisable secrets in every option and variable; every command, format and failure; nothing of them comes out."""

import json
import subprocess

import pytest

from migrate_storage.cli import cli
from tests.support.cli.commands import LEAVES
from tests.support.cli.project import Project

MARK = "pl4nt3d"
#: Closed: every command that connects fails, and says so.
NOWHERE = "http://127.0.0.1:1"

ENVIRONMENT = {
    name: f"{MARK}-{name.lower()}"
    for name in (
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_TOKEN", "AZURE_STORAGE_CLIENT_SECRET"),
        *("GOOGLE_BEARER_TOKEN", "GOOGLE_SERVICE_ACCOUNT_KEY", "APP_SECRET", "MIGRATE_STORAGE_SECRET"),
    )
}

APPLICATION = """
    import base64, os
    from pathlib import Path
    import fsspec, s3fs
    import sqlalchemy as sa
    from adlfs import AzureBlobFileSystem
    from advanced_alchemy.config import SQLAlchemySyncConfig
    from advanced_alchemy.types.file_object import FileObject, StoredObject, storages
    from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.http import HTTPFileSystem
    from migrate_storage.backend import ObstoreBackend
    from migrate_storage.backend.fsspec_compat import FSSpecBackend as Shim
    from sqlalchemy.orm import DeclarativeBase, mapped_column

    HERE = Path(__file__).parent
    KEY = base64.b64encode(b"MARK-azure-key").decode()

    class SFTP(fsspec.AbstractFileSystem):
        protocol = "sftp"

    def register(key, fs, prefix="bucket/up"):
        storages.register_backend(FSSpecBackend(key=key, fs=fs, prefix=prefix))

    once = {"config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 1}}
    register("s3", s3fs.S3FileSystem(key="MARK-key", secret="MARK-secret", token="MARK-token", endpoint_url="NOWHERE", **once))
    register("userinfo", s3fs.S3FileSystem(key="MARK-key", secret="MARK-secret", endpoint_url="http://MARK-user:MARK-password@127.0.0.1:1", **once))
    register("client", s3fs.S3FileSystem(
        client_kwargs={"aws_access_key_id": "MARK-ckey", "aws_secret_access_key": "MARK-csecret", "endpoint_url": "NOWHERE"},
        config_kwargs={"proxies": {"http": "http://u:MARK-proxy@127.0.0.1:1"}, "user_agent": "MARK-agent"},
        s3_additional_kwargs={"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "MARK-sse" * 4, "Metadata": {"x": "MARK-metadata"}}))
    register("unknown", s3fs.S3FileSystem(key="MARK-key", secret="MARK-secret", endpoint_url="NOWHERE", frobnicate="MARK-unknown", **once))
    register("half", s3fs.S3FileSystem(secret="MARK-secret", endpoint_url="NOWHERE"))
    register("conflict", s3fs.S3FileSystem(key="MARK-key", client_kwargs={"aws_access_key_id": "MARK-other"}))
    register("dir", DirFileSystem("bucket", s3fs.S3FileSystem(key="MARK-key", secret="MARK-secret", endpoint_url="NOWHERE", **once)))
    register("azure", AzureBlobFileSystem(account_name="acct", account_key=KEY))
    register("string", AzureBlobFileSystem(connection_string=f"AccountName=acct;AccountKey={KEY};BlobEndpoint=NOWHERE/acct"))
    register("sas", AzureBlobFileSystem(account_name="acct", sas_token="sv=1&sig=MARK-sas"))
    register("principal", AzureBlobFileSystem(account_name="acct", client_id="MARK-id", client_secret="MARK-principal", tenant_id="t" * 36))
    register("http", HTTPFileSystem(headers={"Authorization": "Bearer MARK-header"}), "http://127.0.0.1:1/base")
    register("sftp", SFTP(host="h", username="u", password="MARK-sftp"), "/up")
    storages.register_backend(Shim("shim", "s3", "bucket", username="MARK-key", password="MARK-secret", endpoint_url="NOWHERE"))
    storages.register_backend(ObstoreBackend(key="new", fs="s3://bucket/new", aws_endpoint="NOWHERE",
        aws_access_key_id="MARK-key", aws_secret_access_key="MARK-secret", retry_config={"max_retries": 0}))

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id = mapped_column(sa.Integer, primary_key=True)
        file = mapped_column(StoredObject(backend="s3"))

    database = SQLAlchemySyncConfig(connection_string=f"sqlite:///{HERE}/mine.db")

    if __name__ == "__main__":
        Base.metadata.create_all(database.get_engine())
        with database.get_engine().begin() as connection:
            for key in ("s3", "userinfo", "client", "unknown", "dir", "string", "http", "sftp", "shim", "new", "gone"):
                value = '{"backend": "%s", "filename": "a.txt"}' % key
                connection.execute(sa.text("INSERT INTO document (file) VALUES (:value)"), {"value": value})
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """One application for all tests: what one command leaves behind, the next one could say."""
    directory = tmp_path_factory.mktemp("planted")
    (directory / "logs").mkdir()
    project = Project(
        directory, {**ENVIRONMENT, "TMPDIR": str(directory / "logs"), "AWS_EC2_METADATA_DISABLED": "true"}
    )
    project.write(APPLICATION.replace("MARK", MARK).replace("NOWHERE", NOWHERE))
    process = project.process("app.py")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return project


def clean(project, ended: subprocess.CompletedProcess[str]) -> None:
    """Neither the streams nor any file but the application's own source holds a secret, plain or encoded."""
    said = {"stdout": ended.stdout, "stderr": ended.stderr}
    for path in project.directory.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            said[str(path)] = path.read_bytes().decode("latin-1")
    for where, text in said.items():
        for secret in (MARK, "cGw0bnQzZC"):
            found = text.find(secret)
            assert found < 0, f"{where}: {text[max(0, found - 200) : found + 60]}"
    assert "Traceback" not in ended.stdout + ended.stderr


TRANSLATING = [
    ("translate",),
    ("translate", "--format", "toml"),
    ("translate", "--json"),
    ("translate", "--from", "s3", "--check"),
    ("translate", "--from", "http", "--check"),
    ("translate", "--from", "half"),
    ("inspect",),
    ("inspect", "--json"),
]

#: Runs _commands one after the other in one process, and keeps what each says, Rust's side included.
DRIVER = """
import json, os, sys
from pathlib import Path
from migrate_storage.__main__ import main

said = []
for number, command in enumerate(json.loads(Path("commands.json").read_text())):
    kept = [os.dup(1), os.dup(2)]
    files = [open(f"logs/{number}.{name}", "wb") for name in ("out", "err")]
    for descriptor, file in zip((1, 2), files):
        os.dup2(file.fileno(), descriptor)
    code = main(command)
    sys.stdout.flush(), sys.stderr.flush()
    for descriptor, old in zip((1, 2), kept):
        os.dup2(old, descriptor)
    said.append([code, *(Path(file.name).read_text() for file in files)])
Path("said.json").write_text(json.dumps(said))
"""

CONVERTING = [("convert", "one.py"), ("convert", "one.py", "--json"), ("convert", "one.py", "--write")]


@pytest.mark.parametrize("command", CONVERTING, ids=" ".join)
def test_converting(planted, command):
    planted.write(
        f"""
        import fsspec
        from advanced_alchemy.types.file_object import storages
        from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

        PASSWORD = "{MARK}-near"
        fs = fsspec.filesystem("s3", key="{MARK}-key", secret='{MARK}-secret', client_kwargs={{"region_name": "eu-west-1"}})
        storages.register_backend(FSSpecBackend(key="a", fs=fs, prefix="bucket"))
        storages.register_backend(FSSpecBackend(key="b", fs=fsspec.filesystem("sftp", password="{MARK}-left"), prefix="/x"))
        """,
        "one.py",
    )
    ended = planted(*command)
    assert ended.returncode == 1
    clean(planted, ended)


#: The other _commands with what they need: some fail, all of them speak.
ARGUMENTS = {
    "migrate-storage demo": None,  # an application of its own
    "migrate-storage init": ("--force",),
    "migrate-storage convert": None,
    "migrate-storage translate": None,
    "migrate-storage inspect": None,
    "migrate-storage doctor": ("--from", "s3", "--to", "new", "--max-attempts", "1"),
    "migrate-storage plan": ("--from", "s3", "--to", "new", "--max-attempts", "1"),
    "migrate-storage run": ("--from", "client", "--to", "new", "--max-attempts", "1"),
    "migrate-storage explain": ("document.file", "1"),
}
OTHERS = [name for name in LEAVES if ARGUMENTS.get(name, ()) is not None]


def _commands() -> list[list[str]]:
    found = [[*command, "--app", "app"] for command in TRANSLATING]
    for name in OTHERS:
        arguments = [*name.split()[1:], *ARGUMENTS.get(name, ())]
        known = {option for parameter in LEAVES[name].params for option in parameter.opts}
        if "--app" in known:
            arguments += ["--app", "app"]
        found += [arguments, [*arguments, "--json"]] if "--json" in known else [arguments]
    return found


def test_every_command(planted):
    planted.write(DRIVER, "drive.py")
    (planted.directory / "commands.json").write_text(json.dumps(_commands()))
    process = planted.process("drive.py")
    streams = process.communicate(timeout=280)
    assert process.returncode == 0, streams
    said = json.loads((planted.directory / "said.json").read_text())
    for command, (code, output, errors) in zip(_commands(), said, strict=True):
        assert code in (*range(5), 130), (command, code, errors)
        assert output or errors or "--json" in command, command
        clean(planted, subprocess.CompletedProcess(command, code, output, errors))


def test_every_command_is_here():
    assert cli.commands
    assert set(ARGUMENTS) <= set(LEAVES)


@pytest.mark.parametrize(
    "broken",
    [
        "raise RuntimeError('cannot log in with password=MARK-import')",
        "storages.register_backend(FSSpecBackend(key='x', fs='s3', secret='MARK-typed', no_such=1, key2='MARK'))\nnonsense",
        "FSSpecBackend(key='x', fs='nowhere://MARK-protocol'.split(':')[0], password='MARK-password')",
        "storages.register_backend(ObstoreBackend(key='x', fs='s3://b/', aws_access_key_id='MARK-half'))",
        "storages.register_backend(ObstoreBackend(key='x', fs='s3://b/', aws_secret_acces_key='MARK-misspelt'))",
        "storages.register_backend(ObstoreBackend(key='x', fs='az://c/', azure_storage_connection_string='AccountKey=MARK-string'))",
        "storages.register_backend(ObstoreBackend(key='x', fs='s3://u:MARK-url@b/'))",
    ],
)
def test_failing_applications(planted, broken):
    source = APPLICATION.replace("NOWHERE", NOWHERE) + "\n    " + broken.replace("\n", "\n    ")
    planted.write(source.replace("MARK", MARK), "failing.py")
    ended = planted("translate", "--app", "failing")
    assert ended.returncode != 0
    clean(planted, ended)


def test_an_unforeseen_error_and_its_log(planted):
    """A filesystem that fails at being looked at, with its options in its message and in its source lines."""
    source = APPLICATION.replace("NOWHERE", NOWHERE).replace("MARK", MARK)
    source += f"""
    class Broken(fsspec.AbstractFileSystem):
        protocol = "broken"
        def __getattribute__(self, name):
            if name == "__dict__" or name == "storage_options" and storages.is_registered("broken"):
                raise RuntimeError("password={MARK}-message for https://u:{MARK}-url@host")
            return super().__getattribute__(name)

    storages.register_backend(FSSpecBackend(key="broken", fs=Broken(), prefix="x"))
    """
    planted.write(source, "broken.py")
    ended = planted("inspect", "--app", "broken")
    assert ended.returncode != 0
    clean(planted, ended)
