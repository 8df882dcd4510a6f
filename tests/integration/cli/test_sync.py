"""``sync`` and ``check`` as they are typed: their journal, their reports, and the commands that watch them."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from migrate_storage.cli import cli
from tests.support.sync.trees import files, write


@pytest.fixture
def type_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Type a command in a folder that holds two trees."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for number in range(5):
        write(tmp_path / "a" / f"{number}.txt", b"1")
    write(tmp_path / "b" / "more.txt", b"1", 1_000_000_000)

    def run(*words: str, **environment: str) -> Result:
        return CliRunner().invoke(cli, words, env=environment, catch_exceptions=False, standalone_mode=True)

    return run


def test_without_an_application_the_journal_is_a_file_that_the_other_commands_find(type_, tmp_path: Path) -> None:
    planned = type_("sync", "./a", "./b", "--delete", "--max-delete", "1", "--dry-run")
    assert "would be 5 copied, 1 deleted" in planned.output
    assert type_("sync", "./a", "./b").exit_code == 0
    assert (tmp_path / "state" / "migrate-storage" / "journal.db").is_file()
    assert "sync" in type_("runs").output
    assert re.search(r"sync|completed", type_("status").output)
    report = json.loads(type_("report", "--json").output)
    assert (report["kind"], report["counts"]) == ("sync", {"copied": 5})
    assert set(files(tmp_path / "b")) == {*files(tmp_path / "a"), "more.txt"}


def test_events_are_those_of_a_run(type_) -> None:
    lines = [json.loads(line) for line in type_("sync", "./a", "./b", "--json").stdout.splitlines()]
    assert lines[0]["event"] == "run_started"
    assert lines[0]["job"] == "sync"
    assert [line["event"] for line in lines[-3:]] == ["progress", "run_finished", "report"]
    (behind,) = (line for line in lines if line["event"] == "sync_lag")
    assert (behind["objects"], behind["bytes"]) == (5, 5)
    assert sum(line["event"] == "object_finished" for line in lines) == 5


def test_check_writes_the_reports_of_rclone(type_, tmp_path: Path) -> None:
    result = type_("check", "./a", "./b", "--combined", "all", "--missing-on-src", "src", "--include", "*.{txt,md}")
    assert "5 missing" in result.output or "6 missing" in result.output
    assert (tmp_path / "src").read_text() == "more.txt\n"
    assert len((tmp_path / "all").read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("sync", "a", "./b"), "FROM 'a' is no storage backend's key"),
        (("sync", "./nowhere", "./b"), "is not there"),
        (("sync", "./a", "./a/in"), "one place"),
        (("sync", "./a", "./b", "--max-delete", "many"), "--max-delete 'many' is neither"),
        (("sync", "./a", "./b", "--checksum", "--size-only"), "exclude each other"),
        (("sync", "./a", "./b", "--watch", "1m", "--dry-run"), "--watch repeats"),
        (("sync", "./a", "./b", "--files-from", "x", "--include", "*"), "--files-from names exactly"),
        (("sync", "./a", "./b", "--to-option", "region=x"), "a folder takes no options"),
        (("sync", "./a", "s3://bucket/x", "--to-option", "regoin=x"), "regoin"),
        (("sync", "./a", "s3://bucket/x", "--to-option", "config_kwargs={"), "begins as JSON"),
        (("sync", "./a", "gopher://x"), "gopher"),
        (("check", "./a", "./b", "--download", "--size-only"), "exclude each other"),
        (("check", "./a", "./b", "--include", "{a"), "is no pattern"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], says: str, type_) -> None:
    from migrate_storage.core.errors import MigrateStorageError

    try:
        result = type_(*words)
    except MigrateStorageError as error:
        assert says in str(error)
        assert "\n" not in str(error)
    else:
        assert result.exit_code == 2
        assert says in result.output


def test_it_is_paused_retuned_and_stopped_from_elsewhere(type_, tmp_path: Path) -> None:
    from migrate_storage.application.endpoints import backend_at
    from migrate_storage.jobs.sync.job import SyncJob
    from migrate_storage.jobs.sync.options import SyncOptions

    for number in range(300):
        write(tmp_path / "a" / str(number), bytes(2000))
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    ends = (backend_at(str(tmp_path / side), {}, {}, "FROM") for side in "ab")
    job, reports = SyncJob(*ends, SyncOptions(journal=url, bandwidth=20_000)), []
    thread = threading.Thread(target=lambda: reports.append(job.run()), daemon=True)
    thread.start()
    _until(lambda: type_("status", "--journal", url).exit_code == 0 and len(files(tmp_path / "b")) > 1)
    assert type_("control", "pause", "--journal", url).exit_code == 0
    _until(lambda: "paused" in type_("status", "--journal", url).output)
    assert type_("control", "set", "--bandwidth", "1G", "--concurrency", "4", "--journal", url).exit_code == 0
    assert type_("control", "resume", "--journal", url).exit_code == 0
    _until(lambda: len(files(tmp_path / "b")) > 200 or not thread.is_alive())
    type_("control", "stop", "--journal", url)
    thread.join(60)
    assert reports[0].exit_code in (0, 130)
    assert len(files(tmp_path / "b")) > 200


def _until(true) -> None:
    deadline = time.monotonic() + 60
    while not _answered(true):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _answered(true) -> bool:
    try:
        return bool(true())
    except Exception:  # noqa: BLE001 - its tables are not there yet
        return False


def test_names_in_the_configuration_file_are_ends_too(type_, tmp_path: Path) -> None:
    (tmp_path / "migrate-storage.toml").write_text(
        f'[source]\nkey = "here"\nfs = "file"\nprefix = "{tmp_path}/a"\n'
        f'[destination]\nkey = "there"\nfs = "file://{tmp_path}/b"\n'
    )
    assert type_("sync", "here", "there").exit_code == 0
    assert set(files(tmp_path / "b")) == {*files(tmp_path / "a"), "more.txt"}


def test_options_of_a_store_come_from_the_environment_line_by_line(type_) -> None:
    from migrate_storage.core.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="a folder takes no options"):
        type_("check", "./a", "./b", MIGRATE_STORAGE_TO_OPTION="endpoint=http://x y\nregion=z")


def test_the_next_command_says_the_options_of_a_store_again_and_no_secret(type_, rclone_s3) -> None:
    options = {"endpoint": rclone_s3.endpoint, "allow_http": "true", "virtual_hosted_style_request": "false"}
    secrets = {"access_key_id": rclone_s3.key, "secret_access_key": rclone_s3.secret}
    words = [word for name, value in {**options, **secrets}.items() for word in ("--to-option", f"{name}={value}")]
    result = type_("sync", "./a", f"s3://{rclone_s3.new_bucket()}/", *words)
    assert result.exit_code == 0, result.output
    said = result.output.splitlines()[-1]
    assert all(f"--to-option {name}={value}" in said for name, value in options.items()), said
    assert rclone_s3.secret not in result.output
