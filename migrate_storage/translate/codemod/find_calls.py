"""Find the calls and other uses of ``FSSpecBackend`` in a module."""

from __future__ import annotations

import libcst as cst
from libcst import matchers
from libcst.metadata import Assignment, ParentNodeProvider, PositionProvider, QualifiedNameProvider, ScopeProvider

from migrate_storage.translate.codemod.literals import NotLiteralError
from migrate_storage.translate.codemod.parse_call import BACKEND

__all__ = ("Finder", "literals")


_CLASS = BACKEND.rpartition(".")[2]


class Finder(cst.CSTVisitor):
    """Finds the calls, and every other use of the class."""

    METADATA_DEPENDENCIES = (PositionProvider, QualifiedNameProvider, ScopeProvider, ParentNodeProvider)

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[cst.Call] = []
        self.others: list[tuple[int, str]] = []
        self.bound: set[str] = set()
        #: Lines that import the class, with the name that it gets.
        self.imports: list[tuple[int, str]] = []
        self.parents: dict[cst.CSTNode, cst.CSTNode] = {}

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Remember each node's parent: libcst's metadata about it is lost after the visit."""
        for child in node.children:
            self.parents[child] = node
        return super().on_visit(node)

    def line(self, node: cst.CSTNode) -> int:
        """Return the line on which a node begins, from 1."""
        return int(self.get_metadata(PositionProvider, node).start.line)

    def qualified(self, node: cst.BaseExpression) -> set[str]:
        """Return the dotted names that an expression may mean, imports followed."""
        return {found.name for found in self.get_metadata(QualifiedNameProvider, node, set())}

    def visit_Import(self, node: cst.Import) -> bool:  # noqa: ARG002 - libcst's own signature
        """Skip an import, which is no use of the class."""
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        """Skip an import, but record whether it binds the name that the new code needs."""
        if not isinstance(node.names, cst.ImportStar):
            module = cst.Module([]).code_for_node(node.module) if node.module else ""
            self.bound |= {
                f"{module}.{alias.evaluated_name}" for alias in node.names if alias.evaluated_name == "ObstoreBackend"
            }
            self.imports += [
                (self.line(node), alias.evaluated_alias or alias.evaluated_name)
                for alias in node.names
                if f"{module}.{alias.evaluated_name}" == BACKEND
            ]
        return False

    def visit_Call(self, node: cst.Call) -> None:
        """Record a call of the class, and one of a class of its name that is imported from somewhere else."""
        names = self.qualified(node.func)
        if BACKEND in names:
            self.calls.append(node)
            return
        last = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
        owners = {name.rpartition(".")[0] for name in names if name.endswith(f".{_CLASS}")}
        unknown = not names and isinstance(last, cst.Name) and last.value == _CLASS
        if unknown or any(owner.partition(".")[0] != "migrate_storage" for owner in owners):
            where = f"from {min(owners)}" if owners else "by a name that is not followed"
            self.others.append((self.line(node), f"FSSpecBackend is imported {where}, and may be another class"))

    def visit_Name(self, node: cst.Name) -> None:
        """Record any other use of the class."""
        self._record_other_use(node)

    def visit_Attribute(self, node: cst.Attribute) -> None:
        """Record any other use of the class."""
        self._record_other_use(node)

    def _record_other_use(self, node: cst.Name | cst.Attribute) -> None:
        parent = self.parents.get(node)
        if isinstance(parent, cst.Attribute) and parent.attr is node:
            return
        if BACKEND not in self.qualified(node) or (isinstance(parent, cst.Call) and parent.func is node):
            return
        if isinstance(parent, cst.Annotation | cst.Subscript):
            return
        reason = "FSSpecBackend is used otherwise than by calling it"
        if self._is_compared(node):
            reason += "; a converted backend is none: write (FSSpecBackend, ObstoreBackend) in its place"
        self.others.append((self.line(node), reason))

    def _is_compared(self, node: cst.CSTNode) -> bool:
        """Whether a class is an argument of ``isinstance`` or ``issubclass``, also in a tuple."""
        around = self.parents.get(node)
        while isinstance(around, cst.Element | cst.Tuple | cst.Arg):
            around = self.parents.get(around)
        return matchers.matches(
            around or node, matchers.Call(func=matchers.Name("isinstance") | matchers.Name("issubclass"))
        )

    def is_free(self, at: cst.CSTNode, source: str, name: str) -> bool:
        """Whether a name is free to be imported from a module where it is needed."""
        scope = self.get_metadata(ScopeProvider, at, None)
        taken = list(scope[name]) if scope is not None else []
        return all(
            {found.name for found in assignment.get_qualified_names_for(name)} <= {f"{source}.{name}"}
            for assignment in taken
        )

    def lookup(self, name: cst.Name) -> tuple[cst.BaseExpression, cst.SimpleStatementLine | None]:
        """Return the expression that a name was assigned, once and unconditionally."""
        scope = self.get_metadata(ScopeProvider, name, None)
        assignments = list(scope[name.value]) if scope is not None else []
        if len(assignments) != 1 or not isinstance(assignments[0], Assignment):
            raise NotLiteralError(f"{name.value} is not assigned exactly once here")
        if any(self._is_changed(access.node) for access in assignments[0].references):
            raise NotLiteralError(f"{name.value} is changed after it was made")
        target = assignments[0].node
        assign = self.parents.get(self.parents.get(target, target), target)
        if isinstance(self.parents.get(target), cst.AnnAssign):
            assign = self.parents[target]
        statement = self.parents.get(assign)
        if (
            not isinstance(assign, cst.Assign | cst.AnnAssign)
            or not isinstance(statement, cst.SimpleStatementLine)
            or assign.value is None
        ):
            raise NotLiteralError(f"{name.value} is not assigned by a plain statement")
        if isinstance(assign, cst.Assign) and len(assign.targets) != 1:
            raise NotLiteralError(f"{name.value} is assigned together with other names")
        block = self.parents.get(statement)
        owner = self.parents.get(block) if isinstance(block, cst.IndentedBlock) else block
        if not isinstance(owner, cst.Module | cst.FunctionDef):
            raise NotLiteralError(f"{name.value} is assigned under a condition or in a loop")
        if assignments[0].scope is not scope and not self._is_independent_of_scope(assign.value):
            raise NotLiteralError(f"{name.value} is made elsewhere, from names that may mean something else here")
        alone = len(assignments[0].references) == 1 and len(statement.body) == 1
        return assign.value, statement if alone else None

    def _is_changed(self, used: cst.CSTNode) -> bool:
        """Whether an attribute or an item of what a name means is assigned or deleted."""
        part = used if isinstance(used, cst.Attribute) else self.parents.get(used)
        whole = self.parents.get(part) if isinstance(part, cst.Attribute | cst.Subscript) else None
        return isinstance(whole, cst.AssignTarget | cst.AugAssign | cst.AnnAssign | cst.Del)

    def _is_independent_of_scope(self, node: cst.BaseExpression) -> bool:
        """Whether an expression has only literals, imported names and the environment."""
        names = matchers.findall(node, matchers.Name())
        for name in names:
            assert isinstance(name, cst.Name)
            parent = self.parents.get(name)
            if isinstance(parent, cst.Arg) and parent.keyword is name:
                continue
            if isinstance(parent, cst.Attribute) and parent.attr is name:
                continue
            sources = {str(found.source) for found in self.get_metadata(QualifiedNameProvider, name, set())}
            if sources and not all(source.endswith(("IMPORT", "BUILTIN")) for source in sources):
                return False
        return True


def literals(call: cst.Call, finder: Finder) -> set[str]:
    """Return every literal of the call and its arguments: any may be a secret."""
    found: set[str] = set()
    nodes: list[cst.CSTNode] = [call]
    for argument in call.args:
        if isinstance(argument.value, cst.Name):
            try:
                nodes.append(finder.lookup(argument.value)[0])
            except NotLiteralError:
                continue
    for node in nodes:
        for part in matchers.findall(node, matchers.Arg() | matchers.DictElement()):
            if not isinstance(part, cst.Arg | cst.DictElement) or not isinstance(part.value, cst.SimpleString):
                continue
            # The key of the backend is not the key of an S3 filesystem.
            name = "prefix" if part in call.args and _get_argument_name(part) == "key" else _get_argument_name(part)
            text = part.value.evaluated_value
            if name not in _SHOWN and isinstance(text, str) and text:
                found.add(text)
    return found


#: Arguments whose literals may be shown.
_SHOWN = frozenset({"fs", "prefix", "protocol", "path", "region_name", "addressing_style", "endpoint_url", "", None})


def _get_argument_name(node: cst.CSTNode) -> str | None:
    if isinstance(node, cst.Arg):
        return node.keyword.value if node.keyword else "key" if node.star else None
    if isinstance(node, cst.DictElement) and isinstance(node.key, cst.SimpleString):
        return str(node.key.evaluated_value)
    return "?"
