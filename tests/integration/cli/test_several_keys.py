"""`run` and `plan` for several pairs of keys in one command: one run each, one report, one exit code."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.cli.project import APPLICATION, ROOT, Project, one_line_of
from tests.support.schemas import check_record

PAIRS = {"letters": "texts", "photos": "pictures", "scans": "papers"}

SEVERAL = textwrap.dedent(APPLICATION).partition("def fill(")[0] + textwrap.dedent("""
    for old, new in {"letters": "texts", "photos": "pictures", "scans": "papers"}.items():
        storages.register_backend(
            FSSpecBackend(key=old, fs=fsspec.filesystem("file", auto_mkdir=True), prefix=str(HERE / old)))
        (HERE / new).mkdir(exist_ok=True)
        storages.register_backend(ObstoreBackend(key=new, fs=f"file://{HERE}/{new}"))

    class Letter(Base):
        __tablename__ = "letter"
        id = mapped_column(sa.Integer, primary_key=True)
        file = mapped_column(StoredObject(backend="letters"))
        pages = mapped_column(StoredObject(backend="photos", multiple=True))

    def fill_several(count):
        Base.metadata.create_all(database.get_engine())
        with database.get_session() as session:
            for number in range(count):
                text = FileObject(backend="letters", filename=f"{number}.txt", content=b"letter %d" % number)
                pages = [
                    FileObject(backend=key, filename=f"{number}/{key}.png", content=b"%d %s" % (number, key.encode()))
                    for key in ("photos", "scans")
                ]
                session.add(Letter(file=text, pages=pages))
            session.commit()

    if __name__ == "__main__":
        fill_several(4)
""")

ARGUMENTS = tuple(word for old, new in PAIRS.items() for word in ("--from", f"{old}={new}"))
RUN = ("run", "--app", "several", *ARGUMENTS, "--settle-time", "0")


@pytest.fixture
def several(empty: Project) -> Project:
    """An application with rows of three old keys, two of them in one column."""
    (empty.directory / "several.py").write_text(SEVERAL)
    made = empty.python("several.py")
    assert made.returncode == 0, made.stderr
    return empty


def told(ended: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ended.stdout.splitlines()]


def keys(project: Project) -> list[str]:
    """The backend keys that rows name."""
    engine = sa.create_engine(f"sqlite:///{project.directory}/app.db")
    with engine.connect() as connection:
        values = [
            json.loads(each) for row in connection.exec_driver_sql("SELECT file, pages FROM letter") for each in row
        ]
    files = [file for value in values for file in (value if isinstance(value, list) else [value])]
    return sorted(file["backend"] for file in files)


OLD, NEW = sorted([*PAIRS] * 4), sorted([*PAIRS.values()] * 4)


def test_all_of_them_in_one_command(several: Project) -> None:
    ended = several(*RUN)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    lines = ended.stdout.splitlines()
    assert lines[0] == "3 keys: 3 finished."
    assert [line.partition(":")[0] for line in lines[1:4]] == [f"  {old} -> {new}" for old, new in PAIRS.items()]
    assert all(f"no row names {old!r} any more" in line for old, line in zip(PAIRS, lines[1:4], strict=True))
    assert [line for line in lines if line.startswith("== ")] == [f"== {old} -> {new}" for old, new in PAIRS.items()]
    assert [line.split(": ")[1].split(",")[0] for line in ended.stderr.splitlines() if line.startswith("Run ")] == [
        f"{old} -> {new}" for old, new in PAIRS.items()
    ]
    assert keys(several) == NEW
    assert lines.count("Next command") == 1
    [_, words] = lines[-1].split(" report ")
    runs = words.split()[:3]
    assert words.split()[3:] == ["--app", "several"]
    again = several("report", *runs, "--app", "several")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[:4] == lines[:4]
    once_more = several(*RUN)
    assert once_more.returncode == 0
    assert once_more.stdout.count("nothing was left to do") >= 3
    assert several("verify", "--app", "several").returncode == 0


def test_lines_of_json_have_the_key(several: Project) -> None:
    ended = several(*RUN, "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = told(ended)
    for line in lines:
        check_record(line)
    assert [line["key"] for line in lines if line["event"] == "run_started"] == [*PAIRS]
    finished = [line for line in lines if line["event"] == "object_finished"]
    assert len(finished) == 12
    assert all(line["key"] == line["source"]["backend"] for line in finished)
    assert {line["event"] for line in lines if "key" not in line} == {"reports"}
    reports = [line for line in lines if line["event"] == "report"]
    assert [line["key"] for line in reports] == [line["source"] for line in reports] == [*PAIRS]
    last = lines[-1]
    assert (last["event"], last["exit_code"], last["keys"]) == ("reports", 0, 3)
    assert [(each["key"], each["destination"], each["state"], each["exit_code"]) for each in last["runs"]] == [
        (old, new, "completed", 0) for old, new in PAIRS.items()
    ]
    assert [each["run"] for each in last["runs"]] == [line["run"] for line in reports]
    assert told(several(*RUN[:-2], "--json", "--quiet"))[-1]["exit_code"] == 0


def test_a_page_of_all_of_them(several: Project) -> None:
    (several.directory / "photos/2/photos.png").unlink()
    ended = several(*RUN, "--json")
    assert ended.returncode == 1, "the worst of all"
    ids = [each["run"] for each in told(ended)[-1]["runs"]]
    shown = several("report", *ids, "--app", "several", "--html", "report.html")
    assert shown.returncode == 1
    page = (several.directory / "report.html").read_text()
    assert page.count("<!doctype html>") == page.count("<style>") == 1
    assert page.count("<article") == 3
    assert "3 keys: 2 finished, 1 finished with problems." in page
    names = [part.partition('"')[0] for part in page.split(' id="')[1:]]
    assert len(names) == len(set(names)), "no id is there twice"
    links = {part.partition('"')[0] for part in page.split(' href="#')[1:]}
    assert links
    assert links <= set(names)
    labels = {name for part in page.split(' aria-labelledby="')[1:] for name in part.partition('"')[0].split()}
    assert labels <= set(names)
    assert f" revert {ids[0]} --dry-run" in page
    lines = told(several("report", *ids, "--app", "several", "--json"))
    assert [line["run"] for line in lines] == ids


def test_a_problem_of_one_key_does_not_stop_the_others(several: Project) -> None:
    (several.directory / "letters/1.txt").unlink()
    ended = several(*RUN, "--quiet")
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[0] == "3 keys: 1 finished with problems, 2 finished."
    assert "letters:1.txt" in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("  Next command: ")
    assert keys(several) == sorted([*NEW[:-1], "letters"])
    (several.directory / "letters/1.txt").write_text("back again")
    assert several(*RUN, "--quiet").returncode == 0
    assert keys(several) == NEW


def test_a_bad_pair_changes_nothing(several: Project) -> None:
    (several.directory / "scans").rename(several.directory / "elsewhere")
    before = several.snapshot()
    ended = several(*RUN)
    assert ended.returncode == 2, ended.stdout
    assert one_line_of(ended).startswith("scans -> papers: ")
    assert several.snapshot() == before
    assert keys(several) == OLD


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "letters=texts", "--from", "letters=papers"], "--from names 'letters' twice"),
        (["--from", "letters=photos", "--from", "photos=papers"], "'photos' is the destination of 'letters' and a source itself"),
        (["--from", "letters=letters", "--from", "photos=pictures"], "--from and --to are both 'letters'"),
        (["--from", "letters=nothing", "--from", "photos=pictures"], "--from nothing: no backend has this key"),
        (["--from", "nothing=texts", "--from", "photos=pictures"], "--from nothing: no backend has this key"),
        (["--from", "letters=", "--from", "photos=pictures"], "no backend has this key"),
        (["--from", "letters=texts", "--to", "papers"], "names its destination: leave --to out"),
        (["--from", "letters=texts", "--from", "photos=pictures", "--workers", "2"], "leave --shard, --dask and --workers out"),
        (["--from", "letters=texts", "--from", "photos=pictures", "--shard", "0/2"], "leave --shard, --dask and --workers out"),
        (["--all", "--from", "letters"], "--all names the pairs itself: leave --from out"),
        (["--all"], "with register_pair, and it registers none: name each pair with --from OLD=NEW"),
    ],
)  # fmt: skip
def test_pairs_that_contradict_each_other(several: Project, arguments: list[str], message: str) -> None:
    before = several.snapshot()
    ended = several("run", "--app", "several", *arguments)
    assert ended.returncode == 2
    assert message in one_line_of(ended)
    assert several.snapshot() == before


def test_two_files_of_two_keys_with_one_name_at_one_destination(several: Project) -> None:
    """Both have another content, and neither is copied."""
    for side in ("photos", "scans"):
        (several.directory / side / "same.png").write_text(side)
    statement = (
        "UPDATE letter SET pages = replace(replace(pages, '1/photos.png', 'same.png'), '1/scans.png', 'same.png')"
    )
    with sa.create_engine(f"sqlite:///{several.directory}/app.db").begin() as connection:
        connection.exec_driver_sql(statement)
    before = several.snapshot()
    both = ("--from", "photos", "--from", "scans", "--to", "pictures")
    for command in ("run", "plan"):
        ended = several(command, "--app", "several", *both)
        assert ended.returncode == 2
        message = one_line_of(ended)
        assert "photos:same.png and scans:same.png would both be copied to" in message
        assert "nothing was changed" in message
    assert several.snapshot() == before
    with sa.create_engine(f"sqlite:///{several.directory}/app.db").begin() as connection:
        connection.exec_driver_sql("DELETE FROM letter WHERE pages LIKE '%same.png%'")
    assert several("run", "--app", "several", *both, "--settle-time", "0").returncode == 0
    assert keys(several) == sorted([*["letters"] * 3, *["pictures"] * 6])


def test_a_plan_of_each(several: Project) -> None:
    before = several.snapshot()
    ended = several("plan", *RUN[1:], "--probe", "0")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[0] == "3 keys: 3 planned."
    assert ended.stdout.count("A plan, nothing was changed: 4 objects to handle") == 6
    words = " ".join(f"--from {old}={new}" for old, new in PAIRS.items())
    assert f" run --app several {words}" in ended.stdout.splitlines()[-1]
    assert several.snapshot() == before
    refused = several("plan", *RUN[1:], "--manifest", "keys.txt")
    assert "--manifest is one file for one pair of keys" in one_line_of(refused)
    dry = several(*RUN, "--dry-run")
    assert dry.stdout.splitlines()[0] == ended.stdout.splitlines()[0]
    assert several.snapshot() == before


def test_limits(several: Project) -> None:
    """A limit of rows is for each key; one of bytes is for all of them together."""
    ended = several(*RUN, "--limit", "1", "--json")
    assert ended.returncode == 4
    assert [each["state"] for each in told(ended)[-1]["runs"]] == ["limit_reached"] * 3
    ended = several(*RUN, "--max-bytes", "1", "--json")
    assert ended.returncode == 4
    first, *others = told(ended)[-1]["runs"]
    assert first["run"] is not None
    assert [(each["run"], each["reason"]) for each in others] == [(None, "the limit of time or bytes was reached")] * 2
    assert several(*RUN).returncode == 0
    assert keys(several) == NEW


def test_ctrl_c_ends_all_of_them_and_the_same_command_resumes(several: Project) -> None:
    slow = several.start(*RUN, "--bandwidth", "20", "--max-memory", "1MiB", "--json")
    lines = []
    assert slow.stdout is not None
    while True:
        lines.append(json.loads(slow.stdout.readline()))
        if lines[-1]["event"] == "pass_started":
            break
    slow.send_signal(signal.SIGINT)
    rest, errors = slow.communicate(timeout=120)
    assert slow.returncode == 130, errors
    last = json.loads(rest.splitlines()[-1])
    assert last["event"] == "reports"
    first, *others = last["runs"]
    assert (first["key"], first["state"]) == ("letters", "interrupted")
    assert [(each["key"], each["run"]) for each in others] == [("photos", None), ("scans", None)]
    resumed = several(*RUN)
    assert resumed.returncode == 0, resumed.stderr
    assert keys(several) == NEW


def test_killed_in_the_second_run_and_resumed(several: Project) -> None:
    killed = several.start(*RUN, "--json", "--lease-ttl", "1")
    assert killed.stdout is not None
    while True:
        line = json.loads(killed.stdout.readline())
        if (line["event"], line.get("key")) == ("run_started", "photos"):
            break
    killed.kill()
    killed.communicate(timeout=60)
    left = set(keys(several)) & {*PAIRS}
    assert "scans" in left
    assert "letters" not in left
    until = time.monotonic() + 60
    while (resumed := several(*RUN, "--quiet")).returncode == 2 and "at work" in resumed.stderr:
        assert time.monotonic() < until, resumed.stderr
    assert resumed.returncode == 0, resumed.stderr + resumed.stdout
    assert (resumed.stdout, resumed.stderr) == ("", "")
    assert keys(several) == NEW


def test_a_terminal_shows_each_run_and_a_file_has_the_metrics_of_all(several: Project) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "migrate_storage", *RUN, "--metrics-file", "all.prom"],
        cwd=several.directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=follower,
        stdin=subprocess.DEVNULL,
    )
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # Linux's word for "the other end is closed"
        while part := os.read(leader, 65536):
            shown += part
    os.close(leader)
    process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert [shown.decode().count(f": {old} -> {new}, 4 rows to go") for old, new in PAIRS.items()] == [1, 1, 1]
    metrics = (several.directory / "all.prom").read_text()
    assert re.search(r'outcome="repointed"[^}]*\} 12\b', metrics), metrics


def test_a_run_that_fails_is_the_last_one(several: Project) -> None:
    """The database refuses every UPDATE of the second key's rows: the third one does not begin."""
    trigger = (
        "CREATE TRIGGER stop BEFORE INSERT ON migrate_storage_run WHEN NEW.source = 'photos' "
        "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
    )
    assert several("journal", "create", "--app", "several").returncode == 0
    with sa.create_engine(f"sqlite:///{several.directory}/app.db").begin() as connection:
        connection.exec_driver_sql(trigger)
    ended = several(*RUN)
    assert ended.returncode in (2, 3), ended.stderr
    assert "Traceback" not in ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "3 keys: 1 finished, 2 not done."
    assert "photos -> pictures: not done: " in lines[2]
    assert "not this one" in lines[2]
    with sa.create_engine(f"sqlite:///{several.directory}/app.db").begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER stop")
    assert several(*RUN).returncode == 0
    assert keys(several) == NEW


def test_pairs_of_the_configuration_file_and_of_the_environment(several: Project) -> None:
    pairs = ", ".join(f'"{old}={new}"' for old, new in PAIRS.items())
    (several.directory / "migrate-storage.toml").write_text(f'app = "several"\nfrom = [{pairs}]\nsettle-time = 0\n')
    assert several("plan").stdout.splitlines()[0] == "3 keys: 3 planned."
    assert "one pair of keys" in one_line_of(several("doctor"))
    assert several("status", "--ready-to-unregister").returncode in (1, 2)
    (several.directory / "migrate-storage.toml").write_text('app = "several"\nsettle-time = 0\n')
    several.environment["MIGRATE_STORAGE_FROM"] = "\n".join(f"{old}={new}" for old, new in PAIRS.items())
    assert several("run").stdout.splitlines()[0] == "3 keys: 3 finished."
    assert keys(several) == NEW


def test_all_pairs_that_the_application_registers(several: Project) -> None:
    registering = SEVERAL + textwrap.dedent("""
        from migrate_storage import register_pair
        register_pair(storages, "letters", "texts")
        register_pair(storages, "photos", "pictures")
    """)
    (several.directory / "several.py").write_text(registering)
    ended = several("run", "--app", "several", "--all", "--settle-time", "0")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[0] == "2 keys: 2 finished."
    assert keys(several) == sorted([*["texts"] * 4, *["pictures"] * 4, *["scans"] * 4])
    interrupted = several("run", "--app", "several", "--all", "--dry-run")
    assert "--all" in interrupted.stdout.splitlines()[-1]


def test_a_key_with_the_sign_in_it(several: Project) -> None:
    """One key is named as before, whatever is in it; of two keys the split is the one where both exist."""
    odd = SEVERAL.replace('"letters": "texts"', '"let=ters": "te=xts"').replace(
        'backend="letters"', 'backend="let=ters"'
    )
    (several.directory / "several.py").write_text(odd)
    (several.directory / "app.db").unlink()
    assert several.python("several.py").returncode == 0
    one = several(
        "run", "--app", "several", "--from", "let=ters", "--to", "te=xts", "--settle-time", "0", "--limit", "1"
    )
    assert one.returncode == 4, one.stderr
    both = several(
        "run", "--app", "several", "--from", "let=ters=te=xts", "--from", "scans=papers", "--settle-time", "0"
    )
    assert both.returncode == 0, both.stderr
    assert keys(several) == sorted([*["te=xts"] * 4, *["photos"] * 4, *["papers"] * 4])


def test_in_place_for_several_keys(several: Project) -> None:
    before = several.snapshot()
    ended = several("plan", "--app", "several", "--from", "letters", "--from", "photos")
    assert ended.returncode == 0, ended.stderr
    assert [line.partition(":")[0] for line in ended.stdout.splitlines()[1:3]] == ["  letters", "  photos"]
    assert several.snapshot() == before


def test_one_pair_as_old_and_new(several: Project) -> None:
    ended = several("run", "--app", "several", "--from", "letters=texts", "--settle-time", "0", "--limit", "1")
    assert ended.returncode == 4
    assert ended.stdout.startswith("Stopped at the limit")
    assert "--from letters --to texts" in ended.stdout.splitlines()[-1]


def test_other_names_for_several_keys(several: Project) -> None:
    """The rule is for each key; two files of two keys with one new name at one destination are refused."""
    both = ("--from", "photos", "--from", "scans", "--to", "pictures")
    refused = several("run", "--app", "several", *both, "--rename", r"(\d)/.*=>\1.png")
    assert "would both be copied to" in one_line_of(refused)
    assert keys(several) == OLD
    ended = several("run", "--app", "several", *both, "--rename", r"(\d)/(.*)=>\2/\1", "--settle-time", "0")
    assert ended.returncode == 0, ended.stderr
    assert (several.directory / "pictures/photos.png/3").read_text() == "3 photos"
