"""Questions about the statements around a registration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import libcst as cst
from libcst import matchers

from migrate_storage.translate.codemod.layout import argument_of
from migrate_storage.translate.codemod.literals import NotLiteralError

__all__ = ("assigned_names", "find_registrations", "listed_names", "read_key", "registering_statement")


def read_key(call: cst.Call) -> str:
    """Return the key of a registration; empty where it is not written out."""
    argument = argument_of(call, "key", 0)
    value = argument.value.evaluated_value if argument and isinstance(argument.value, cst.SimpleString) else ""
    return value if isinstance(value, str) else ""


def find_registrations(module: cst.Module, key: str) -> Iterator[tuple[cst.Call, str]]:
    """Yield the calls in a module that make a backend with a key, each with the name of its class."""
    for call in matchers.findall(module, matchers.Call()):
        if isinstance(call, cst.Call) and read_key(call) == key:
            name = cst.Module([]).code_for_node(call.func)
            if name.endswith("Backend"):
                yield call, name.rpartition(".")[2]


def assigned_names(statement: cst.SimpleStatementLine) -> frozenset[str]:
    """Return the names to which a statement assigns."""
    pattern = matchers.AssignTarget(target=matchers.Name()) | matchers.AnnAssign(target=matchers.Name())
    targets = [
        each.target
        for each in matchers.findall(statement, pattern)
        if isinstance(each, cst.AssignTarget | cst.AnnAssign)
    ]
    return frozenset(target.value for target in targets if isinstance(target, cst.Name))


def listed_names(module: cst.Module) -> frozenset[str]:
    """Return the names in ``__all__``."""
    names: set[str] = set()
    for statement in module.body:
        if isinstance(statement, cst.SimpleStatementLine) and "__all__" in assigned_names(statement):
            texts = matchers.findall(statement, matchers.SimpleString())
            names |= {str(text.evaluated_value) for text in texts if isinstance(text, cst.SimpleString)}
    return frozenset(names)


def registering_statement(call: cst.Call, parents: Mapping[cst.CSTNode, cst.CSTNode]) -> cst.SimpleStatementLine:
    """Return the statement that does nothing but to register a backend.

    Args:
        call: the call that makes the backend.
        parents: of each node, the one around it.

    Raises:
        NotLiteralError: it is part of another statement.
    """
    argument = parents.get(call)
    outer = parents.get(argument) if argument is not None else None
    expression = parents.get(outer) if outer is not None else None
    statement = parents.get(expression) if expression is not None else None
    registers = isinstance(outer, cst.Call) and cst.Module([]).code_for_node(outer.func).endswith("register_backend")
    if not registers or not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        raise NotLiteralError("the backend is not made inside of register_backend(...), so none can be put beside it")
    return statement
