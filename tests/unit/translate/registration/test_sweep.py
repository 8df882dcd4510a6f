"""Thousands of S3 configurations: obstore asks the URL that s3fs asks, or the translation refuses with a reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.exceptions import NoCredentialsError

from migrate_storage import ObstoreBackend
from migrate_storage.stores.config.url_check import compare_urls, requested_by_store
from migrate_storage.translate.registration import read_filesystem
from migrate_storage.translate.registration.requested_url import RequestedUrl
from tests.support.evidence import Evidence
from tests.support.translate.aws_sweep import (
    Configuration,
    asked_by_s3fs,
    configurations,
    isolate_aws,
    share_botocore_data,
)
from tests.support.translate.public_configurations import PUBLIC

SEED = 23
KEY = "a folder/name+ü.txt"


def compare(configuration: Configuration) -> tuple[str, str]:
    """Return what became of a configuration, and the difference if there is one."""
    filesystem = configuration.filesystem()
    registration = read_filesystem(filesystem, configuration.bucket)
    try:
        asked = asked_by_s3fs(filesystem, configuration.bucket, KEY)
    except NoCredentialsError:
        return "no credentials", ""
    except Exception as error:
        return "s3fs fails", "" if registration.translation.config is None else f"translated, but s3fs: {error!r}"[:200]
    config = registration.translation.config
    if config is None:
        assert all(note.todo and note.message for note in registration.translation.refused)
        return f"refused: {registration.translation.refused[0].code}", ""
    place = registration.place(KEY)
    ours = requested_by_store(registration.config_at(place), place)
    if ours != asked.opened:
        return "different", f"s3fs asks {asked.opened}, obstore {ours}"
    if asked.signed and (said := compare_signed(asked.signed, ours)):
        return "different", said
    if said := compare_urls(registration, KEY).difference:
        return "different", f"the product's own check: {said}"
    if asked.key_id and not config.options.get("s3_express"):
        signed = str(ObstoreBackend("k", config).sign("x"))
        ours_id = parse_qs(urlsplit(signed).query)["X-Amz-Credential"][0].split("/")[0]
        if ours_id != asked.key_id:
            return "different", f"s3fs signs as {asked.key_id}, obstore as {ours_id}"
    return "equal", ""


def compare_signed(signed: RequestedUrl, ours: RequestedUrl) -> str:
    """Return the difference between the URL that s3fs signs and the one of obstore."""
    # botocore signs for the global endpoint of AWS where the addressing style is not said.
    at_global = {
        ours.host.replace(f".{ours.region.lower()}.amazonaws.com", f"{there}.amazonaws.com")
        for there in ("", ".us-east-1")
    }
    if signed.host not in {ours.host, *at_global} or replace(signed, host=ours.host) != ours:
        return f"s3fs signs {signed}, obstore {ours}"
    return ""


def sweep(count: int, seed: int, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Counter[str]:
    share_botocore_data(monkeypatch)
    outcomes: Counter[str] = Counter()
    differences = []
    for configuration in configurations(count, seed):
        with monkeypatch.context() as patch:
            isolate_aws(patch, folder, configuration.environment)
            outcome, difference = compare(configuration)
        outcomes[outcome] += 1
        if difference:
            differences.append(f"{difference}\n    {configuration}")
    assert not differences, "\n".join(differences)
    return outcomes


def check_counts(outcomes: Counter[str]) -> None:
    """Most configurations that s3fs can use are translated: a refusal of everything would be no proof."""
    refused = sum(count for outcome, count in outcomes.items() if outcome.startswith("refused"))
    assert outcomes["equal"] > 10 * refused
    assert outcomes["equal"] > outcomes["s3fs fails"]


def test_a_tenth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check_counts(sweep(200, SEED, monkeypatch, tmp_path))


#: botocore refuses them: an empty text is no endpoint and no region.
REFUSED_SHAPES = frozenset({"an empty region of a variable", "an endpoint without a scheme"})


def test_shapes_of_public_repositories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    share_botocore_data(monkeypatch)
    assert len(PUBLIC) >= 30
    assert sum(bool(configuration.news) for configuration in PUBLIC.values()) >= 10
    found = {}
    for name, configuration in PUBLIC.items():
        with monkeypatch.context() as patch:
            isolate_aws(patch, tmp_path, configuration.environment)
            found[name] = compare(configuration)
    assert {name: said for name, (_, said) in found.items() if said} == {}
    assert {name for name, (outcome, _) in found.items() if outcome != "equal"} == REFUSED_SHAPES, found


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, evidence: Evidence) -> None:
    outcomes = sweep(2_500, SEED + 1, monkeypatch, tmp_path)
    check_counts(outcomes)
    evidence.record("what s3fs signs and what obstore signs, compared for made-up configurations", **outcomes)
