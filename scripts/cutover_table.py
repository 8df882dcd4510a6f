"""The decision table of a cutover as Markdown: docs/cutover.md shows what the code decides."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from migrate_storage.cutover.decisions import Decision, Operation, Phase, Side, Trust, decide

__all__ = ("decision_table",)

ENTRIES: Mapping[str, Trust | None] = MappingProxyType(
    {
        "none": None,
        "source": Trust(side=Side.SOURCE),
        "source, deleted": Trust(side=Side.SOURCE, tombstone=True),
        "destination": Trust(side=Side.DESTINATION),
        "destination, deleted": Trust(side=Side.DESTINATION, tombstone=True),
    }
)


def decision_table() -> str:
    """Return one row for each phase and each group of operations and entries that have the same decision."""
    rows = ["| phase | operation | the key's entry | sides, in order | |", "| --- | --- | --- | --- | --- |"]
    for phase in Phase:
        operations_by_cells: dict[tuple[str, ...], list[Operation]] = {}
        for operation in Operation:
            entries_by_decision: dict[Decision, list[str]] = {}
            for name, trust in ENTRIES.items():
                entries_by_decision.setdefault(decide(phase, operation, trust), []).append(name)
            for decision, names in entries_by_decision.items():
                entries = "any" if len(entries_by_decision) == 1 else "; ".join(names)
                if not decision.entry:
                    entries = "not asked"
                cells = (entries, _format_sides(operation, decision), _describe_entry(operation, decision))
                operations_by_cells.setdefault(cells, []).append(operation)
        order = list(Operation)
        rows += [
            f"| {phase.name} | {', '.join(operations)} | {' | '.join(cells)} |"
            for cells, operations in sorted(operations_by_cells.items(), key=lambda item: order.index(item[1][0]))
        ]
    return "\n".join(rows) + "\n"


def _format_sides(operation: Operation, decision: Decision) -> str:
    if operation is Operation.LIST:
        return ", and what only the other has: ".join(decision.sides)
    writes = operation in (Operation.SAVE, Operation.DELETE)
    return (", then " if writes else ', on "not found" ').join(decision.sides)


def _describe_entry(operation: Operation, decision: Decision) -> str:
    if operation in (Operation.SAVE, Operation.DELETE):
        opened = "opens an entry" if decision.entry else ""
        return f"{opened}, which stays" if decision.entry and len(decision.sides) == 1 else opened
    if operation is Operation.LIST and decision.entry:
        return "a HEAD for each key with an entry"
    return "opens an entry until the URL expires" if operation is Operation.SIGN_UPLOAD else ""
