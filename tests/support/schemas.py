"""The JSON schemas of ``docs/schemas``, each also without any property that it does not name."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.support.cli.project import ROOT

SCHEMAS = {path.name: json.loads(path.read_text()) for path in sorted((ROOT / "docs" / "schemas").glob("*.json"))}

LINES = SCHEMAS["line.json"]["$defs"]

SEEN: set[str] = set()


def closed(schema: Any) -> Any:
    """Return the schema with no property allowed that it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "allOf" not in schema:
        inner.setdefault("additionalProperties", False)
    return inner


CLOSED = {name: closed(schema) for name, schema in SCHEMAS.items()}

OPEN = Registry().with_resources([(name, Resource.from_contents(each)) for name, each in SCHEMAS.items()])

STRICT = Registry().with_resources([(name, Resource.from_contents(each)) for name, each in CLOSED.items()])


def check_schema(value: Any, schema: str) -> None:
    """Check a value against a schema as it is, and without unnamed properties."""
    for registry in (OPEN, STRICT):
        errors = list(Draft202012Validator({"$ref": schema}, registry=registry).iter_errors(value))
        assert not errors, f"{schema}: {errors[0].json_path}: {errors[0].message[:500]}\n{json.dumps(value)[:500]}"


def check_record(record: dict[str, Any]) -> None:
    """Check a line of ``--json`` against the schema of its event."""
    event = record["event"]
    SEEN.add(event)
    # Properties that a record takes from another schema are checked there, without the name of the event.
    taken = LINES[event].get("allOf", [])
    if taken:
        check_schema({name: value for name, value in record.items() if name not in ("event", "key")}, taken[0]["$ref"])
    else:
        check_schema(record, f"line.json#/$defs/{event}")
    assert not list(Draft202012Validator({"$ref": "line.json"}, registry=OPEN).iter_errors(record))
