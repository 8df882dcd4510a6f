"""``--shard``: processes that know nothing of each other but the journal do one job."""

from __future__ import annotations

import json
import signal

import psutil
import pytest

from tests.support.distributed.sites import Site, Sites, ended, start_halfway, suspend_between_transactions, until

COUNT = 64


def test_three_at_once_do_what_one_does(sites: Sites) -> None:
    alone, together = sites(), sites()
    for site in (alone, together):
        site.fill(COUNT)
    alone.do("run")
    shards = [together.start("run", "--shard", f"{number}/3", "--json") for number in range(3)]
    for shard in shards:
        ended(shard, 0)
    assert together.rows == alone.rows
    assert together.objects() == alone.objects()
    assert together.world.check(backend="new") == alone.world.check(backend="new")
    assert [each.done for each in together.ranges] == [True] * 4
    runs = together.world.sql("SELECT id, state FROM migrate_storage_run WHERE kind <> 'census'")
    assert len(runs) == 1
    assert runs[0][1] == "completed"
    one, many = alone.report(), together.report()
    for name in ("rows_repointed", "rows_remaining", "problem_count", "counts", "exit_code"):
        assert many[name] == one[name], name


def test_all_of_them_give_the_names_of_one_rule(site: Site) -> None:
    site.fill(COUNT)
    before = {file.filename for file in site.world.files()}
    site.do("run", "--shard", "0/2", "--rename", "(.*)=>v2/\\1")
    _, errors = site.do("run", "--shard", "1/2", "--rename", "(.*)=>v3/\\1", code=2)
    assert "named its copies by --rename" in errors
    site.do("run", "--shard", "1/2", "--rename", "(.*)=>v2/\\1")
    assert {file.filename for file in site.world.files()} == {f"v2/{name}" for name in before}
    assert site.world.check(backend="new")
    assert site.report()["rows_remaining"] == 0


def test_shards_are_counted_from_zero_and_the_environment_says_so_too(site: Site) -> None:
    site.fill(8)
    _, errors = site.do("run", "--shard", "3/3", code=2)
    assert "counted from 0" in errors
    _, errors = site.do("run", "--shard", "1", code=2)
    assert "0/8" in errors
    _, errors = site.do("run", "--shard", "0/2", "--workers", "2", code=2)
    assert "exclude each other" in errors
    _, errors = site.do("run", "--shard", "0/2", "--limit", "3", code=2)
    assert "--limit" in errors
    site.do("run", MIGRATE_STORAGE_SHARD="1/2")
    assert [each.done for each in site.ranges] == [False, True, False]
    site.do("run", MIGRATE_STORAGE_SHARD="0/2")
    assert [each.done for each in site.ranges] == [True, True, True]
    assert site.world.check(backend="new")


@pytest.mark.slow
def test_one_that_was_killed_is_started_again(site: Site) -> None:
    site.fill(COUNT)
    [first] = start_halfway(site, ("run", "--shard", "0/2"))
    first.kill()
    first.communicate()
    site.open_gate()
    site.do("run", "--shard", "1/2")
    site.do("run", "--shard", "0/2")
    assert [each.done for each in site.ranges] == [True, True, True]
    assert site.report()["rows_remaining"] == 0
    assert site.report()["rows_repointed"] == site.moved()
    site.world.check(backend="new")
    site.do("run", "--shard", "0/2")
    assert len(site.world.sql("SELECT id FROM migrate_storage_run WHERE kind <> 'census'")) == 2, (
        "a run that is over is not joined"
    )


@pytest.mark.slow
def test_one_that_slept_past_its_lease_wakes_up_without_harm(site: Site) -> None:
    site.fill(COUNT)
    [sleeper] = start_halfway(site, ("run", "--shard", "0/1", "--json"))
    process = psutil.Process(sleeper.pid)
    suspend_between_transactions(site, process)
    site.open_gate()
    try:
        before = site.moved()
        site.do("run", "--shard", "0/1")
        rows, objects, dump = site.rows, site.objects(), site.world.sql("SELECT * FROM migrate_storage_row ORDER BY id")
        assert len(dump) > before
    finally:
        process.resume()
    said, errors = ended(sleeper, 3)
    assert "took the lease" in said + errors
    assert site.rows == rows
    assert site.objects() == objects
    assert site.world.sql("SELECT * FROM migrate_storage_row ORDER BY id") == dump
    assert site.report()["state"] == "completed"


@pytest.mark.slow
def test_what_was_reverted_is_done_again(site: Site) -> None:
    """A range that is done stays done only as long as nothing else was at work."""
    site.fill(COUNT)
    site.do("run", "--shard", "0/2")
    site.do("revert")
    assert site.world.check(backend="old")
    site.do("run", "--shard", "0/2")
    site.do("run", "--shard", "1/2")
    assert site.world.check(backend="new")


@pytest.mark.slow
def test_while_one_is_at_work_nothing_else_is(site: Site) -> None:
    site.fill(COUNT)
    [shard] = start_halfway(site, ("run", "--shard", "0/2"))
    site.do("control", "pause")
    refused = {"at work": [(), ("--shard", "0/3")], "does this very range": [("--shard", "0/2")]}
    waiting = [(says, site.start("run", *which)) for says, each in refused.items() for which in each]
    for says, process in waiting:
        assert says in ended(process, 2)[1]
    shard.send_signal(signal.SIGTERM)
    ended(shard, 143)
    site.open_gate()
    site.do("control", "resume")
    site.do("run", "--shard", "1/2")
    site.do("run", "--shard", "0/2")
    assert site.world.check(backend="new")


@pytest.mark.slow
def test_a_hand_on_all_of_them(site: Site) -> None:
    site.fill(COUNT)
    shards = start_halfway(site, *(("run", "--shard", f"{number}/2", "--concurrency", "2") for number in range(2)))
    site.do("control", "pause")
    progress = "SELECT progress FROM migrate_storage_run WHERE kind <> 'census'"
    until(lambda: (told := site.world.sql(progress)[0][0]) and json.loads(told)["paused"])
    site.do("control", "set", "--concurrency", "6")
    until(lambda: json.loads(site.world.sql(progress)[0][0])["most_concurrency"] == 6)
    said, _ = site.do("status")
    assert "paused" in said
    still = site.moved()
    site.do("control", "resume")
    until(lambda: not json.loads(site.world.sql(progress)[0][0])["paused"])
    site.open_gate()
    until(lambda: site.moved() > still)
    site.close_gate()
    site.do("control", "stop")
    for shard in shards:
        ended(shard, 130)
    site.open_gate()
    assert site.report()["state"] == "interrupted"
    for number in range(2):
        site.do("run", "--shard", f"{number}/2")
    assert site.world.check(backend="new")


@pytest.mark.slow
def test_limits_and_losses_have_the_same_exit_codes(site: Site) -> None:
    site.fill(COUNT)
    shards = [site.start("run", "--shard", f"{number}/2", "--max-bytes", "2000") for number in range(2)]
    for shard in shards:
        ended(shard, 4)
    assert site.report()["state"] == "limit_reached"
    lost = next(file["filename"] for file in site.rows["documents"] if file["backend"] == "old")
    site.world.old.delete_object(lost)
    site.do("run", "--shard", "1/2")
    said, _ = site.do("run", "--shard", "0/2", code=1)
    assert lost in said
    assert site.report()["problem_count"] == 1
    assert site.report()["rows_remaining"] == 1


def test_sync_and_verify_are_shared_too(site: Site) -> None:
    site.fill(COUNT)
    journal = ("--journal", site.url)
    for process in [site.start("sync", "old", "new", "--shard", f"{number}/3", *journal) for number in range(3)]:
        ended(process, 0)
    assert {key: content for key, (content, _) in site.objects().items()} == {
        key: content for key, (content, _) in site.objects(0).items()
    }
    assert site.report()["kind"] == "sync"
    assert site.report()["counts"]["copied"] == len(site.objects())
    site.do("run")
    one = json.loads(site.do("verify", "--read-content", "--json")[0].splitlines()[-1])
    shards = [site.start("verify", "--read-content", "--shard", f"{number}/3") for number in range(3)]
    for shard in shards:
        ended(shard, 0)
    whole = site.report()
    assert whole["kind"] == "verify"
    assert whole["counts"] == one["counts"]
    assert whole["verified_by"] == one["verified_by"]
    site.world.new.delete_object("docs/3/d3.bin")
    codes = [site.start("verify", "--shard", f"{number}/3") for number in range(3)]
    assert sorted({process.wait(60) for process in codes}) == [0, 1]
