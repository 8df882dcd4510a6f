"""Values of expressions in source code, or placeholders for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import libcst as cst
from libcst import matchers

__all__ = ("NotLiteralError", "Values", "literal")

#: Options whose value a translation does not change, so that any expression may be given.
_UNCHANGED = frozenset(
    {
        *("key", "username", "secret", "password", "token", "profile"),
        *("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "profile_name"),
        *("account_name", "account_key", "sas_token", "client_id", "client_secret", "tenant_id", "connection_string"),
        *("endpoint_url", "region_name", "project"),
    }
)
_MARK = re.compile(r"placeholder-\d+-x")


class NotLiteralError(ValueError):
    """An expression whose value decides what is to be written."""


class Values:
    """Values of expressions, and the expression of each value."""

    def __init__(self) -> None:
        self._origin: dict[str, cst.BaseExpression] = {}

    def of(self, name: str, node: cst.BaseExpression) -> Any:
        """Return the value of an option.

        Args:
            name: the option's name.
            node: the expression.

        Raises:
            NotLiteralError: the value is not written out, and what to write depends on it.
        """
        if isinstance(node, cst.SimpleString | cst.ConcatenatedString):
            value = node.evaluated_value
            if isinstance(value, str) and value:
                self._origin.setdefault(value, node)
            return value
        if isinstance(node, cst.Integer | cst.Float):
            return node.evaluated_value
        if isinstance(node, cst.Name) and node.value in ("True", "False", "None"):
            return {"True": True, "False": False, "None": None}[node.value]
        if isinstance(node, cst.Dict):
            return {key: self.of(key, value) for key, value in _read_dict(name, node)}
        if name not in _UNCHANGED or _has_side_effects(node):
            raise NotLiteralError(f"the value of {name} is not written out, and what to write depends on it")
        return self.placeholder(node, name)

    def text(self, name: str, node: cst.BaseExpression) -> str:
        """Return the text of a prefix, with placeholders for what run time decides."""
        if isinstance(node, cst.FormattedString) and "r" not in node.prefix.lower():
            return "".join(self._read_piece(name, part) for part in node.parts)
        if isinstance(node, cst.Name) and node.value == "None":
            return ""
        if isinstance(node, cst.SimpleString | cst.ConcatenatedString):
            value = node.evaluated_value
            if isinstance(value, str):
                return value
        if _has_side_effects(node) or isinstance(node, cst.FormattedString | cst.SimpleString | cst.ConcatenatedString):
            raise NotLiteralError(f"the value of {name} is not written out")
        return self.placeholder(node, name)

    def _read_piece(self, name: str, part: cst.BaseFormattedStringContent) -> str:
        if isinstance(part, cst.FormattedStringText):
            if "\\" in part.value:
                raise NotLiteralError(f"the value of {name} has a backslash")
            return part.value.replace("{{", "{").replace("}}", "}")
        assert isinstance(part, cst.FormattedStringExpression)
        if part.conversion or part.format_spec or part.equal or _has_side_effects(part.expression):
            raise NotLiteralError(f"the value of {name} is formatted")
        return self.placeholder(part.expression, name)

    def placeholder(self, node: cst.BaseExpression, name: str) -> str:
        """Return text that represents an expression and is valid as a value of the option."""
        mark = f"placeholder-{len(self._origin)}-x"
        value = f"https://{mark}.invalid" if name == "endpoint_url" else mark
        self._origin[value] = node
        return value

    def back(self, value: Any) -> cst.BaseExpression:
        """Return the expression for a value: the one that it came from, or a literal.

        Raises:
            NotLiteralError: a part of the value is known only at run time.
        """
        if isinstance(value, str) and value in self._origin:
            return self._origin[value]
        if isinstance(value, Mapping):
            elements = [cst.DictElement(self.back(str(key)), self.back(item)) for key, item in value.items()]
            return cst.Dict(
                [e.with_changes(comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))) for e in elements[:-1]]
                + elements[-1:]
            )
        if isinstance(value, str) and _MARK.search(value):
            raise NotLiteralError("a value that is only known when it runs becomes a part of another one")
        return cst.parse_expression(literal(value))

    def is_placeholder(self, value: str) -> bool:
        """Whether a value represents an expression as a whole."""
        return value in self._origin and self.is_unknown(value)

    def may_be_none(self, value: str) -> bool:
        """Whether nothing shows that the expression of a placeholder has a value when it runs."""
        node = self._origin[value]
        return not isinstance(node, cst.FormattedString) and not matchers.matches(node, _REQUIRED)

    def is_optional(self, value: str) -> bool:
        """Whether a value represents an expression that is ``None`` where a variable is not set."""
        return self.is_placeholder(value) and matchers.matches(self._origin[value], _OPTIONAL)

    def url(self, url: str) -> tuple[cst.BaseExpression, bool]:
        """Return the expression for a store's URL, and whether it needs ``quote``."""
        pieces = re.split(f"({_MARK.pattern})", url)
        terms = [
            f"quote({cst.Module([]).code_for_node(self._origin[p])})" if _MARK.fullmatch(p) else literal(p)
            for p in pieces
            if p
        ]
        return cst.parse_expression(" + ".join(terms)), len(pieces) > 1

    def is_unknown(self, text: str) -> bool:
        """Whether a part of a text is known only at run time."""
        return bool(_MARK.search(text))


_ENVIRON = matchers.Name("environ") | matchers.Attribute(attr=matchers.Name("environ"))
_READ = (
    matchers.Attribute(value=_ENVIRON, attr=matchers.Name("get"))
    | matchers.Attribute(attr=matchers.Name("getenv"))
    | matchers.Name("getenv")
)
#: ``os.environ[…]``, which raises where the variable is not set.
_REQUIRED = matchers.Subscript(value=_ENVIRON)
#: ``os.environ.get(…)`` without a default.
_OPTIONAL = matchers.Call(func=_READ, args=[matchers.Arg()]) | matchers.Call(
    func=_READ, args=[matchers.Arg(), matchers.Arg(value=matchers.Name("None"))]
)


def literal(value: Any) -> str:
    """Return a value as source code; text in double quotes where it can be."""
    if isinstance(value, str) and value.isprintable() and not set('"\\') & set(value):
        return f'"{value}"'
    return ascii(value) if isinstance(value, str) else repr(value)


def _read_dict(name: str, node: cst.Dict) -> list[tuple[str, cst.BaseExpression]]:
    found = []
    for element in node.elements:
        if not isinstance(element, cst.DictElement) or not isinstance(element.key, cst.SimpleString):
            raise NotLiteralError(f"{name} is put together from other mappings")
        found.append((str(element.key.evaluated_value), element.value))
    return found


def _has_side_effects(node: cst.BaseExpression) -> bool:
    """Whether moving the expression would change when or how often something happens."""
    found: list[cst.CSTNode] = []

    class Visitor(cst.CSTVisitor):
        def on_visit(self, node: cst.CSTNode) -> bool:
            if isinstance(node, cst.Await | cst.Yield | cst.NamedExpr | cst.Lambda | cst.CompFor):
                found.append(node)
            return True

    node.visit(Visitor())
    return bool(found)
