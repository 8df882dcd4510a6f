"""Puts the obstore registration where the fsspec one stood; what is not certain is left, with what to paste."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import libcst as cst
from libcst.metadata import MetadataWrapper

from migrate_storage.core.model import Severity
from migrate_storage.translate import PROTOCOLS, translate
from migrate_storage.translate.codegen.entries import store_url
from migrate_storage.translate.codemod.find_calls import Finder, literals
from migrate_storage.translate.codemod.imports import with_imports
from migrate_storage.translate.codemod.layout import argument_of, in_layout, lost_comments
from migrate_storage.translate.codemod.literals import NotLiteralError, Values, literal
from migrate_storage.translate.codemod.parse_call import Found, read_call
from migrate_storage.translate.model import StoreConfig, Translation
from migrate_storage.translate.places import join_folder, join_prefix

__all__ = ("Converted", "Left", "convert_source")


@dataclass(frozen=True, slots=True)
class Left:
    """A registration that was left as it was."""

    line: int
    #: Why, in one line.
    reason: str
    #: Code that does the job at run time.
    paste: str


@dataclass(frozen=True, slots=True)
class Converted:
    """A source file after conversion; ``code`` is the source itself where nothing was certain."""

    code: str
    #: Lines, in the old source, of the registrations that were rewritten, with what to know about each.
    done: tuple[tuple[int, tuple[str, ...]], ...] = ()
    left: tuple[Left, ...] = ()
    #: Literals that stand in secret options: not to be shown.
    secrets: frozenset[str] = field(default=frozenset(), repr=False)


def convert_source(source: str) -> Converted:
    """Rewrite the fsspec registrations of a module.

    Args:
        source: The module's text.

    Returns:
        The new text, what was done, and what was left. Converting it again changes nothing.

    Raises:
        ValueError: when the source is no Python that libcst can read; the message holds no source.
    """
    try:
        wrapper = MetadataWrapper(cst.parse_module(source))
    except cst.ParserSyntaxError as error:
        raise ValueError(f"line {error.raw_line}: not Python that can be read") from None
    finder = Finder()
    with finder.resolve(wrapper):
        return _converted(source, wrapper, finder)


def _converted(source: str, wrapper: MetadataWrapper, finder: Finder) -> Converted:
    wrapper.module.visit(finder)
    plans, left = [], [Left(line, reason, _PASTE) for line, reason in finder.others]
    secrets: set[str] = set()
    for call in finder.calls:
        values = Values()
        line = finder.line(call)
        secrets |= literals(call, finder)
        try:
            plans.append(_plan(call, values, finder, line))
        except NotLiteralError as error:
            left.append(Left(line, str(error), _PASTE))
    if not plans:
        return Converted(source, left=tuple(sorted(left, key=lambda each: each.line)), secrets=frozenset(secrets))
    code = _rewrite(wrapper, plans)
    done = tuple((plan.line, plan.notes) for plan in plans)
    try:
        compile(code, "converted", "exec", dont_inherit=True)
    except SyntaxError:
        everything = [Left(plan.line, "the result would not compile", _PASTE) for plan in plans]
        return Converted(source, left=tuple(sorted([*left, *everything], key=lambda each: each.line)))
    return Converted(code, done, tuple(sorted(left, key=lambda each: each.line)), frozenset(secrets))


#: Code that needs nothing from the call: it decides when it runs.
_PASTE = "from migrate_storage.backend.fsspec_compat import FSSpecBackend"


@dataclass
class _Plan:
    call: cst.Call
    line: int
    new: cst.Call
    obsolete: list[cst.SimpleStatementLine]
    comments: list[cst.Comment]
    imports: list[tuple[str, str]]
    notes: tuple[str, ...]


def _plan(call: cst.Call, values: Values, finder: Finder, line: int) -> _Plan:
    found = read_call(call, values, finder.lookup, finder.qualified)
    service = PROTOCOLS.get(found.protocol)
    imports: list[tuple[str, str]] = []
    prefix = _prefix(found, values)
    connection = found.options.get("connection_string")
    options = dict(found.options)
    if isinstance(connection, str) and values.is_unknown(connection):
        # Ours takes a connection string as it is; what it holds decides nothing here.
        options["connection_string"] = "AccountName=x;AccountKey=eA=="
    if service == "gcs" and isinstance(options.get("token"), str) and values.is_unknown(options["token"]):
        raise NotLiteralError("the value of token is not written out, and what to write depends on it")
    translation = translate(found.protocol, options, prefix, {})
    config = _certain(translation)
    arguments: list[tuple[str, cst.BaseExpression, cst.Arg | None]] = []
    where, needed = _where(config, found, prefix, values)
    imports += needed
    arguments.append(("fs", where, argument_of(call, "fs", 1)))
    names = {"s3": "aws_", "gcs": "google_", "azure": "azure_storage_"}
    shown = {"connection_string": connection} if connection else _explicit(config, translation)
    for name, value in shown.items():
        node = values.back(value)
        origin = next((each for each in found.arguments.values() if each.value is node), None)
        arguments.append((f"{names.get(config.service, '')}{name}", node, origin))
    if config.credentials is not None and not connection:
        if config.credentials.kind not in ("boto3", "google", "azure"):
            raise NotLiteralError("its credentials are an object")
        given = {name: value for name, value in config.credentials.options.items() if value is not None}
        rest = f", options={cst.Module([]).code_for_node(values.back(given))}" if given else ""
        source = f"CredentialSource(kind={literal(config.credentials.kind)}{rest})"
        arguments.append(("credential_provider", cst.parse_expression(source), None))
        imports.append(("migrate_storage.backend", "CredentialSource"))
    client: dict[str, Any] = {name: value for name, value in config.client_options.items() if name != "allow_http"}
    client = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in client.items()}
    if client:
        arguments.append(("client_options", values.back(client), None))
    if config.retry:
        arguments.append(("retry_config", values.back(dict(config.retry)), None))
    upstream = any(not name.startswith("migrate_storage.") for name in finder.bound)
    imports.append(("migrate_storage.backend", "ObstoreBackend as MigratedBackend" if upstream else "ObstoreBackend"))
    for source, name in imports:
        bound = name.rpartition(" as ")[2]
        if not finder.is_free(call.func, source, bound):
            raise NotLiteralError(f"{bound} means something else in this file")
    new = in_layout(call, found, "MigratedBackend" if upstream else "ObstoreBackend", arguments)
    notes = tuple(f"{note.message} [{note.code}]" for note in translation.notes if note.severity is Severity.WARNING)
    return _Plan(call, line, new, found.obsolete, lost_comments(call, found, new), imports, notes)


def _prefix(found: Found, values: Values) -> str:
    prefix = values.text("prefix", found.prefix) if found.prefix is not None else ""
    for folder in reversed(found.folders):
        prefix = join_folder(folder.rstrip("/"), prefix) if not prefix else join_prefix(folder, prefix)
    return prefix


def _certain(translation: Translation) -> StoreConfig:
    config = translation.config
    if config is None:
        raise NotLiteralError(translation.refused[0].message)
    if not config.root and config.service != "memory":
        raise NotLiteralError("there is no bucket in the prefix: each row names its own in its filename")
    if config.service == "file" and config.root == "/":
        raise NotLiteralError("there is no folder in the prefix: each row names its own in its filename")
    return config


def _explicit(config: StoreConfig, translation: Translation) -> dict[str, Any]:
    options = dict(config.options) if config.service not in ("file", "memory", "http") else {}
    if any(note.code == "s3.region.missing" for note in translation.notes):
        # Nobody knows it here; obstore takes AWS_REGION, and says where it goes wrong.
        options.pop("region", None)
    return options


def _where(
    config: StoreConfig, found: Found, prefix: str, values: Values
) -> tuple[cst.BaseExpression, list[tuple[str, str]]]:
    """The ``fs`` argument, and what it needs imported."""
    if config.service == "file":
        return _folder(config, found, prefix, values)
    url = store_url(config)
    node, quoted = values.url(url)
    return node, [("urllib.parse", "quote")] if quoted else []


def _folder(
    config: StoreConfig, found: Found, prefix: str, values: Values
) -> tuple[cst.BaseExpression, list[tuple[str, str]]]:
    if not values.is_unknown(prefix):
        bare = prefix.startswith(("/", "file:", "local:"))
        return cst.parse_expression(literal(store_url(config) if bare else _relative(prefix))), []
    if found.folders or found.prefix is None:
        raise NotLiteralError("the value of prefix is not written out")
    node = found.prefix
    a_path = isinstance(node, cst.Call) and cst.Module([]).code_for_node(node.func) in _PATHS
    if not a_path and not prefix.startswith("/"):
        raise NotLiteralError("the value of prefix may be a path or a URL, and what to write depends on it")
    code = f"Path({cst.Module([]).code_for_node(node)})"
    return cst.parse_expression(code), [("pathlib", "Path")]


#: Calls that give a path, never a URL.
_PATHS = frozenset({"str", "os.path.join", "os.path.abspath", "os.path.realpath", "os.fspath"})


def _relative(prefix: str) -> str:
    return prefix if prefix.startswith(("./", "../", "~")) else f"./{prefix}"


class _Rewriter(cst.CSTTransformer):
    def __init__(self, plans: Sequence[_Plan]) -> None:
        super().__init__()
        self._new = {plan.call: plan for plan in plans}
        self._obsolete = {statement for plan in plans for statement in plan.obsolete}
        self._waiting: list[cst.Comment] = []

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        plan = self._new.get(original_node)
        if plan is None:
            return updated_node
        self._waiting += plan.comments
        return plan.new

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.SimpleStatementLine | cst.RemovalSentinel:
        if original_node in self._obsolete:
            return cst.RemoveFromParent()
        comments, self._waiting = self._waiting, []
        lines = [cst.EmptyLine(comment=comment) for comment in comments]
        return updated_node.with_changes(leading_lines=[*updated_node.leading_lines, *lines])


def _rewrite(wrapper: MetadataWrapper, plans: Sequence[_Plan]) -> str:
    module = wrapper.module.visit(_Rewriter(plans))
    return with_imports(wrapper.module, module, (needed for plan in plans for needed in plan.imports)).code
