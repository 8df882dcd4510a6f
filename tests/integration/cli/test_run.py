"""`run` and `plan` as a user types them, on an application on disk."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.cli.project import APPLICATION, ROOT, Project, one_line_of
from tests.support.servers import S3Server

RUN = ("run", "--app", "app", "--from", "old", "--to", "new", "--settle-time", "0")
PLAN = ("plan", *RUN[1:])


def told(ended: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_a_run_moves_everything_and_a_second_one_finds_nothing_to_do(project: Project) -> None:
    ended = project(*RUN)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("Finished: no row names 'old' any more.")
    assert "10 repointed" in ended.stdout
    assert re.search(r"^Next command\n  \S.*", ended.stdout, re.MULTILINE)
    assert "Run " in ended.stderr
    assert "100%, 10 objects" in ended.stderr
    assert project.keys() == {"new": 10}
    for number in range(10):
        old, new = (project.directory / side / f"d/{number}.txt" for side in ("old", "new"))
        assert new.read_bytes() == old.read_bytes()
    again = project(*RUN)
    assert again.returncode == 0
    assert again.stdout.startswith("Finished, nothing was left to do: no row names 'old' any more.")
    assert again.stdout.splitlines()[0].endswith("`run --recheck` checks again what earlier runs copied.")


def test_a_plan_says_the_same_counts_and_changes_nothing(project: Project) -> None:
    before = project.snapshot()
    ended = project(*PLAN)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("A plan, nothing was changed: 10 objects to handle.")
    assert project.snapshot() == before
    dry = project(*RUN, "--dry-run")
    assert dry.stdout.splitlines()[0] == ended.stdout.splitlines()[0]
    assert project.snapshot() == before


def test_other_names_from_the_command_line_and_from_the_configuration_file(project: Project) -> None:
    rule = r"d/(.*)\.txt=>files/\1 of 10.txt"
    ended = project(*RUN, "--rename", rule, "--limit", "3")
    assert ended.returncode == 4, ended.stderr
    assert f"--rename '{rule}'" in ended.stdout.splitlines()[-1], "the next command repeats it"
    assert (
        "10 of 10 files that rows name get another name, such as 'files/0 of 10.txt' for 'd/0.txt' [rename]"
        in ended.stdout
    )
    for command in (RUN, ("doctor", *RUN[1:5], "--to", "new")):
        assert f"named its copies by --rename '{rule}'" in one_line_of(project(*command)), "without a rule too"
    (project.directory / "migrate-storage.toml").write_text(
        'app = "app"\nfrom = "old"\nto = "new"\nrename = "layout:name"\n'
    )
    (project.directory / "layout.py").write_text("def name(old):\n    return old.upper()\n")
    message = one_line_of(project("run"))
    assert f"named its copies by --rename '{rule}'" in message
    (project.directory / "migrate-storage.toml").write_text(
        f"app = 'app'\nfrom = 'old'\nto = 'new'\nrename = '{rule}'\n"
    )
    assert "rename" in project("doctor").stdout
    assert project("run", "--settle-time", "0").returncode == 0
    assert project.keys() == {"new": 10}
    assert {path.name for path in (project.directory / "new/files").iterdir()} == {f"{n} of 10.txt" for n in range(10)}
    told_runs = told(project("runs", "--json"))
    assert {each["renaming"] for each in told_runs} == {rule}
    assert project("revert", "--settle-time", "0").returncode == 0
    assert project.keys() == {"old": 10}


@pytest.mark.parametrize("rule", ["d", "(=>x", r"d=>\7", "nothing:name", "layout:none", "(.*)=>", "(.*)=>x"])
def test_a_rule_that_cannot_be_followed_is_one_line(project: Project, rule: str) -> None:
    (project.directory / "layout.py").write_text("password = 'hunter2'\n")
    before = project.snapshot()
    for command in (RUN, PLAN, ("doctor", *RUN[1:5], "--to", "new")):
        ended = project(*command, "--rename", rule)
        assert ended.returncode == 2
        assert "--rename" in one_line_of(ended)
    assert project.snapshot() == before


def test_json_speaks_one_object_a_line_and_ends_with_the_report(project: Project) -> None:
    ended = project(*RUN, "--json")
    events = told(ended)
    assert ended.stderr == ""
    assert [each["event"] for each in events if each["event"] != "diagnostic"][:2] == ["run_started", "pass_started"]
    assert sum(each["event"] == "object_finished" for each in events) == 10
    assert events[-1]["event"] == "report"
    assert events[-1]["exit_code"] == ended.returncode == 0
    assert events[-1]["counts"] == {"repointed": 10}
    later = told(project("report", "--app", "app", "--json"))
    del later[0]["figures"]
    assert later[0] == {name: value for name, value in events[-1].items() if name != "event"}


def test_quiet_says_nothing_when_all_is_well_and_the_report_when_not(project: Project) -> None:
    (project.directory / "old/d/3.txt").unlink()
    ended = project(*RUN, "--quiet")
    assert ended.returncode == 1
    assert "missing" in ended.stdout
    assert "old:d/3.txt" in ended.stdout
    assert ended.stderr == ""
    with sa.create_engine(f"sqlite:///{project.directory}/app.db").begin() as connection:
        connection.exec_driver_sql("DELETE FROM document WHERE title = '3'")
    ended = project(*RUN, "--quiet")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_limit_stops_with_code_4_and_the_same_command_goes_on(project: Project) -> None:
    ended = project(*RUN, "--limit", "3")
    assert ended.returncode == 4, ended.stderr
    assert ended.stdout.startswith("Stopped at the limit that you set. 7 rows still name 'old'.")
    assert project.keys() == {"new": 3, "old": 7}
    assert project(*RUN).returncode == 0
    assert project.keys() == {"new": 10}


def test_flag_wins_over_environment_over_file_over_default(project: Project) -> None:
    project.write('app = "app"\nfrom = "old"\nto = "new"\nlimit = 2\nsettle-time = 0', "migrate-storage.toml")
    assert project("run").returncode == 4
    assert project.keys()["new"] == 2
    project.environment = {"MIGRATE_STORAGE_LIMIT": "3"}
    assert project("run").returncode == 4
    assert project.keys()["new"] == 5
    assert project("run", "--limit", "4").returncode == 4
    assert project.keys()["new"] == 9


def test_the_database_door_needs_no_application_code(project: Project) -> None:
    project.write(
        f"""
        database = "sqlite:///{project.directory}/app.db"
        columns = ["document.file"]
        settle-time = 0
        [source]
        key = "old"
        fs = "file"
        prefix = "${{HERE}}/old"
        [destination]
        key = "new"
        fs = "file://${{HERE}}/new"
        """,
        "migrate-storage.toml",
    )
    project.environment = {"HERE": str(project.directory)}
    (project.directory / "app.py").unlink()
    ended = project("run")
    assert ended.returncode == 0, ended.stderr
    assert project.keys() == {"new": 10}


def test_the_database_door_reaches_real_servers_with_secrets_from_environment_and_file(
    project: Project, rclone_s3: S3Server, postgres_url: str
) -> None:
    before, after = rclone_s3.new_bucket(), rclone_s3.new_bucket()
    project.environment = {"APP_DATABASE": postgres_url}
    project.fill(5)
    for number in range(5):
        rclone_s3.store(before).put(f"up/d/{number}.txt", (project.directory / f"old/d/{number}.txt").read_bytes())
    (project.directory / "secret").write_text(f"{rclone_s3.secret}\n")
    (project.directory / "app.py").unlink()
    project.environment = {"APP_DATABASE": postgres_url, "S3_KEY": rclone_s3.key, "HERE": str(project.directory)}
    project.write(
        f"""
        database = "${{APP_DATABASE}}"
        columns = ["document.file"]
        settle-time = 0
        [source]
        key = "old"
        fs = "s3"
        prefix = "{before}/up"
        [source.options]
        key = "${{S3_KEY}}"
        secret = "${{file:{project.directory}/secret}}"
        endpoint_url = "{rclone_s3.endpoint}"
        client_kwargs = {{ region_name = "{rclone_s3.region}" }}
        [destination]
        key = "new"
        fs = "s3://{after}/moved"
        [destination.options]
        access_key_id = "${{S3_KEY}}"
        secret_access_key = "${{file:{project.directory}/secret}}"
        endpoint = "{rclone_s3.endpoint}"
        region = "{rclone_s3.region}"
        virtual_hosted_style_request = false
        client_options = {{ allow_http = true }}
        """,
        "migrate-storage.toml",
    )
    ended = project("run")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert rclone_s3.secret not in ended.stdout + ended.stderr
    assert rclone_s3.store(after).get("moved/d/3.txt").bytes().to_bytes() == b"3 ".ljust(10, b".")
    with sa.create_engine(postgres_url).connect() as connection:
        files = connection.exec_driver_sql("SELECT file FROM document ORDER BY id").scalars().all()
    assert [(file["backend"], file["filename"]) for file in files] == [
        ("new", f"d/{number}.txt") for number in range(5)
    ]


ASYNC = """
    import contextlib
    from litestar import Litestar
    from advanced_alchemy.extensions.litestar import SQLAlchemyAsyncConfig, SQLAlchemyPlugin

    new = storages.get_backend("new")
    storages.unregister_backend("new")

    @contextlib.asynccontextmanager
    async def open_stores(_):
        storages.register_backend(new)
        yield
        storages.unregister_backend("new")

    config = SQLAlchemyAsyncConfig(connection_string=f"sqlite+aiosqlite:///{HERE}/app.db")
    site = Litestar(plugins=[SQLAlchemyPlugin(config=config)], lifespan=[open_stores])
"""


def test_a_litestar_application_with_an_async_engine_and_stores_of_its_lifespan(project: Project) -> None:
    project.write(textwrap.dedent(APPLICATION) + textwrap.dedent(ASYNC))
    door = ("run", "--app", "app:site", "--from", "old", "--to", "new", "--settle-time", "0")
    assert "--to new: no backend has this key" in project(*door).stderr
    ended = project(*door, "--lifespan")
    assert ended.returncode == 0, ended.stderr
    assert project.keys() == {"new": 10}
    assert "--lifespan" in ended.stdout.splitlines()[-1]


def test_a_password_on_the_command_line_works_and_is_warned_about(project: Project) -> None:
    url = "postgresql+psycopg://me:hunter2@127.0.0.1:9/db"
    ended = project(*RUN, "--database", url)
    assert "warning: a password in --database can be read by everybody on this machine" in ended.stderr
    assert "hunter2" not in ended.stderr
    project.environment = {"MIGRATE_STORAGE_DATABASE": url}
    assert "warning" not in project(*RUN).stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run_and_the_same_command_goes_on(
    project: Project, number: signal.Signals, code: int
) -> None:
    project.fill(1500, 2000)
    # Objects are told when a listing has shown many of them as they are to be, so they must not all be done by then.
    process = project.start(*RUN, "--json", "--concurrency", "2", "--max-requests-per-second", "500")
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "object_finished":
            break
    process.send_signal(number)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    report = json.loads(rest.splitlines()[-1])
    assert (report["event"], report["state"]) == ("report", "interrupted")
    assert "Stopping" in err
    assert "Traceback" not in err
    assert 0 < project.keys()["old"] < 1510
    ended = project(*RUN, "--json")
    assert ended.returncode == 0
    assert told(ended)[-1]["resumed"] is True
    assert project.keys() == {"new": 1510}


def test_on_a_terminal_the_display_is_live_and_a_key_cannot_speak_to_it(project: Project) -> None:
    with sa.create_engine(f"sqlite:///{project.directory}/app.db").begin() as connection:
        connection.exec_driver_sql(
            "UPDATE document SET file = json_set(file, '$.filename', 'd/' || char(27) || ']0;owned' || char(7)) WHERE title = '3'"
        )
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "migrate_storage", *RUN],
        cwd=project.directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "120"},
        stdout=follower,
        stderr=follower,
        stdin=subprocess.DEVNULL,
    )
    os.close(follower)
    seen = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:  # Linux's word for "the other end is closed"
            break
        if not chunk:
            break
        seen += chunk
    os.close(leader)
    assert process.wait(timeout=60) == 1, seen
    text = seen.decode()
    assert "10 objects" in text
    assert "1 problem" in text
    assert "\x1b]0;owned" not in text
    assert r"\x1b]0;owned\x07" in text


def test_a_reader_that_leaves_early_stops_the_run_and_the_same_command_goes_on(project: Project) -> None:
    project.fill(500)
    process = project.start(*RUN, "--json", "--concurrency", "1")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), err) == (130, "")
    assert project.keys()["old"] > 0
    assert project("status", "--app", "app").stdout.split()[1] == "interrupted"
    assert project(*RUN).returncode == 0


def test_recheck_copies_again_what_was_lost_since(project: Project) -> None:
    move = ("run", "--app", "app", "--from", "old", "--to", "new", "--settle-time", "0")
    assert project(*move).returncode == 0
    lost, replaced = (project.directory / side / "d" / f"{n}.txt" for n, side in enumerate(("new", "old")))
    lost.unlink()
    replaced.write_bytes(b"replaced after the run")
    found = project(*move, "--recheck")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "checked again (2 copied again, 0 rows repaired)" in found.stdout.splitlines()[0]
    assert (project.directory / "new" / "d" / "1.txt").read_bytes() == b"replaced after the run"
    assert lost.exists()
    report = json.loads(project(*move, "--recheck", "--json").stdout.splitlines()[-1])
    assert report["rechecked"]["copied_again"] == 0
    for wrong in (("--dry-run",), ("--shard", "1/2"), ("--workers", "2")):
        refused = project(*move, "--recheck", *wrong)
        assert (refused.returncode, "--recheck" in one_line_of(refused)) == (2, True), refused.stderr
