"""What to write for options whose expression may be ``None`` when the code runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from migrate_storage.core.model import Note
from migrate_storage.translate.codemod.literals import NotLiteralError, Values
from migrate_storage.translate.codemod.parse_call import Found
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import mapping

__all__ = ("decide_address", "leave_style_open", "notes_about_none")


def leave_style_open(options: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """Return the options of an ``S3FileSystem`` without the style, where the endpoint is only known at run time."""
    endpoint = _find_endpoint(options)
    settings = mapping(options.get("config_kwargs"))
    if (
        not isinstance(endpoint, str)
        or not values.is_placeholder(endpoint)
        or "addressing_style" not in mapping(settings.get("s3"))
    ):
        return dict(options)
    s3 = {name: value for name, value in mapping(settings["s3"]).items() if name != "addressing_style"}
    return {**options, "config_kwargs": {**settings, "s3": s3}}


def decide_address(root: str, options: Mapping[str, Any], found: Found, values: Values) -> dict[str, Any]:
    """Return the options of a store on S3 with botocore's style where run time decides endpoint or region.

    botocore takes both from variables and from the files of AWS where the code gives none, and the style with them.

    Raises:
        NotLiteralError: another option counts only where no endpoint is given.
    """
    result = dict(options)
    given = _find_endpoint(found.options)
    settings = mapping(found.options.get("config_kwargs"))
    dependent = _find_dependent_options(found, settings)
    of_run_time = isinstance(given, str) and values.is_placeholder(given)
    if of_run_time and dependent and values.may_be_none(given):
        raise NotLiteralError(
            f"the value of endpoint_url is not written out, and {dependent[0]} counts without it only"
        )
    if given is None and (dependent or "s3_express" in options or root.startswith("arn:")):
        return result
    if given is not None and not of_run_time and not _lacks_region(found):
        return result
    result.pop("endpoint", None)
    if given is not None:
        result["endpoint"] = given
    if given is not None and _lacks_region(found):
        result.pop("region", None)
    style = mapping(settings.get("s3")).get("addressing_style")
    return {**result, "virtual_hosted_style_request": style if style in ("auto", "path", "virtual") else "default"}


def _find_dependent_options(found: Found, settings: Mapping[str, Any]) -> list[str]:
    """Return the options that count only where no endpoint is given."""
    s3, client = mapping(settings.get("s3")), mapping(found.options.get("client_kwargs"))
    names = ("use_accelerate_endpoint", "use_dualstack_endpoint", "use_fips_endpoint")
    dependent = [name for name in names if settings.get(name) or s3.get(name)]
    return dependent + (["use_ssl"] if client.get("use_ssl", found.options.get("use_ssl", True)) is False else [])


def _find_endpoint(options: Mapping[str, Any]) -> Any:
    """Return the endpoint that a call gives, or what represents its expression; ``None`` where it gives none."""
    return options.get("endpoint_url") or mapping(options.get("client_kwargs")).get("endpoint_url") or None


def _lacks_region(found: Found) -> bool:
    given = (mapping(found.options.get(name)).get("region_name") for name in ("client_kwargs", "config_kwargs"))
    return not any(given)


def notes_about_none(service: str, found: Found, values: Values) -> Iterator[Note]:
    """Yield what is to be known about options that may be ``None`` when the code runs."""
    client = mapping(found.options.get("client_kwargs"))
    endpoint = _find_endpoint(found.options)
    unknown = isinstance(endpoint, str) and values.is_placeholder(endpoint) and values.may_be_none(endpoint)
    if service == "s3" and unknown and not found.options.get("profile") and _lacks_region(found):
        yield note("s3.region.missing", "client_kwargs.region_name")
    for name, value in {**found.options, **client}.items():
        if name != "endpoint_url" and isinstance(value, str) and values.is_optional(value):
            yield note("option.none", name)
