"""Statements that create or change our tables, for a person who has the rights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table
from sqlalchemy.schema import CreateIndex, CreateSchema, CreateTable

from migrate_storage.database.dialects import dialect_of
from migrate_storage.journal.migrate import list_statements
from migrate_storage.journal.schema import Tables
from migrate_storage.journal.steps import current_version

__all__ = ("write_sql",)


def write_sql(connection: Connection, tables: Tables, application_role: str | None = None) -> str:
    """Return the statements that create the tables, or that bring older tables to the current version.

    Args:
        connection: whose role is to write to the tables.
        tables: the tables.
        application_role: a further role, for an application whose ``Outbox`` is in these tables.

    Raises:
        ConfigurationError: the tables have a newer version.
    """
    version = tables.read_version(connection)
    if version is not None and version != current_version():
        statements = ["BEGIN", *list_statements(connection, tables), "COMMIT"]
    else:
        statements = [*_create(connection, tables), *_grant(connection, tables, application_role)]
    return "".join(statement + ";\n" for statement in statements)


def _create(connection: Connection, tables: Tables) -> Iterator[str]:
    if tables.schema is not None:
        yield str(CreateSchema(tables.schema, if_not_exists=True).compile(connection)).strip()
    create_sequence = dialect_of(connection.dialect).create_sequence
    for table in tables.metadata.sorted_tables:
        if create_sequence and (column := table.autoincrement_column) is not None:
            yield create_sequence.format(_sequence_of(connection, table, column))
        yield str(CreateTable(table).compile(connection)).strip()
        for index in tables.indexes(connection, table):
            yield str(CreateIndex(index).compile(connection)).strip()
    name = connection.dialect.identifier_preparer.format_table(tables.version)
    yield f"INSERT INTO {name} (version, created) VALUES ({current_version()}, 0)"


def _grant(connection: Connection, tables: Tables, application_role: str | None) -> Iterator[str]:
    """Yield what lets the connection's role do every job, and the application's role act in a cutover."""
    if not dialect_of(connection.dialect).grants_by_table:
        return
    role, write = str(connection.exec_driver_sql("SELECT current_user").scalar_one()), "SELECT, INSERT, UPDATE, DELETE"
    yield from _grant_role(connection, role, {write: tables.metadata.sorted_tables}, on_schema="USAGE, CREATE")
    if application_role is not None:
        acting = (tables.outbox, tables.phase, tables.process)
        reading = (tables.version, tables.run, tables.object, tables.rekey, tables.rekey_object)
        yield from _grant_role(connection, application_role, {write: acting, "SELECT": reading}, on_schema="USAGE")


def _grant_role(
    connection: Connection, role: str, rights: Mapping[str, Sequence[Table]], *, on_schema: str
) -> Iterator[str]:
    """Yield the grants of tables by the words of GRANT, and of their schema unless it is the default one."""
    quote = connection.dialect.identifier_preparer
    to, schema = quote.quote_identifier(role), next(iter(rights.values()))[0].schema
    if schema is not None:
        yield f"GRANT {on_schema} ON SCHEMA {quote.quote_schema(schema)} TO {to}"
    for words, tables in rights.items():
        yield f"GRANT {words} ON {', '.join(map(quote.format_table, tables))} TO {to}"
        for table in tables if "INSERT" in words else ():
            if (column := table.autoincrement_column) is not None:
                yield f"GRANT USAGE ON SEQUENCE {_sequence_of(connection, table, column)} TO {to}"


def _sequence_of(connection: Connection, table: Table, column: Column[Any]) -> str:
    """The quoted name of the sequence that numbers a table."""
    sequence = Table(f"{table.name}_{column.name}_seq", MetaData(schema=table.schema))
    return connection.dialect.identifier_preparer.format_table(sequence)
