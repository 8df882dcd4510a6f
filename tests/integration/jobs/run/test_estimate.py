"""What a plan says that a run would take, against what the run then takes; and what it costs."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.__main__ import main
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.engine import listing_evidence, place_proof
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.reporting import Cost, Estimate, render
from migrate_storage.reporting.prices import load_prices
from migrate_storage.stores.retry import Retry
from tests.support import ROOT
from tests.support.engine import registrations as places
from tests.support.engine.world import Document, World
from tests.support.servers import AzureServer, S3Server

MiB = 1024 * 1024


@pytest.mark.parametrize("kind", ["rclone_s3", "moto_s3"])
@pytest.mark.parametrize("listed", [False, True])
def test_the_requests_are_those_of_the_run(
    request: pytest.FixtureRequest,
    proxied_world,
    kind: str,
    listed: bool,
    monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:
    """Where listings stand for looks, those are fewer."""
    monkeypatch.setattr(listing_evidence, "MIN_WANTED_OBJECTS", 20 if listed else 10**9)
    made = proxied_world(request.getfixturevalue(kind), 30)
    world, bodies = made.world, {1: b"1" * (9 * MiB), 2: b"2" * (21 * MiB)}
    for number, body in bodies.items():
        world.old.save_object(FileObject(backend="old", filename=f"large{number}"), body)
        value = json.dumps({"backend": "old", "filename": f"large{number}", "metadata": {}})
        world.sql(f"UPDATE documents SET file = '{value}' WHERE id = {number}")
    told = world.run(dry_run=True, probe=4).estimate
    assert told is not None
    assert (told.objects, told.in_parts, told.twice, told.destination_bytes) == (30, 2, 0, 0)
    assert told.bytes == told.source_bytes > 30 * MiB
    before = made.source.requests, made.destination.requests
    report = world.run(consistent_listings=("old",) if listed else ())
    assert report.counts == {OutcomeKind.REPOINTED: 30}
    assert report.bytes_copied == told.bytes
    source, destination = made.source.requests - before[0], made.destination.requests - before[1]
    few = 27  # what a run asks for once, however many objects there are, and a listing or two more
    proof = (
        7 * place_proof.MAX_COMPARED
    )  # HEADs and GETs of the objects by which the filesystem and obstore are compared
    assert told.source_reads == 30 * 4
    assert (30 if listed else 30 * 4) <= source <= (30 if listed else 30 * 4) + few + proof
    assert told.destination_writes == 28 + (2 + 2) + (2 + 3)
    most = told.destination_writes + told.destination_reads
    asked = most - 28 if listed else most
    assert asked - 30 <= destination <= asked + few, "a store that refuses to replace is not asked first"


def test_what_tells_no_digest_is_read_twice_and_what_is_archived_is_named(
    moto_s3: S3Server, azurite, sqlite_url: str
) -> None:
    bucket = moto_s3.new_bucket()
    world = World(
        sqlite_url,
        FSSpecBackend(key="old", fs=moto_s3.fs(), prefix=bucket),
        places.new_azure(azurite, azurite.new_container()).build(),
    )
    world.fill(6)
    name = next(name for name in world.contents if name.endswith("d2.bin"))
    place = {"Bucket": bucket, "Key": name}
    moto_s3.client.copy_object(**place, CopySource=place, StorageClass="GLACIER", MetadataDirective="COPY")
    report = world.run(dry_run=True, probe=100)
    told = report.estimate
    assert told is not None
    assert told.archived == (name,)
    assert (told.objects, told.probed) == (6, 5)
    assert told.probed_bytes == sum(len(body) for other, body in world.contents.items() if other != name)
    assert told.destination_bytes == told.bytes, "Azure's tags prove nothing, so all is read back"
    assert (told.seconds or 0) > 0
    assert (
        f"archived     1 of 6 that were tried: restore them first, or they are listed\n               {name}"
        in render(report)
    )


def test_between_disks_there_are_no_requests_and_a_limit_makes_it_longer(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    world = World(
        sqlite_url,
        FSSpecBackend(key="old", fs=fsspec.filesystem("file", auto_mkdir=True), prefix=str(tmp_path / "old")),
        ObstoreBackend(key="new", fs=tmp_path / "new"),
    )
    # Smaller files would be compared by content before the probe, at the same limit.
    content = bytes(2 * 1024 * 1024)
    world.add(*(Document(id=i, title="", file=world.file(f"{i}.bin", content)) for i in range(1, 6)))
    quick = world.run(dry_run=True, probe=5).estimate
    slow = world.run(dry_run=True, probe=5, bandwidth=200_000).estimate
    unread = world.run(dry_run=True).estimate
    assert quick is not None
    assert slow is not None
    assert unread is not None
    assert (quick.source_reads, quick.destination_writes, quick.destination_reads, quick.twice) == (0, 0, 0, 0)
    assert slow.bytes == quick.bytes
    assert slow.seconds == pytest.approx(slow.bytes / 200_000)
    assert slow.probed < quick.probed == 5, "the probe keeps to the limit, and ends in seconds all the same"
    assert (unread.probed, unread.seconds, unread.objects) == (0, None, 5)
    assert world.run().estimate is None, "a run needs none"
    assert world.run(dry_run=True, probe=5).estimate is None, "nothing is left to copy"


def test_the_costs_are_the_products_and_the_example_is_one(tmp_path: Path) -> None:
    prices = load_prices(ROOT / "docs" / "prices.toml")
    gib = 1024**3
    told = prices.add_costs(
        Estimate(
            objects=1000,
            bytes=gib,
            source_reads=4000,
            source_bytes=2 * gib,
            destination_writes=2000,
            destination_reads=3000,
            destination_bytes=gib,
        )
    )
    assert told.costs == (
        Cost(what="2.0 GiB leave the source", amount=2 * 0.12),
        Cost(what="4,000 reads at the source", amount=4 * 0.0004),
        Cost(what="2,000 writes at the destination", amount=2 * 0.0045),
        Cost(what="3,000 reads at the destination, at most", amount=3 * 0.00036),
        Cost(what="1.0 GiB kept at the destination", amount=0.015, monthly=True),
    )
    assert (told.currency, Estimate.from_dict(json.loads(json.dumps(told.to_dict())))) == ("USD", told)
    text = (ROOT / "docs" / "prices.toml").read_text()
    priced = [line for line in text.splitlines() if re.match(r"(reads|writes|egress|storage) =", line)]
    assert len(priced) == 16
    assert all("https://" in line for line in priced), "each price has its page beside it"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read: No such file or directory"),
        ("[source", "is no TOML"),
        ("[sourec]\n", "'sourec' is not known"),
        ("source = 3", "source is a table"),
        ('source = "gone"', "there is no [service.gone]"),
        ("service = 3", "service is a table of tables"),
        ("[service]\nold = 3", "service.old is a table"),
        ("[service.old]\nsize = 3", "[service.old] size: there is date, writes"),
        ("[service.old]\nreads = -3", "[service.old] reads is a number"),
        ("[source]\nstorage = 1", "[source] storage: there is reads, egress"),
        ("[source]\nreads = -1", "[source] reads is a number, 0 or more"),
        ("[source]\nreads = true", "[source] reads is a number"),
        ("[source]\nreads = nan", "[source] reads is a number"),
    ],
)
def test_a_file_of_prices_that_is_wrong_is_one_line(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "prices.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        load_prices(path)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_command_says_it_as_text_and_as_json(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    world = World(
        sqlite_url,
        FSSpecBackend(key="old", fs=fsspec.filesystem("file", auto_mkdir=True), prefix=str(old)),
        ObstoreBackend(key="new", fs=new),
    )
    world.fill(5)
    monkeypatch.chdir(tmp_path)
    Path("migrate-storage.toml").write_text(
        f'database = "{sqlite_url}"\ncolumns = ["documents.file"]\nfrom = "old"\nto = "new"\n'
        f'[source]\nkey = "old"\nfs = "file"\nprefix = "{old}"\n[destination]\nkey = "new"\nfs = "file://{new}"\n'
    )
    Path("prices.toml").write_text(
        'currency = "EUR"\ndate = 2026-01-02\n[source]\negress = 1e9\n[destination]\nstorage = 1e9\n'
    )
    assert main(["plan", "--prices", "prices.toml", "--quiet"]) == 0
    assert main(["plan", "--prices", "prices.toml"]) == 0
    said = capsys.readouterr().out
    assert "The run would take\n  to copy      5 objects," in said
    assert " EUR a month: " in said
    assert " EUR once, at the prices of 2026-01-02\n" in said
    assert main(["plan", "--json", "--probe", "2"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["estimate"]
    assert (told["objects"], told["probed"], told["costs"]) == (5, 2, [])
    assert main(["plan", "--prices", "gone.toml"]) == 2
    assert capsys.readouterr().err == "migrate-storage: --prices gone.toml: cannot be read: No such file or directory\n"


EXAMPLE = tomllib.loads((ROOT / "docs" / "prices.toml").read_text())["service"]


def test_a_plan_prints_each_price_of_the_example(
    rclone_s3: S3Server, azurite: AzureServer, sqlite_url: str, tmp_path: Path
) -> None:
    source = places.old_s3(rclone_s3, rclone_s3.new_bucket())
    destination = places.new_azure(azurite, azurite.new_container())
    world = World(sqlite_url, source.build(), destination.build())
    world.fill(5)
    report = world.run(dry_run=True)
    assert report.estimate is not None
    path = tmp_path / "prices.toml"
    # A currency in which so little costs enough to be seen.
    dear = re.compile(r"^(reads|writes|egress|storage) = ([\d.]+)", re.MULTILINE)
    text = dear.sub(r"\1 = \g<2>e9", (ROOT / "docs" / "prices.toml").read_text())
    for old, new in itertools.product(EXAMPLE, EXAMPLE):
        chosen = text.replace('source = "google"', f'source = "{old}"').replace(
            'destination = "r2"', f'destination = "{new}"'
        )
        path.write_text(chosen)
        said = render(replace(report, estimate=load_prices(path).add_costs(report.estimate)))
        for service, price, what in (
            (old, "egress", "leave the source"), (old, "reads", "reads at the source"),
            (new, "writes", "writes at the destination"), (new, "reads", "reads at the destination, at most"),
            (new, "egress", "read back, at most"), (new, "storage", "kept at the destination"),
        ):  # fmt: skip
            found = re.search(rf"([\d,.]+) USD( a month)?: [^\n]*{what}", said)
            assert bool(found) == bool(EXAMPLE[service][price]), (service, price, said)
            assert found is None or float(found[1].replace(",", "")) > 0
        assert f"at the prices of {min(EXAMPLE[old]['date'], EXAMPLE[new]['date'])}" in said


def test_a_plan_that_is_stopped_while_it_reads_says_what_it_found(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = FSSpecBackend(key="old", fs=fsspec.filesystem("file", auto_mkdir=True), prefix=str(tmp_path / "old"))
    world = World(sqlite_url, old, ObstoreBackend(key="new", fs=tmp_path / "new"))
    world.fill(5)
    job = RunJob(world.application, RunOptions(source="old", destination="new", dry_run=True, probe=5))
    real = Retry.call

    def stopped_at_the_first_read(retry: Retry, call):
        # Only the probe reads objects in a dry run.
        if getattr(call, "__qualname__", "") == "ObjectAt.open":
            job.stop()
        return real(retry, call)

    monkeypatch.setattr(Retry, "call", stopped_at_the_first_read)
    report = job.run()
    assert (report.state, report.exit_code, report.estimate) == ("interrupted", 130, None)
    assert report.counts == {OutcomeKind.REPOINTED: 5}
