"""Add the imports of the new code, and remove those of the old code only."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst
from libcst import matchers
from libcst.codemod import CodemodContext
from libcst.codemod.visitors import AddImportsVisitor, RemoveImportsVisitor

from migrate_storage.translate.codemod.parse_call import BACKEND

__all__ = ("Import", "with_imports")

Import = tuple[str, str]
"""A module, and a name in it; the name may be ``NAME as ALIAS``."""

_LIBRARIES = frozenset({"fsspec", "s3fs", "gcsfs", "adlfs"})


def with_imports(
    old: cst.Module, new: cst.Module, needed: Iterable[Import], kept: frozenset[str] = frozenset()
) -> cst.Module:
    """Add imports, then remove those of fsspec that nothing uses any more.

    Args:
        old: the module before the conversion; its imports of fsspec are removed.
        new: the module with its calls rewritten.
        needed: what the new calls use.
        kept: names that stay though nothing in the module uses them; ``*`` for all.
    """
    context = CodemodContext()
    for source, name in needed:
        plain, _, alias = name.partition(" as ")
        AddImportsVisitor.add_needed_import(context, source, plain, alias or None)
    new = AddImportsVisitor(context).transform_module(new)
    context = CodemodContext()
    for source, imported, other in _find_fsspec_imports(old):
        if kept & {"*", other or imported or source.partition(".")[0]}:
            continue
        RemoveImportsVisitor.remove_unused_import(context, source, imported, other)
    return _keep_leading_lines(new, RemoveImportsVisitor(context).transform_module(new))


def _keep_leading_lines(before: cst.Module, after: cst.Module) -> cst.Module:
    """Move comments and blank lines above a removed import to the next statement."""
    waiting: list[cst.EmptyLine] = []
    body: list[cst.SimpleStatementLine | cst.BaseCompoundStatement] = []
    rest = list(after.body)
    for statement in before.body:
        if rest and (statement.deep_equals(rest[0]) or _import_same_module(statement, rest[0])):
            kept = rest.pop(0)
            lines = [*waiting, *kept.leading_lines]
            most = max(1, len(kept.leading_lines))
            while len(lines) > most and not lines[0].comment and not lines[1].comment:
                lines.pop(0)
            body.append(kept.with_changes(leading_lines=lines if body or waiting else kept.leading_lines))
            waiting = []
        else:
            waiting += statement.leading_lines if body else []
    return after.with_changes(body=[*body, *rest])


def _import_same_module(one: cst.CSTNode, other: cst.CSTNode) -> bool:
    """Whether the second statement is the rest of the first, an import."""
    modules = []
    for statement in (one, other):
        imported = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else None
        if not isinstance(imported, cst.ImportFrom) or imported.module is None:
            return False
        modules.append(imported.module)
    return modules[0].deep_equals(modules[1])


def _find_fsspec_imports(module: cst.Module) -> list[tuple[str, str | None, str | None]]:
    """Return the imports of fsspec and its filesystems, removed if unused."""
    found: list[tuple[str, str | None, str | None]] = []
    for node in matchers.findall(module, matchers.ImportFrom() | matchers.Import()):
        if isinstance(node, cst.ImportFrom) and node.module is not None and not isinstance(node.names, cst.ImportStar):
            source = cst.Module([]).code_for_node(node.module)
            if source.split(".")[0] in _LIBRARIES or source.endswith(("file_object.backends", "backends.fsspec")):
                found += [(source, alias.evaluated_name, alias.evaluated_alias) for alias in node.names]
        elif isinstance(node, cst.Import):
            names = [(alias.evaluated_name, alias.evaluated_alias) for alias in node.names]
            ours = [
                pair for pair in names if pair[0].split(".")[0] in _LIBRARIES or pair[0] == BACKEND.rpartition(".")[0]
            ]
            found += [(name, None, alias) for name, alias in ours]
    return found
