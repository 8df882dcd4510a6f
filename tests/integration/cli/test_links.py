"""`links` as a person types it: what it reports, what it changes, the way back, and a process that is killed."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Sequence

import sqlalchemy as sa

from tests.support.cli.project import Project, one_line_of

OLD, NEW = "https://old.example/", "https://files.example/"
APP = ("--app", "app", "--from-address", OLD, "--to-address", NEW)
CRASH = """
    import os, signal, sys
    from migrate_storage.__main__ import main
    from migrate_storage.jobs.links import rewrite

    rewrite.BATCH_ROWS, commit, done = 2, rewrite.LinkRewriter._commit, []

    def commit_and_die(*given):
        ended = commit(*given)
        done.append(1)
        if len(done) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return ended

    rewrite.LinkRewriter._commit = commit_and_die
    sys.exit(main())
"""


def add_posts(project: Project, *bodies: str) -> None:
    with sa.create_engine(f"sqlite:///{project.directory}/app.db").begin() as connection:
        connection.execute(sa.text("CREATE TABLE post (id INTEGER PRIMARY KEY, body TEXT)"))
        for body in bodies:
            connection.execute(sa.text("INSERT INTO post (body) VALUES (:body)"), {"body": body})


def posts(project: Project) -> list[str]:
    with sa.create_engine(f"sqlite:///{project.directory}/app.db").connect() as connection:
        return list(connection.execute(sa.text("SELECT body FROM post ORDER BY id")).scalars())


def moved(project: Project, count: int = 7) -> list[str]:
    assert project("run", "--app", "app", "--from", "old", "--to", "new", "--quiet").returncode == 0
    bodies = [f'<img src="{OLD}d/{number}.txt">' for number in range(count)]
    add_posts(project, *bodies)
    return bodies


def changed(bodies: Sequence[str]) -> list[str]:
    return [body.replace(OLD, NEW) for body in bodies]


def next_of(printed: str) -> list[str]:
    words = shlex.split(printed.splitlines()[-1])
    return words[words.index("links") :]


def test_a_search_a_plan_a_change_and_the_way_back_as_each_is_shown(project: Project) -> None:
    bodies = moved(project)
    search = project("links", *APP)
    assert (search.returncode, posts(project)) == (1, bodies), search.stderr
    assert search.stdout.startswith("Finished: 7 addresses name a moved object.")
    plan = project(*next_of(search.stdout))
    assert (plan.returncode, posts(project)) == (0, bodies), plan.stdout
    assert plan.stdout.startswith("A plan, nothing was changed: 7 addresses to change.")
    words = next_of(plan.stdout)
    assert {"--rewrite", "--yes", "--from-address", OLD} <= set(words)
    done = project(*words)
    assert (done.returncode, posts(project)) == (0, changed(bodies)), done.stdout
    assert done.stdout.startswith("Finished: 7 addresses changed.")
    again = project(*next_of(done.stdout))
    assert again.returncode == 0, again.stdout
    [run] = [line.split()[0] for line in project("runs", "--app", "app").stdout.splitlines() if "links" in line]
    assert "7 addresses changed" in project("report", run, "--app", "app").stdout
    assert project("status", run, "--app", "app").returncode == 0
    stored = json.loads(project("report", run, "--app", "app", "--json").stdout)
    assert (stored["kind"], stored["links"]["rewritten"], stored["rows_repointed"]) == ("links", 7, 7)
    assert project("report", run, "--app", "app", "--html", "report.html").returncode == 0
    back = project("revert", run, "--app", "app", "--dry-run")
    assert (back.returncode, posts(project)) == (0, changed(bodies)), back.stderr
    back = project("revert", run, "--app", "app")
    assert (back.returncode, posts(project)) == (0, bodies), back.stderr
    assert back.stdout.startswith("Finished: 7 rows put back.")
    assert project("explain", "document.file", "1", "--app", "app").returncode == 0
    assert project("verify", "--app", "app", "--quiet").returncode == 0
    assert project("revert", "--app", "app", "--quiet").returncode == 0, "the move itself is reverted as before"


def test_a_killed_process_leaves_each_row_with_its_record(project: Project) -> None:
    bodies = moved(project)
    project.write(CRASH, "crash.py")
    killed = project.python("crash.py", "links", *APP, "--rewrite", "--yes")
    assert killed.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), killed.stderr
    assert posts(project) == [*changed(bodies)[:4], *bodies[4:]]
    ended = project("links", *APP, "--rewrite", "--yes", "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads(ended.stdout.splitlines()[-1])
    assert (report["resumed"], posts(project)) == (True, changed(bodies))
    back = project("revert", report["run"], "--app", "app", "--json")
    assert (back.returncode, posts(project)) == (0, bodies), back.stdout + back.stderr
    assert json.loads(back.stdout.splitlines()[-1])["counts"] == {"reverted": 7}


def test_bad_input_is_one_line_and_changes_nothing(project: Project) -> None:
    bodies = moved(project, 1)
    for words, said in (
        (("--yes",), "--yes and --dry-run are for --rewrite"),
        (("--rewrite", "--yes", "--dry-run"), "contradict each other"),
        (("--census", "none"), "leaves nothing to search"),
        (("--concurrency", "0"), "--concurrency must be at least 1"),
        (("--to-address", "files"), "--to-address 'files/'"),
        (("--from-address", "https://user:hunter2@host/"), "an address without user"),
    ):
        refused = project("links", *APP, *words)
        line = one_line_of(refused)
        assert said in line and "hunter2" not in line, line
    assert "no runs begin with" in one_line_of(project("links", "nothing", *APP))
    assert "no runs begin with" in one_line_of(project("revert", "nothing", "--app", "app"))
    assert "the public address of 'old' is not known" in one_line_of(project("links", "--app", "app"))
    assert posts(project) == bodies
