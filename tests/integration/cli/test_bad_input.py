"""What bad input gets: one clear line, exit code 2, and nothing was changed."""

from __future__ import annotations

import re
import textwrap

import psycopg
import pytest
import sqlalchemy as sa

from tests.support.cli.project import APPLICATION, Project, one_line_of
from tests.support.servers import S3Server

RUN = ("run", "--app", "app", "--from", "old", "--to", "new")


def refused(project: Project, *arguments: str, says: str, code: int = 2) -> None:
    before = project.snapshot()
    ended = project(*arguments)
    line = one_line_of(ended)
    assert re.search(says, line), line
    assert ended.returncode == code, line
    assert project.snapshot() == before, "something was changed"


@pytest.mark.parametrize("arguments", [(), ("cutover",), ("journal",)])
def test_a_group_without_a_command_prints_its_help(project: Project, arguments: tuple[str, ...]) -> None:
    ended = project(*arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\nCommands:\n" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run",), r"name the application: --app module\[:name\], or --database URL.*migrate-storage init"),
        (("run", "--app", "app"), r"name the backend to leave: --from KEY; there is new \(obstore\), old \(fsspec\)"),
        (("run", "--app", "app", "--from", "odl", "--to", "new"), r"--from odl: no backend has this key: did you mean 'old'\?"),
        (("run", "--app", "app", "--from", "old", "--to", "zzz"), r"--to zzz: no backend has this key: there is new"),
        (("run", "--app", "app", "--form", "old"), r"No such option '--form'"),
        (("rum",), r"No such command 'rum'"),
        (("plan", *RUN[1:-2], "--manifest", "m"), r"--manifest lists what is copied, and without --to KEY nothing is"),
        (("plan", *RUN[1:], "--manifest", "m", "--limit", "3"), r"--manifest goes without --limit"),
        (("plan", *RUN[1:], "--manifest", "no/m"), r"the manifest no/m cannot be written: is its folder there"),
        (("plan", *RUN[1:], "--manifest", "m", "--manifest-format", "s3-batch"), r"does not fit 'old': its program copies from s3, not file"),
        ((*RUN, "--limit", "0"), r"--limit must be at least 1"),
        ((*RUN, "--limit", "x"), r"'x' is not a valid integer"),
        ((*RUN, "--concurrency", "0"), r"--concurrency must be at least 1"),
        ((*RUN, "--max-memory", "lots"), r"'lots' is no number of bytes, such as 64MiB"),
        ((*RUN, "--max-memory", "1k"), r"--max-memory must be at least"),
        ((*RUN, "--copy-only", "--keep-rows"), r"--copy-only and --keep-rows exclude each other"),
        ((*RUN, "--columns", "document.fiel"), r"column 'document\.fiel': the table has no such column; it has .*; models declare document\.file"),
        ((*RUN, "--where", "no_such_column = 1"), r"no_such_column"),
        ((*RUN, "--where", "this is not SQL"), r"--where"),
        ((*RUN, "--config", "none.toml"), r"--config none\.toml: No such file"),
        ((*RUN, "--database", "sqlite:////no/such/folder/x.db"), r"sqlite:////no/such/folder/x\.db.*unable to open"),
        ((*RUN, "--database", "postgresql+psycopg://me:hunter2@127.0.0.1:9/db"), r"me:\*\*\*@127\.0\.0\.1.*refused"),
        ((*RUN, "--database", "nonsense"), r"the database URL cannot be parsed"),
        ((*RUN, "--journal", "sqlite:////no/such/folder/x.db"), r"unable to open"),
        ((*RUN, "--bind-key", "other"), r"--bind-key other: --app app has only"),
        (("run", "--app", "nowhere", "--from", "old"), r"there is no module 'nowhere'"),
        (("report", "--app", "app"), r"no run is journaled"),
        (("status", "--app", "app", "zzz"), r"no run is journaled"),
        (("init", "--database", "nonsense"), r"the URL cannot be parsed"),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly(project: Project, arguments: tuple[str, ...], says: str) -> None:
    refused(project, *arguments, says=says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('app = "app"\nfrom = old\n', r"migrate-storage\.toml: line 2: not TOML"),
        ('app = "app"\nform = "old"\n', r"migrate-storage\.toml: line 2: 'form' is no option: did you mean 'from'\?"),
        ('app = "app"\nfrom = "old"\nconcurrency = "many"\n', r"'many' is not a valid integer"),
        ('app = "app"\ndatabase = "${NOT_SET}"\n', r"line 2: database: the environment variable 'NOT_SET' is not set"),
        ('database = "sqlite:///app.db"\nfrom = "old"\n', r"--database without --app needs \[source\]"),
        (
            'database = "sqlite:///app.db"\ncolumns = ["document.nothing"]\n[source]\nkey = "old"\nfs = "file"\n',
            r"column 'document\.nothing': the table has no such column; it has id, title, file",
        ),
    ],
)
def test_what_the_configuration_says_wrongly(project: Project, text: str, says: str) -> None:
    project.write(text, "migrate-storage.toml")
    refused(project, "run", says=says)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "raise RuntimeError('vault at https://me:hunter2@host is sealed')",
            r"importing it raised RuntimeError: vault",
        ),
        ("import no_such_library", r"importing it needs 'no_such_library', which is not installed"),
        (
            "import sys; sys.modules['s3fs'] = None; import s3fs",
            r"needs 's3fs', .* here: pip install 'migrate-storage\[s3fs\]'$",
        ),
        (
            "import sys; sys.modules['s3fs'] = None; import fsspec; fsspec.filesystem('s3')",
            r"importing it raised ImportError: Install s3fs .*: pip install 'migrate-storage\[s3fs\]' \(\S+\.py, line 1\)$",
        ),
        (
            "\nfrom pydantic import BaseModel\nclass S(BaseModel):\n  key: str\n  size: int\nS(size='PL4NTED')",
            r"errors for S; key \(Field required\); size \(Input [^;]*\); a settings file [^;]* \(\S+\.py, line 6\)$",
        ),
        ("def (", r"importing it raised SyntaxError"),
        ("import sqlalchemy as sa\nengine = sa.create_engine('sqlite://')", r"no StoredObject column"),
    ],
)
def test_an_application_that_cannot_be_used(empty: Project, source: str, says: str) -> None:
    empty.write(source)
    refused(empty, *RUN, says=says)


def test_the_traceback_of_the_application(empty: Project) -> None:
    empty.write("def connect(password='PL4NTED'):\n    raise OSError('sealed')\nconnect()")
    assert "Traceback" not in empty(*RUN).stderr
    ended = empty(*RUN, "--traceback")
    assert ended.returncode == 2
    assert "in connect\n    raise OSError('sealed')" in ended.stderr
    assert "PL4NTED" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("migrate-storage: --app ")


def test_a_key_that_the_lifespan_may_register(project: Project) -> None:
    refused(
        project,
        *RUN[:-1],
        "other",
        says=r"there is .*; if the application registers it in its lifespan, add --lifespan$",
    )


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_journal_that_would_end_with_the_process(project: Project, url: str) -> None:
    refused(project, *RUN, "--journal", url, says=r"a journal in memory ends with the process.*sqlite:///journal\.db")
    refused(project, "sync", "./old", "./new", "--journal", url, says=r"a journal in memory ends with the process")


def test_values_that_are_not_json(project: Project) -> None:
    refused(project, *RUN, "--database", "sqlite:///app.db", "--where", "1 = 1 AND (", says="--where")
    project.write(
        """
        database = "sqlite:///app.db"
        columns = ["document.title"]
        [source]
        key = "old"
        fs = "file"
        [destination]
        key = "new"
        fs = "file:///tmp"
        """,
        "migrate-storage.toml",
    )
    refused(project, "run", says=r"document\.title has no JSON in any of the first \d+ rows")


S3_APPLICATION = APPLICATION.replace(
    """storages.register_backend(ObstoreBackend(key="new", fs=f"file://{HERE}/new"))""",
    """storages.register_backend(ObstoreBackend(key="new", fs="s3://" + os.environ["BUCKET"],
        endpoint=os.environ["ENDPOINT"], region="us-east-1", access_key_id=os.environ["KEY"],
        secret_access_key=os.environ["SECRET"], virtual_hosted_style_request=False,
        client_options={"allow_http": True}))""",
)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"BUCKET": "no-such-bucket-here"}, r"no-such-bucket-here.*create the bucket or correct its name"),
        ({"SECRET": "hunter2"}, r"check the credentials"),
        ({"ENDPOINT": "http://127.0.0.1:9"}, r"check the endpoint"),
    ],
)
def test_a_destination_that_cannot_be_used(
    project: Project, rclone_s3: S3Server, wrong: dict[str, str], says: str
) -> None:
    right = {
        "BUCKET": rclone_s3.new_bucket(),
        "ENDPOINT": rclone_s3.endpoint,
        "KEY": rclone_s3.key,
        "SECRET": rclone_s3.secret,
    }
    project.environment = right | wrong
    project.write(S3_APPLICATION)
    refused(project, *RUN, says=says)


def test_a_source_bucket_that_is_missing_is_not_taken_for_missing_objects(
    project: Project, rclone_s3: S3Server
) -> None:
    project.write(
        textwrap.dedent(APPLICATION).replace(
            """FSSpecBackend(key="old", fs=fsspec.filesystem("file", auto_mkdir=True), prefix=str(HERE / "old"))""",
            f"""FSSpecBackend(
        key="old", fs=fsspec.filesystem("s3", **{rclone_s3.fs_options()!r}), prefix="no-such-bucket-here")""",
        )
    )
    refused(project, *RUN, says=r"no-such-bucket-here.*create the bucket or correct its name")


def test_no_right_to_create_the_journals_tables(project: Project, postgres_url: str) -> None:
    role = "reader_" + postgres_url.rpartition("/")[2]
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{role}" LOGIN'.encode())
        try:
            project.environment = {"APP_DATABASE": postgres_url}
            project.fill(3)
            connection.execute(f'GRANT SELECT, UPDATE ON document TO "{role}"'.encode())
            url = sa.make_url(postgres_url).set(username=role)
            project.environment = {"APP_DATABASE": url.render_as_string(hide_password=False)}
            refused(project, *RUN, says=r"cannot create the journal's tables.*journal sql.*--journal")
            with sa.create_engine(postgres_url).connect() as reader:
                assert sa.inspect(reader).get_table_names() == ["document"]
        finally:
            connection.execute(f'DROP OWNED BY "{role}"'.encode())
            connection.execute(f'DROP ROLE "{role}"'.encode())
