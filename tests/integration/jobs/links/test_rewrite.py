"""Addresses of moved objects are written anew in their spelling, exactly once, and nothing else of a text changes."""

from __future__ import annotations

import json
import random
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.database.connection import Database
from migrate_storage.jobs.links import rewrite as module
from migrate_storage.jobs.links.rewrite import LinkRewriter
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.journal import Journal
from migrate_storage.reporting import Report, render
from tests.support.engine.world import Document, World
from tests.support.jobs.links import NEW, OLD, add_posts, links, posts, put_back, rewrite
from tests.support.jobs.purge import purge

NAMES = [f"docs/{number % 7}/d{number}.bin" for number in range(5)]


def moved_world(world: World) -> World:
    world.fill(5)
    assert world.run(census=("none",)).exit_code == 0
    return world


@pytest.fixture
def moved(all_worlds: World) -> World:
    """Five documents that a run moved, on each database."""
    return moved_world(all_worlds)


@pytest.fixture
def local(world: World) -> World:
    """The same on SQLite only."""
    return moved_world(world)


def column(report: Report, name: str = "post.body") -> Any:
    return next(each for each in report.links.columns if str(each) == name)


def in_json(text: str) -> str:
    return json.dumps(text)[1:-1].replace("/", "\\/")


def body_of(base: str) -> list[str]:
    """One text of each spelling, below a base."""
    first, second = (f"{base}{name}" for name in NAMES[:2])
    return [
        f'<img src="{first}"> ![x]({second}) {first}.', f"{base}docs/0/%64%30.bin?v=1&amp;w=2#top",
        f'{{"html": "\\u003cimg src=\\"{in_json(first)}\\"\\u003e", "n": 1.50, "z": "ü"}}',
        in_json(json.dumps({"url": first})), f"&lt;img src=&quot;{first}&quot;&gt;", f"{first},{second}\n{first}",
    ]  # fmt: skip


def test_each_spelling_is_changed_and_the_revert_is_exact(moved: World) -> None:
    others = [f"{OLD}{NAMES[0]}.bak", f"//{OLD[8:]}{NAMES[0]}", f"{OLD}{NAMES[0]}?X-Amz-Signature=1", "", "nothing"]
    add_posts(moved, *body_of(OLD), *others)
    before = posts(moved)
    report = rewrite(moved)
    assert posts(moved) == [*body_of(NEW), *others]
    assert (report.state, report.counts, report.rows_repointed) == ("completed", {OutcomeKind.REPOINTED: 6}, 6)
    assert (report.links.rewritten, report.exit_code) == (10, 1), "two addresses stay, each for a reason"
    assert render(report).startswith("Finished: 10 addresses changed; 2 addresses of moved objects stay.")
    assert report.next_command == "migrate-storage links"
    again = rewrite(moved)
    assert (again.links.rewritten, again.counts, posts(moved)) == (0, {}, [*body_of(NEW), *others])
    undone = put_back(moved, report.run)
    assert (undone.exit_code, undone.counts, posts(moved)) == (0, {OutcomeKind.REVERTED: 6}, before)
    assert put_back(moved, report.run).counts == {}
    assert rewrite(moved).links.rewritten == 10


def test_a_plan_counts_the_same_and_changes_nothing(moved: World) -> None:
    add_posts(moved, *body_of(OLD))
    before = moved.dump()
    for options in ({"yes": False}, {"yes": False, "dry_run": True}):
        plan = rewrite(moved, **options)
        assert (plan.state, plan.links.rewritten, plan.exit_code, moved.dump()) == ("planned", 10, 0, before)
        assert plan.next_command == "migrate-storage links --rewrite --yes"
        assert render(plan).startswith("A plan, nothing was changed: 10 addresses to change.")


def test_random_texts_come_back_exactly(moved: World) -> None:
    chance = random.Random(7)
    parts = [
        *(f"{OLD}{name}" for name in NAMES), *(in_json(f"{OLD}{name}") for name in NAMES), *(f"{OLD}{quote(name, safe='')}" for name in NAMES),
        OLD, "https://", "old.example", "/", " ", '"', "'", "\\", "&amp;", "&quot;", "%2F", ".", ",", ")", "ü", "日本", "\n", "<a href=", "\U0001f600", "?x=1",
    ]  # fmt: skip
    texts = ["".join(chance.choices(parts, k=chance.randrange(12))) for _ in range(150)]
    type_ = "MEDIUMTEXT" if "mysql" in moved.url else "TEXT"
    add_posts(moved, *texts, type_=type_)
    report = rewrite(moved)
    changed = posts(moved)
    assert sum(now != old for now, old in zip(changed, texts, strict=True)) == report.rows_repointed > 50
    assert column(links(moved)).moved == 0
    assert put_back(moved, report.run).exit_code == 0
    assert posts(moved) == texts


def test_json_columns_keep_their_value(moved: World) -> None:
    value = {
        f"{OLD}{NAMES[0]}": [f"{OLD}{NAMES[1]}", 1.5, None, "ü"],
        "b": {"html": f'<img src="{OLD}{NAMES[0]}">'},
        "zz": 1,
    }
    add_posts(moved, json.dumps(value), type_="JSONB" if "postgresql" in moved.url else "JSON")
    before = moved.sql("SELECT CAST(body AS CHAR(2000)) FROM post")
    report = rewrite(moved)
    [stored] = posts(moved)
    stored = json.loads(stored) if isinstance(stored, str) else stored
    assert stored == json.loads(json.dumps(value).replace(OLD, NEW))
    assert put_back(moved, report.run).exit_code == 0
    assert moved.sql("SELECT CAST(body AS CHAR(2000)) FROM post") == before


def test_a_row_that_is_written_between_read_and_update_is_read_again(
    moved: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_posts(moved, f"{OLD}{NAMES[0]}", f"{OLD}{NAMES[1]}")
    write_first(moved, monkeypatch, times=1)
    report = rewrite(moved)
    assert posts(moved) == [f"{NEW}{NAMES[0]} edited", f"{NEW}{NAMES[1]}"]
    assert report.exit_code == 0
    assert put_back(moved, report.run).exit_code == 0
    assert posts(moved) == [f"{OLD}{NAMES[0]} edited", f"{OLD}{NAMES[1]}"]


def test_a_row_that_is_written_each_time_is_left_and_listed(moved: World, monkeypatch: pytest.MonkeyPatch) -> None:
    add_posts(moved, f"{OLD}{NAMES[0]}", f"{OLD}{NAMES[1]}")
    write_first(moved, monkeypatch, times=99)
    report = rewrite(moved)
    assert posts(moved) == [f"{OLD}{NAMES[0]}" + " edited" * module.MAX_READS, f"{NEW}{NAMES[1]}"]
    assert (report.exit_code, report.counts[OutcomeKind.MODIFIED]) == (1, 1)
    [problem] = report.problems
    assert (problem.reason, str(problem.refs[0]).endswith("post.body[1]")) == (module.WRITTEN_MEANWHILE, True)


def write_first(world: World, monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
    """Let another program write row 1 right before each of the first transactions that change texts."""
    commit, calls = LinkRewriter._commit, []

    def write_and_commit(self: LinkRewriter, rows: Any, changes: Any, ids: Any) -> list[bool]:
        if len(calls) < times and any(change.pk == (1,) for change in changes):
            calls.append(1)
            world.sql("UPDATE post SET body = :body WHERE id = 1", body=posts(world)[0] + " edited")
        return commit(self, rows, changes, ids)

    monkeypatch.setattr(LinkRewriter, "_commit", write_and_commit)


def test_a_killed_rewrite_is_continued_under_its_id(moved: World, monkeypatch: pytest.MonkeyPatch) -> None:
    add_posts(moved, *body_of(OLD))
    before = posts(moved)
    monkeypatch.setattr(module, "BATCH_ROWS", 2)
    commit, calls = LinkRewriter._commit, []

    def commit_and_die(self: LinkRewriter, *given: Any) -> list[bool]:
        done = commit(self, *given)
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError("killed")
        return done

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(LinkRewriter, "_commit", commit_and_die)
        rewrite(moved)
    assert posts(moved) == [*body_of(NEW)[:4], *before[4:]]
    report = rewrite(moved)
    assert (report.resumed, posts(moved)) == (True, body_of(NEW))
    assert put_back(moved, report.run).counts == {OutcomeKind.REVERTED: 6}
    assert posts(moved) == before


@pytest.mark.parametrize("at", ["before", "after"])
def test_with_a_journal_elsewhere_a_kill_leaves_no_row_without_a_record(
    moved: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    journal = f"sqlite:///{tmp_path}/journal.db"
    world = moved
    world.sql("DELETE FROM documents")
    files = world.files_at_once(["again.bin"])
    world.add(Document(id=50, title="t", file=files[0]))
    world.run(journal=journal, census=("none",))
    add_posts(world, f"{OLD}again.bin")
    swap = module._swap

    def swap_and_die(*given: Any) -> Any:
        done = swap(*given)
        if at == "before":
            raise MemoryError("killed")
        return done

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(module, "_swap", swap_and_die)
        if at == "after":
            patched.setattr(
                module.LinkRewriter, "_report_done", lambda *_: (_ for _ in ()).throw(MemoryError("killed"))
            )
            patched.setattr(
                "migrate_storage.journal.links.LinkRepository.remove",
                lambda *_: (_ for _ in ()).throw(MemoryError("killed")),
            )
        rewrite(world, journal=journal)
    assert posts(world) == [f"{OLD if at == 'before' else NEW}again.bin"]
    report = rewrite(world, journal=journal)
    assert posts(world) == [f"{NEW}again.bin"]
    undone = put_back(world, report.run, journal=journal)
    assert (undone.exit_code, posts(world)) == (0, [f"{OLD}again.bin"])


def test_what_the_database_refuses_is_listed_and_the_rest_is_done(moved: World) -> None:
    short = f"{OLD}{NAMES[0]}"
    add_posts(
        moved,
        short,
        short.replace(NAMES[0], NAMES[1]),
        type_=f"VARCHAR({len(short)}) CHECK (length(body) <= {len(short)})",
    )
    moved.sql("CREATE TABLE wide (id INTEGER PRIMARY KEY, body TEXT)")
    moved.sql("INSERT INTO wide VALUES (1, :body)", body=short)
    report = rewrite(moved)
    assert posts(moved) == [short, short.replace(NAMES[0], NAMES[1])]
    assert moved.sql("SELECT body FROM wide") == [(f"{NEW}{NAMES[0]}",)]
    assert (report.exit_code, report.counts) == (1, {OutcomeKind.FAILED: 2, OutcomeKind.REPOINTED: 1})
    assert len(report.problems) == 2


def test_columns_that_cannot_be_changed_are_left(moved: World) -> None:
    text = f"{OLD}{NAMES[0]}"
    moved.sql("CREATE TABLE keyless (body TEXT)")
    moved.sql("INSERT INTO keyless VALUES (:body)", body=text)
    moved.sql("CREATE TABLE keyed (url VARCHAR(200) PRIMARY KEY)")
    moved.sql("INSERT INTO keyed VALUES (:body)", body=text)
    kept = "VIRTUAL" if "duckdb" in moved.url else "STORED"
    moved.sql(
        "CREATE TABLE made (id INTEGER PRIMARY KEY, body VARCHAR(200), "
        f"twin VARCHAR(200) GENERATED ALWAYS AS (body) {kept})"
    )
    moved.sql("INSERT INTO made (id, body) VALUES (1, :body)", body=text)
    report = rewrite(moved)
    obstacles = {str(each): each.obstacle for each in report.links.columns}
    assert obstacles.pop("made.twin").startswith("the database generates")
    assert obstacles == {
        "keyless.body": "its table has no primary key", "keyed.url": "it is a part of the primary key", "made.body": "",
    }  # fmt: skip
    assert moved.sql("SELECT body FROM keyless") == moved.sql("SELECT url FROM keyed") == [(text,)]
    assert moved.sql("SELECT body, twin FROM made") == [(f"{NEW}{NAMES[0]}",) * 2]
    assert (report.exit_code, report.links.rewritten) == (1, 1)


def test_composite_keys_and_keys_to_quote(moved: World) -> None:
    q = "`" if "mysql" in moved.url else '"'
    moved.sql(
        f"CREATE TABLE {q}order{q} ({q}a b{q} VARCHAR(20), n INTEGER, {q}select{q} TEXT, PRIMARY KEY ({q}a b{q}, n))"
    )
    for key in ("x'", 'y"', "z%", "ü"):
        moved.sql(f"INSERT INTO {q}order{q} VALUES (:key, 1, :body), (:key, 2, NULL)", key=key, body=f"{OLD}{NAMES[0]}")
    report = rewrite(moved)
    assert (report.exit_code, report.rows_repointed) == (0, 4)
    assert {value for (value,) in moved.sql(f"SELECT {q}select{q} FROM {q}order{q} WHERE n = 1")} == {
        f"{NEW}{NAMES[0]}"
    }
    assert put_back(moved, report.run).counts == {OutcomeKind.REVERTED: 4}


def test_a_trigger_that_keeps_the_value_or_writes_another_is_listed(local: World) -> None:
    add_posts(local, f"{OLD}{NAMES[0]}", f"{OLD}{NAMES[1]}")
    local.sql(
        "CREATE TRIGGER upper_case AFTER UPDATE ON post WHEN new.id = 1 BEGIN UPDATE post SET body = upper(new.body) WHERE id = 1; END"
    )
    report = rewrite(local)
    assert posts(local) == [f"{OLD}{NAMES[0]}", f"{NEW}{NAMES[1]}"]
    assert (report.exit_code, report.counts) == (1, {OutcomeKind.FAILED: 1, OutcomeKind.REPOINTED: 1})


def test_bytes_and_broken_text_of_sqlite_are_left(local: World) -> None:
    add_posts(local, f"{OLD}{NAMES[0]}")
    local.sql("INSERT INTO post VALUES (2, :body)", body=f"{OLD}{NAMES[0]}".encode())
    local.sql("INSERT INTO post VALUES (3, CAST(:body AS TEXT))", body=f"{OLD}{NAMES[0]} \xff".encode("latin-1"))
    report = rewrite(local)
    assert {problem.reason for problem in report.problems} == {module.NO_TEXT, module.NO_UTF_8}
    assert local.sql("SELECT typeof(body), id FROM post ORDER BY id") == [("text", 1), ("blob", 2), ("text", 3)]
    assert (report.exit_code, report.links.rewritten) == (1, 1)


def test_an_object_whose_copy_is_gone_keeps_its_address(local: World) -> None:
    add_posts(local, f"{OLD}{NAMES[0]} {OLD}{NAMES[1]}")
    (Path(local.new.fs.prefix) / NAMES[0]).unlink()
    report = rewrite(local)
    assert posts(local) == [f"{OLD}{NAMES[0]} {NEW}{NAMES[1]}"]
    assert (report.exit_code, report.counts) == (1, {OutcomeKind.MISSING: 1, OutcomeKind.REPOINTED: 1})


def test_excused_columns_stay(local: World) -> None:
    add_posts(local, f"{OLD}{NAMES[0]}")
    report = rewrite(local, excused=("post.body",))
    assert (posts(local), report.exit_code) == ([f"{OLD}{NAMES[0]}"], 0)


def test_a_run_that_is_not_finished_and_bad_options_are_refused(local: World) -> None:
    add_posts(local, f"{OLD}{NAMES[0]}")
    with pytest.raises(ConfigurationError, match="the public address of 'new' is not known"):
        rewrite(local, to_address=None)
    with pytest.raises(ConfigurationError, match="contradict each other"):
        rewrite(local, dry_run=True)
    with pytest.raises(ConfigurationError, match="are for --rewrite"):
        links(local, yes=True)
    local.sql("UPDATE migrate_storage_run SET state = 'interrupted' WHERE kind = 'run'")
    with pytest.raises(ConfigurationError, match="is interrupted: finish it"):
        rewrite(local)
    assert posts(local) == [f"{OLD}{NAMES[0]}"]


def test_a_large_text_of_many_addresses(local: World) -> None:
    text = "".join(f'<img src="{OLD}{NAMES[number % 5]}">\n' for number in range(20_000))
    add_posts(local, text, f"{OLD}{NAMES[0]}", text)
    report = rewrite(local)
    assert report.links.rewritten == 40_001
    assert posts(local) == [text.replace(OLD, NEW), f"{NEW}{NAMES[0]}", text.replace(OLD, NEW)]
    assert put_back(local, report.run).exit_code == 0
    assert posts(local)[0] == text


def test_what_was_written_since_stays_and_is_listed(moved: World) -> None:
    add_posts(moved, *(f"{OLD}{name}" for name in NAMES[:4]))
    report = rewrite(moved)
    moved.sql("UPDATE post SET body = :body WHERE id = 1", body=f"{NEW}{NAMES[0]} edited")
    moved.sql("DELETE FROM post WHERE id = 2")
    moved.sql("UPDATE post SET body = NULL WHERE id = 3")
    plan = put_back(moved, report.run, dry_run=True)
    assert (plan.exit_code, plan.counts) == (1, {OutcomeKind.REVERTED: 1, OutcomeKind.MODIFIED: 3})
    assert posts(moved)[-1] == f"{NEW}{NAMES[3]}"
    undone = put_back(moved, report.run)
    assert (undone.exit_code, undone.counts) == (1, {OutcomeKind.REVERTED: 1, OutcomeKind.MODIFIED: 3})
    assert len(undone.problems) == 3
    assert posts(moved) == [f"{NEW}{NAMES[0]} edited", None, f"{OLD}{NAMES[3]}"]


def test_a_text_that_was_changed_twice_comes_back_as_far_as_it_is_unchanged(local: World) -> None:
    add_posts(local, f"{OLD}{NAMES[0]}")
    first = rewrite(local)
    local.sql("UPDATE post SET body = :body", body=f"{NEW}{NAMES[0]} {OLD}{NAMES[1]}")
    second = rewrite(local)
    assert posts(local) == [f"{NEW}{NAMES[0]} {NEW}{NAMES[1]}"]
    assert put_back(local, second.run).exit_code == 0
    assert posts(local) == [f"{NEW}{NAMES[0]} {OLD}{NAMES[1]}"]
    assert put_back(local, first.run).exit_code == 1


def test_the_revert_of_the_move_names_the_changed_texts_and_purge_keeps_their_objects(local: World) -> None:
    add_posts(local, f"{OLD}{NAMES[0]}")
    report = rewrite(local)
    undone = RevertJob(local.application, RevertOptions(settle_time=0.0)).run()
    [note] = [note for note in undone.notes if note.code == "links.rewritten"]
    assert (note.subject, note.todo) == (report.run, f"migrate-storage revert {report.run}")
    purged = purge(local, unreferenced_copies=True)
    assert (purged.counts[OutcomeKind.KEPT], purged.counts[OutcomeKind.DELETED]) == (1, 4)
    put_back(local, report.run)
    assert purge(local, unreferenced_copies=True).counts == {OutcomeKind.DELETED: 1}


def test_the_journal_forgets_a_run_that_is_pruned(local: World) -> None:
    add_posts(local, f"{OLD}{NAMES[0]}")
    report = rewrite(local)
    with closing(Database(local.url)) as database:
        journal = Journal(database)
        assert journal.links.count_open(report.run) == 1
        while database.transaction(lambda connection: journal.tables.prune(connection, database.time() + 60)):
            pass
        assert journal.links.count_open(report.run) == 0
