"""``--dask`` and ``--workers``: a real cluster on loopback, its workers killed and stopped in the middle."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner
from distributed import Client, LocalCluster

from migrate_storage.cli import cli, dask_worker
from migrate_storage.jobs.distributed import dask_driver, dask_task
from tests.support.distributed.sites import ROOT, Site, Sites, ended, start_halfway, suspend_between_transactions, until
from tests.support.evidence import Evidence
from tests.support.schemas import check_record, check_schema

COUNT = 64
KEY = re.compile(r"migrate-storage-(run|sync|verify)-[0-9a-f-]+-range-(\d+-of-\d+|end)-try-\d+")


class Cluster:
    """Two workers, and the file in which they find the world of the test that runs."""

    def __init__(self, cluster: LocalCluster, client: Client, file: Path) -> None:
        self.cluster, self.client, self.file = cluster, client, file

    def serve(self, site: Site) -> list[str]:
        """Let the workers find a site; returns what to say to the command."""
        shutil.copy(site.file, self.file)
        return ["--dask", self.cluster.scheduler_address]

    @property
    def workers(self) -> dict[str, psutil.Process]:
        """By address."""
        return {address: psutil.Process(pid) for address, pid in self.client.run(os.getpid).items()}

    def at_work(self) -> psutil.Process:
        """A worker that has a task."""
        found: list[str] = []
        until(lambda: found.extend(address for address, keys in self.client.processing().items() if keys) or found)
        return self.workers[found[0]]

    def tasks_under_way(self) -> list[int]:
        """Count the tasks that each worker has in its threads; each has to be awake to answer."""
        return list(self.client.run(lambda dask_worker: len(dask_worker.active_threads)).values())

    @property
    def keys(self) -> set[str]:
        """The names of all tasks that the scheduler knows of, or knew."""
        return {str(each[0]) for each in list(self.cluster.scheduler.transition_log)}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    file = tmp_path_factory.mktemp("cluster") / "world.json"
    environment = {"WORLD_FILE": str(file), "PYTHONPATH": str(ROOT)}
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", memory_limit=0,
            env=environment, silence_logs=50,
        ) as made,
        Client(made, set_as_default=False) as client,
    ):  # fmt: skip
        yield Cluster(made, client, file)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, rclone_s3: Any) -> Iterator[dict[str, Any]]:
    """What one process makes of the rows."""
    from tests.support.server_fixtures import ensure_service
    from tests.support.servers import DatabaseServer

    file = tmp_path_factory.mktemp("alone") / "world.json"
    with DatabaseServer(service=ensure_service("postgres")).database() as url:
        site = Site(url, rclone_s3, (rclone_s3.new_bucket(), rclone_s3.new_bucket()), file)
        site.fill(COUNT)
        site.do("run")
        yield {"rows": site.rows, "objects": site.objects(), "report": site.report()}
        site.world.close()


def same(site: Site, alone: dict[str, Any]) -> None:
    """Rows and objects are what one process makes of them, and every range is done."""
    assert site.rows == alone["rows"]
    assert site.objects() == alone["objects"]
    report = site.report()
    for name in ("state", "rows_remaining", "rows_repointed", "problem_count", "counts", "exit_code"):
        assert report[name] == alone["report"][name], name
    assert all(each.done for each in site.ranges)
    assert len(site.ranges) == 9
    assert site.world.check(backend="new")


def test_a_cluster_does_what_one_process_does(site: Site, cluster: Cluster, alone: dict[str, Any]) -> None:
    site.fill(COUNT)
    said, _ = site.do("run", *cluster.serve(site), "--json")
    same(site, alone)
    told = [json.loads(line) for line in said.splitlines()]
    for line in told:
        check_record(line)
    assert told[-1]["event"] == "report"
    assert told[-1]["rows_repointed"] == alone["report"]["rows_repointed"]
    assert [each["objects"] for each in told if each["event"] == "progress"][-1] >= len(site.objects())
    keys = {key for key in cluster.keys if key.startswith("migrate-storage")}
    assert len(keys) >= 9
    assert all(KEY.fullmatch(key) for key in keys), keys
    site.do("run", *cluster.serve(site))
    assert site.report()["rows_repointed"] == 0


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_time_only(site: Site, cluster: Cluster, alone: dict[str, Any]) -> None:
    site.fill(COUNT)
    [driver] = start_halfway(site, ("run", *cluster.serve(site)))
    cluster.at_work().kill()
    site.open_gate()
    ended(driver, 0)
    same(site, alone)
    until(lambda: len(cluster.workers) == 2)


@pytest.mark.slow
def test_a_worker_that_slept_past_its_lease_wakes_up_without_harm(
    site: Site, cluster: Cluster, alone: dict[str, Any]
) -> None:
    site.fill(COUNT)
    [driver] = start_halfway(site, ("run", *cluster.serve(site)))
    sleeper = cluster.at_work()
    suspend_between_transactions(site, sleeper)
    site.open_gate()
    try:
        ended(driver, 0)
        same(site, alone)
        journal = site.world.sql("SELECT * FROM migrate_storage_object ORDER BY id")
    finally:
        sleeper.resume()
    until(lambda: not any(cluster.tasks_under_way()))
    same(site, alone)
    assert site.world.sql("SELECT * FROM migrate_storage_object ORDER BY id") == journal


@pytest.mark.slow
def test_a_hand_on_a_cluster(site: Site, cluster: Cluster, alone: dict[str, Any]) -> None:
    site.fill(COUNT)
    [driver] = start_halfway(site, ("run", *cluster.serve(site), "--concurrency", "2"))
    site.do("control", "pause")
    progress = "SELECT progress FROM migrate_storage_run WHERE kind <> 'census'"
    until(lambda: (told := site.world.sql(progress)[0][0]) and json.loads(told)["paused"])
    status = json.loads(site.do("status", "--json")[0])
    check_schema(status, "run.json")
    assert status["progress"]["shards"] == 2
    site.open_gate()
    still = site.moved_at_rest()
    site.close_gate()
    site.do("control", "resume")
    until(lambda: not json.loads(site.world.sql(progress)[0][0])["paused"])
    site.open_gate()
    until(lambda: site.moved() > still)
    site.close_gate()
    site.do("control", "stop")
    ended(driver, 130)
    site.open_gate()
    assert site.report()["state"] == "interrupted"
    assert site.moved() < alone["report"]["rows_repointed"]
    site.do("run", *cluster.serve(site))
    assert site.rows == alone["rows"]
    assert site.objects() == alone["objects"]


@pytest.mark.slow
def test_a_driver_that_is_killed_is_started_again(site: Site, cluster: Cluster, alone: dict[str, Any]) -> None:
    site.fill(COUNT)
    [driver] = start_halfway(site, ("run", *cluster.serve(site)))
    driver.kill()
    driver.communicate()
    site.open_gate()
    site.do("run", *cluster.serve(site))
    same(site, alone)
    assert len(site.world.sql("SELECT id FROM migrate_storage_run WHERE kind <> 'census'")) == 1


@pytest.mark.slow
def test_limits_losses_and_what_cannot_be_done(site: Site, cluster: Cluster) -> None:
    site.fill(COUNT)
    site.do("run", *cluster.serve(site), "--max-bytes", "2000", code=4)
    lost = next(file["filename"] for file in site.rows["documents"] if file["backend"] == "old")
    site.world.old.delete_object(lost)
    said, _ = site.do("run", *cluster.serve(site), code=1)
    assert lost in said
    assert (site.report()["problem_count"], site.report()["rows_remaining"]) == (1, 1)
    cluster.file.write_text(
        json.dumps({"url": "postgresql+psycopg://nobody@127.0.0.1:1/x", "backends": [], "gate": ""})
    )
    _, errors = site.do("run", "--dask", cluster.cluster.scheduler_address, code=2)
    assert "a worker cannot do it" in errors
    _, errors = site.do("run", "--dask", "tcp://127.0.0.1:1", code=2)
    assert "no scheduler answers" in errors


def test_sync_and_verify_on_a_cluster(site: Site, cluster: Cluster) -> None:
    site.fill(COUNT)
    journal = {"MIGRATE_STORAGE_JOURNAL": site.url}
    cluster.client.wait_for_workers(2, timeout=60)  # one may have been killed just now
    cluster.client.run(lambda: os.environ.update(journal))
    try:
        site.do("sync", "old", "new", *cluster.serve(site), **journal)
    finally:
        cluster.client.run(lambda: os.environ.pop("MIGRATE_STORAGE_JOURNAL"))
    assert {key: each[0] for key, each in site.objects().items()} == {
        key: each[0] for key, each in site.objects(0).items()
    }
    assert site.report()["counts"] == {"copied": len(site.objects())}
    site.do("run")
    one = json.loads(site.do("verify", "--read-content", "--json")[0].splitlines()[-1])
    site.do("verify", "--read-content", *cluster.serve(site))
    assert site.report()["counts"] == one["counts"]
    assert site.report()["verified_by"] == one["verified_by"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_larger_job_with_workers_that_die_and_sleep(
    site: Site, sites: Sites, cluster: Cluster, evidence: Evidence
) -> None:
    """Thousands of rows, a worker killed and one stopped past its lease, again and again, until all is done."""
    count = 6000
    site.fill(count)
    one = sites()
    one.fill(count)
    one.do("run")
    driver = site.start("run", *cluster.serve(site), "--lease-ttl", "3")
    killed = slept = 0
    while driver.poll() is None:
        time.sleep(6)
        busy = [address for address, keys in cluster.client.processing().items() if keys]
        victim = cluster.workers.get(busy[0]) if busy else None
        if victim is None:
            continue
        if killed <= slept:
            victim.kill()
            killed += 1
        else:
            victim.suspend()
            slept += 1
            time.sleep(8)
            victim.resume()
    ended(driver, 0)
    time.sleep(3)
    assert site.rows == one.rows
    assert site.objects() == one.objects()
    files = site.world.check(backend="new")
    assert killed
    assert slept
    evidence.record(
        "A cluster whose workers are killed and put to sleep makes of rows and objects what one process makes of them.",
        rows=site.report()["rows_repointed"], objects=len(site.objects()), files=files, killed=killed, slept=slept,
        ranges=len(site.ranges),
    )  # fmt: skip


def test_a_large_run_uses_the_idle_cores(sites: Sites, alone: dict[str, Any]) -> None:
    site = sites()
    site.fill(COUNT)
    # A password that must reach the workers, and by no task.
    options = ("run", "--database", site.url, "--journal", site.url)
    _, errors = site.do(*options, WORLD_IDLE_CORES="2")
    assert re.search(r"^2 processes: \d+ rows left, 2 idle cores; --workers 1 uses one process$", errors, re.MULTILINE)
    assert len(site.ranges) > 2
    assert site.rows == alone["rows"]
    assert site.objects() == alone["objects"]


@pytest.mark.parametrize(
    ("options", "cores"),
    [(("--workers", "1"), 2), (("--json",), 2), ((), 1)],
)
def test_one_process_does_the_rest(sites: Sites, options: tuple[str, ...], cores: int) -> None:
    site = sites()
    site.fill(COUNT)
    _, errors = site.do("run", *options, WORLD_IDLE_CORES=str(cores))
    assert "processes" not in errors
    assert site.ranges == []
    assert site.report()["rows_remaining"] == 0


def test_processes_that_do_not_start_are_no_error(sites: Sites) -> None:
    site = sites()
    site.fill(COUNT)
    _, errors = site.do("run", WORLD_IDLE_CORES="2", WORLD_CLUSTER="none")
    assert "one process: no process starts" in errors
    assert site.report()["rows_remaining"] == 0


def test_no_task_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted in every option and variable that may hold one; what travels is pickled as Dask does it."""
    mark = "pl4nt3d"
    planted = {
        "MIGRATE_STORAGE_DATABASE": f"postgresql+psycopg://me:{mark}-a@127.0.0.1:1/x",
        "MIGRATE_STORAGE_JOURNAL": f"postgresql+psycopg://me:{mark}-b@127.0.0.1:1/x",
        "MIGRATE_STORAGE_REPLICAS": f"postgresql+psycopg://me:{mark}-c@127.0.0.1:1/x",
        "MIGRATE_STORAGE_THROTTLE_QUERY": f"SELECT '{mark}-d'",
        "AWS_SECRET_ACCESS_KEY": f"{mark}-e",
        "WORLD_FILE": f"/{mark}-f",
    }
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    sent: list[tuple[str, ...]] = []

    class CaughtError(Exception):
        pass

    def caught(job: object, arguments: list[str], **_: object) -> None:
        sent.append(tuple(arguments))
        raise CaughtError

    monkeypatch.setattr(dask_driver, "DaskDriver", caught)
    monkeypatch.setattr(
        "migrate_storage.cli.application_options.ApplicationOptions.open", lambda options, **_: _Application()
    )
    more = [
        "--from",
        "old",
        "--to",
        "new",
        "--where",
        "id > 3",
        "--max-replica-lag",
        "5",
        "--bandwidth",
        "10M",
        "--exclude",
        "*.tmp",
    ]
    CliRunner().invoke(cli, ["run", "--dask", "tcp://127.0.0.1:1", "--app", "x:y", *more])
    [arguments] = sent
    task = dask_task.Task(arguments=arguments, run="20260101-000000-abcdef01", number=3)
    pickled = pickle.dumps((dask_worker.work, task))
    assert mark.encode() not in pickled
    for said in ("x:y", "id > 3", "*.tmp", "10M"):
        assert said.encode() in pickled
    assert KEY.fullmatch(task.key("run", 8, 1))
    for option in ("--database", "--journal", "--replicas"):
        ended_with = CliRunner().invoke(
            cli, ["run", "--dask", "tcp://127.0.0.1:1", "--app", "x:y", *more, option, "sqlite://"]
        )
        assert "stays out of tasks" in str(ended_with.exception) + ended_with.output
    assert len(sent) == 1


class _Application:
    def __init__(self) -> None:
        self.backends: dict[str, Any] = {"old": None, "new": None}

    def close(self) -> None:
        pass
