"""The public address of a backend's files is what its store is asked, or what a person gives."""

from __future__ import annotations

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.jobs.links.bases import Bases, choose_bases
from migrate_storage.stores.resolved_backend import ResolvedBackend
from tests.support.engine.registrations import Registration

KEYS = {"key": "AKIAEXAMPLE", "secret": "secret"}
AWS = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "secret", "aws_region": "eu-west-1"}


def old(prefix: str | None, **options: object) -> ResolvedBackend:
    region = {"client_kwargs": {"region_name": "eu-west-1"}}
    return ResolvedBackend(
        Registration(key="old", driver="fsspec", fs="s3", prefix=prefix, options={**KEYS, **region, **options}).build()
    )


def new(url: str = "s3://acme-files/", **options: object) -> ResolvedBackend:
    return ResolvedBackend(Registration(key="new", driver="obstore", fs=url, options={**AWS, **options}).build())


def choose(
    source: ResolvedBackend, *given: str, to: str | None = None, name: str = "a/b c.png", path: str = "a/b c.png"
) -> Bases:
    return choose_bases(source, new(), (given, to), [name], [(name, path)])


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of this machine counts."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("prefix", "name", "base"),
    [
        ("acme-uploads", "a.png", "https://acme-uploads.s3.eu-west-1.amazonaws.com/"),
        ("acme-uploads/media", "a.png", "https://acme-uploads.s3.eu-west-1.amazonaws.com/media/"),
        (None, "acme-uploads/a.png", "https://acme-uploads.s3.eu-west-1.amazonaws.com/=acme-uploads/"),
        ("acme.uploads", "a.png", "https://s3.eu-west-1.amazonaws.com/acme.uploads/"),
    ],
)
def test_the_address_is_what_the_store_is_asked(prefix: str | None, name: str, base: str) -> None:
    chosen = choose(old(prefix), name=name)
    assert [str(each) for each in chosen.shown] == [base]
    assert str(chosen.new) == "https://s3.eu-west-1.amazonaws.com/acme-files/"


def test_other_hosts_of_the_same_place_are_recognised() -> None:
    others = {str(each): each.reason for each in choose(old("acme-uploads/media")).old if each.reason}
    assert {
        "https://s3.eu-west-1.amazonaws.com/acme-uploads/media/", "https://acme-uploads.s3.amazonaws.com/media/",
        "https://s3.amazonaws.com/acme-uploads/media/",
    } <= set(others)  # fmt: skip
    assert set(others.values()) == {"another host of the same place"}


def test_what_a_person_gives_replaces_it_and_the_own_address_is_recognised() -> None:
    chosen = choose(old("acme-uploads"), "https://cdn.acme.com/", "/media/", to="https://files.acme.com/")
    assert [str(each) for each in chosen.shown] == ["https://cdn.acme.com/", "/media/"]
    assert str(chosen.new) == "https://files.acme.com/"
    assert "https://acme-uploads.s3.eu-west-1.amazonaws.com/" in [str(each) for each in chosen.old if each.reason]


def test_a_host_that_begins_with_the_bucket_needs_no_folder() -> None:
    source = old(None)
    assert (
        choose(source, "https://acme-uploads.s3.amazonaws.com/", name="acme-uploads/a.png").old[0].folder
        == "acme-uploads/"
    )
    assert (
        choose(source, "https://cdn.acme.com/=acme-uploads/", name="acme-uploads/a.png").old[0].folder
        == "acme-uploads/"
    )
    assert choose(source, "https://cdn.acme.com/", name="acme-uploads/a.png").old[0].folder == ""


def test_an_endpoint_of_its_own() -> None:
    source = old("acme-uploads", endpoint_url="http://minio.acme:9000")
    chosen = choose(source)
    assert [str(each) for each in chosen.shown] == ["http://minio.acme:9000/acme-uploads/"]
    assert [str(each) for each in chosen.old if each.reason] == ["http://acme-uploads.minio.acme:9000/"]


def test_a_place_without_an_address_is_refused_in_one_line() -> None:
    local = ResolvedBackend(Registration(key="old", driver="fsspec", fs="file", prefix="/srv/files").build())
    with pytest.raises(
        ConfigurationError, match=r"the public address of 'old' is not known .* give it with --from-address"
    ):
        choose(local)
    assert choose_bases(new(), local, ((), None), ["a"], [("a", "a")]).new is None
