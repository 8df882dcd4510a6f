"""Replace fsspec registrations by obstore ones, where that is certain."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import libcst as cst
from libcst.metadata import MetadataWrapper

from migrate_storage.core.model import Severity
from migrate_storage.translate import PROTOCOLS, translate
from migrate_storage.translate.codegen.entries import OPTION_PREFIXES, store_url
from migrate_storage.translate.codemod.find_calls import Finder, literals
from migrate_storage.translate.codemod.imports import Import, with_imports
from migrate_storage.translate.codemod.layout import Argument, argument_of, lost_comments, write_call
from migrate_storage.translate.codemod.literals import NotLiteralError, Values, literal
from migrate_storage.translate.codemod.parse_call import Found, read_call
from migrate_storage.translate.codemod.run_time import decide_address, leave_style_open, notes_about_none
from migrate_storage.translate.codemod.statements import (
    assigned_names,
    find_registrations,
    listed_names,
    read_key,
    registering_statement,
)
from migrate_storage.translate.model import CredentialSource, StoreConfig, Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.places import join_folder, join_prefix
from migrate_storage.translate.registration.adlfs_rule import find_default_of_project

__all__ = ("EVERYTHING", "Conversion", "Converted", "Left", "convert_source")


@dataclass(frozen=True, slots=True)
class Left:
    """A registration that was left as it was."""

    line: int
    #: Why, in one line.
    reason: str
    #: Code that fits every call: the class decides at run time. Empty where none is needed.
    paste: str = "from migrate_storage.backend.fsspec_compat import FSSpecBackend"


@dataclass(frozen=True, slots=True)
class Converted:
    """A source file after conversion; ``code`` may be unchanged."""

    code: str
    #: Lines, in the old source, of the registrations that were rewritten, with the warnings about each.
    done: tuple[tuple[int, tuple[str, ...]], ...] = ()
    left: tuple[Left, ...] = ()
    #: Literals in secret options: not to be shown.
    secrets: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, slots=True)
class Conversion:
    """How registrations are converted."""

    #: Names of the module that other files import; ``*`` for all.
    kept: frozenset[str] = frozenset()
    #: The key of a registration that is added, while the old one stays; empty to replace the old one.
    beside: str = ""
    #: The key of the only registration to convert; empty for all.
    only: str = ""
    #: The folder of the project, whose lock names the versions of its filesystems; ``None`` where it has none.
    project: Path | None = None


EVERYTHING = Conversion()
"""All registrations, each in place of the old one."""


def convert_source(source: str, how: Conversion = EVERYTHING) -> Converted:
    """Rewrite the fsspec registrations of a module.

    Args:
        source: The module's text.
        how: Which registrations, and how.

    Returns:
        The new text, what was done, and what was left. Converting it again changes nothing.

    Raises:
        ValueError: libcst cannot parse the source; the message contains no source.
    """
    try:
        wrapper = MetadataWrapper(cst.parse_module(source))
    except cst.ParserSyntaxError as error:
        raise ValueError(f"line {error.raw_line}: not Python that can be read") from None
    finder = Finder()
    with finder.resolve(wrapper):
        return _convert_module(source, wrapper, finder, how)


#: The names under which the code that is written calls its backend.
_OWN_CLASSES = ("ObstoreBackend", "MigratedBackend")


def _convert_module(source: str, wrapper: MetadataWrapper, finder: Finder, how: Conversion) -> Converted:
    wrapper.module.visit(finder)
    if how.beside and (present := list(find_registrations(wrapper.module, how.beside))):
        others = [call for call, name in present if name not in _OWN_CLASSES]
        reason = f"{how.beside} is the key of another backend; give --beside a key of its own"
        return Converted(source, left=tuple(Left(finder.line(call), reason, paste="") for call in others))
    plans: list[_Plan] = []
    left = [Left(line, reason) for line, reason in finder.others]
    left += [
        Left(line, f"other files import {name} from here, and may call it")
        for line, name in finder.imports
        if name in how.kept and not how.only
    ]
    secrets: set[str] = set()
    for call in finder.calls:
        secrets |= literals(call, finder)
        if how.only and read_key(call) != how.only:
            continue
        try:
            plan = _plan_call(call, finder, how.project)
            plans.append(_put_beside(plan, finder, how.beside) if how.beside else _keep_names(plan, how.kept))
        except NotLiteralError as error:
            left.append(Left(finder.line(call), str(error)))
    if not plans:
        return Converted(source, left=_sort_by_line(left), secrets=frozenset(secrets))
    code = _rewrite_module(wrapper, plans, how)
    try:
        compile(code, "converted", "exec", dont_inherit=True)
    except SyntaxError:
        left += [Left(plan.line, "the result would not compile") for plan in plans]
        return Converted(source, left=_sort_by_line(left))
    return Converted(code, tuple((plan.line, plan.notes) for plan in plans), _sort_by_line(left), frozenset(secrets))


def _sort_by_line(left: list[Left]) -> tuple[Left, ...]:
    return tuple(sorted(left, key=lambda registration: registration.line))


@dataclass(frozen=True, slots=True)
class _Plan:
    call: cst.Call
    line: int
    new: cst.Call
    obsolete: list[cst.SimpleStatementLine]
    comments: list[cst.Comment]
    imports: list[Import]
    notes: tuple[str, ...]
    #: The statement after which the new one is added; ``None`` where it takes the place of the old one.
    after: cst.SimpleStatementLine | None = None


def _keep_names(plan: _Plan, kept: frozenset[str]) -> _Plan:
    """Leave assignments to names that other files import."""
    return replace(plan, obsolete=[each for each in plan.obsolete if not kept & {"*", *assigned_names(each)}])


def _put_beside(plan: _Plan, finder: Finder, key: str) -> _Plan:
    """Add the new registration below the old one.

    Raises:
        NotLiteralError: the old one is more than ``register_backend(FSSpecBackend(…))``.
    """
    statement = registering_statement(plan.call, finder.parents)
    first, *rest = plan.new.args
    new = plan.new.with_changes(args=[first.with_changes(value=cst.SimpleString(literal(key))), *rest])
    return replace(plan, new=new, obsolete=[], comments=[], after=statement)


def _plan_call(call: cst.Call, finder: Finder, project: Path | None) -> _Plan:
    """Plan what is written in place of one call.

    Raises:
        NotLiteralError: with the reason, where that is not certain.
    """
    values = Values()
    found = read_call(call, values, finder.lookup, finder.qualified)
    prefix = _join_folders(found, values)
    translation = _translate(found.protocol, _replace_unknown_options(found, values), prefix, project)
    config = _require_config(translation)
    _refuse_mixed_profile(found, config)
    where, imports = _make_fs_argument(config, found, prefix, values)
    arguments = [
        Argument("fs", where, argument_of(call, "fs", 1)),
        *_make_option_arguments(config, translation, found, values),
    ]
    if config.credentials is not None and not found.options.get("connection_string"):
        arguments.append(_make_credentials_argument(config.credentials, values))
        imports.append(("migrate_storage.backend", "CredentialSource"))
    arguments += _make_client_arguments(config, values)
    upstream = any(not name.startswith("migrate_storage.") for name in finder.bound)
    imports.append(("migrate_storage.backend", "ObstoreBackend as MigratedBackend" if upstream else "ObstoreBackend"))
    for source, name in imports:
        bound = name.rpartition(" as ")[2]
        if not finder.is_free(call.func, source, bound):
            raise NotLiteralError(f"{bound} means something else in this file")
    new = write_call(call, found, "MigratedBackend" if upstream else "ObstoreBackend", arguments)
    told = (*translation.notes, *notes_about_none(config.service, found, values))
    notes = tuple(f"{note.message} [{note.code}]" for note in told if note.severity is Severity.WARNING)
    return _Plan(call, finder.line(call), new, found.obsolete, lost_comments(call, found, new), imports, notes)


def _translate(protocol: str, options: Mapping[str, Any], prefix: str, project: Path | None) -> Translation:
    """Translate what is written, and ask the installed adlfs where its version decides.

    Raises:
        NotLiteralError: its version is not known.
    """
    found = translate(protocol, options, prefix, {})
    if all(each.code != "azure.anon.unknown" for each in found.refused):
        return found
    anonymous, why = find_default_of_project(project)
    if anonymous is None:
        raise NotLiteralError(f"{found.refused[0].message}: {why}. {found.refused[0].todo}")
    answered = translate(protocol, {**options, "anon": anonymous}, prefix, {})
    return replace(answered, notes=(*answered.notes, note("azure.anon.installed", "anon", why=why)))


def _join_folders(found: Found, values: Values) -> str:
    """Join the prefix of the backend and the folders of its filesystem."""
    prefix = values.text("prefix", found.prefix) if found.prefix is not None else ""
    for folder in reversed(found.folders):
        prefix = join_folder(folder.rstrip("/"), prefix) if not prefix else join_prefix(folder, prefix)
    return prefix


def _replace_unknown_options(found: Found, values: Values) -> dict[str, Any]:
    """Return the options, with an example for a connection string of run time."""
    options = dict(found.options)
    connection, token = options.get("connection_string"), options.get("token")
    if isinstance(connection, str) and values.is_unknown(connection):
        # ObstoreBackend takes a connection string as it is, so its content decides nothing here.
        options["connection_string"] = "AccountName=x;AccountKey=eA=="
    elif isinstance(connection, str) and "developmentstorageproxyuri=" in connection.lower():
        raise NotLiteralError("adlfs ignores DevelopmentStorageProxyUri, and ObstoreBackend refuses it")
    if PROTOCOLS.get(found.protocol) == "s3":
        options = leave_style_open(options, values)
    if PROTOCOLS.get(found.protocol) == "gcs" and isinstance(token, str) and values.is_unknown(token):
        raise NotLiteralError("the value of token is not written out, and what to write depends on it")
    return options


def _make_option_arguments(
    config: StoreConfig, translation: Translation, found: Found, values: Values
) -> list[Argument]:
    """Write the store's options, each with the comment of its old argument."""
    connection = found.options.get("connection_string")
    options = {"connection_string": connection} if connection else _select_options(config, translation, found, values)
    arguments = []
    for name, value in options.items():
        node = values.back(value)
        origin = next((argument for argument in found.arguments.values() if argument.value is node), None)
        arguments.append(Argument(f"{OPTION_PREFIXES.get(config.service, '')}{name}", node, origin))
    return arguments


def _make_credentials_argument(source: CredentialSource, values: Values) -> Argument:
    if source.kind not in ("boto3", "google", "azure"):
        raise NotLiteralError("its credentials are an object")
    given = {name: value for name, value in source.options.items() if value is not None}
    options = f", options={cst.Module([]).code_for_node(values.back(given))}" if given else ""
    code = f"CredentialSource(kind={literal(source.kind)}{options})"
    return Argument("credential_provider", cst.parse_expression(code), None)


def _make_client_arguments(config: StoreConfig, values: Values) -> list[Argument]:
    client: dict[str, Any] = {name: value for name, value in config.client_options.items() if name != "allow_http"}
    client = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in client.items()}
    given = {"client_options": client, "retry_config": dict(config.retry)}
    return [Argument(name, values.back(value), None) for name, value in given.items() if value]


def _require_config(translation: Translation) -> StoreConfig:
    """Return the configuration of the one store that a registration names."""
    config = translation.config
    if config is None:
        raise NotLiteralError(translation.refused[0].message)
    if not config.root and config.service != "memory":
        raise NotLiteralError("there is no bucket in the prefix: each row names its own in its filename")
    if config.service == "file" and config.root == "/":
        raise NotLiteralError("there is no folder in the prefix: each row names its own in its filename")
    return config


def _refuse_mixed_profile(found: Found, config: StoreConfig) -> None:
    """Refuse a profile beside options for which the backend has no place next to it."""
    if not found.options.get("profile"):
        return
    if mixed := [name for name in ("use_ssl", "config_kwargs") if found.options.get(name) is not None]:
        raise NotLiteralError(f"the profile decides what {mixed[0]} leaves open, and only a running s3fs knows it")
    client = found.options.get("client_kwargs") or {}
    if not isinstance(client, Mapping):
        raise NotLiteralError("client_kwargs is no dictionary, and s3fs does not take it")
    endpoint = found.options.get("endpoint_url") or client.get("endpoint_url")
    host, _, path = str(endpoint or "").partition("://")[2].partition("/")
    if host.startswith(f"{config.root}.") or path.strip("/") == config.root:
        raise NotLiteralError("the endpoint names the bucket, and the profile decides what that means")


def _select_options(config: StoreConfig, translation: Translation, found: Found, values: Values) -> dict[str, Any]:
    options = dict(config.options) if config.service not in ("file", "memory", "http") else {}
    if found.options.get("profile"):
        # The backend asks botocore for what the profile has.
        client = found.options.get("client_kwargs") or {}
        options.pop("virtual_hosted_style_request", None)
        if not client.get("region_name"):
            options.pop("region", None)
        if not (found.options.get("endpoint_url") or client.get("endpoint_url")):
            options.pop("endpoint", None)
        if config.credentials is None:
            # Keys are explicit, or there are none: the profile only decides where requests go.
            options["profile"] = found.options["profile"]
        return options
    endpoint = options.get("endpoint")
    if any(note.code == "s3.region.missing" for note in translation.notes):
        # The region is not known here. obstore reads AWS_REGION, and its error names the right region.
        options.pop("region", None)
        options.pop("endpoint", None)
    elif isinstance(endpoint, str) and options.get("virtual_hosted_style_request") and values.is_unknown(config.root):
        # The backend adds the bucket to the host when it knows the name.
        options["endpoint"] = endpoint.replace(f"://{config.root}.", "://", 1)
    return decide_address(config.root, options, found, values) if config.service == "s3" else options


def _make_fs_argument(
    config: StoreConfig, found: Found, prefix: str, values: Values
) -> tuple[cst.BaseExpression, list[Import]]:
    """Return the ``fs`` argument, and what it needs imported."""
    if config.service == "file":
        return _make_folder_argument(config, found, prefix, values)
    node, quoted = values.url(store_url(config))
    return node, [("urllib.parse", "quote")] if quoted else []


def _make_folder_argument(
    config: StoreConfig, found: Found, prefix: str, values: Values
) -> tuple[cst.BaseExpression, list[Import]]:
    if not values.is_unknown(prefix):
        if prefix.startswith(("/", "file:", "local:")):
            return cst.parse_expression(literal(store_url(config))), []
        return cst.parse_expression(literal(prefix if prefix.startswith(("./", "../", "~")) else f"./{prefix}")), []
    if found.folders or found.prefix is None:
        raise NotLiteralError("the value of prefix is not written out")
    node = found.prefix
    a_path = isinstance(node, cst.Call) and cst.Module([]).code_for_node(node.func) in _PATHS
    if not a_path and not prefix.startswith("/"):
        raise NotLiteralError("the value of prefix may be a path or a URL, and what to write depends on it")
    return cst.parse_expression(f"Path({cst.Module([]).code_for_node(node)})"), [("pathlib", "Path")]


#: Calls that give a path, never a URL.
_PATHS = frozenset({"str", "os.path.join", "os.path.abspath", "os.path.realpath", "os.fspath"})


class _Rewriter(cst.CSTTransformer):
    def __init__(self, plans: Sequence[_Plan]) -> None:
        super().__init__()
        self._new = {plan.call: plan for plan in plans if plan.after is None}
        self._beside = {plan.after: plan for plan in plans if plan.after is not None}
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
    ) -> cst.SimpleStatementLine | cst.RemovalSentinel | cst.FlattenSentinel[cst.SimpleStatementLine]:
        if original_node in self._obsolete:
            return cst.RemoveFromParent()
        if (plan := self._beside.get(original_node)) is not None:
            added = original_node.deep_replace(plan.call, plan.new)
            assert isinstance(added, cst.SimpleStatementLine)
            return cst.FlattenSentinel([updated_node, added.with_changes(leading_lines=[])])
        comments, self._waiting = self._waiting, []
        lines = [cst.EmptyLine(comment=comment) for comment in comments]
        return updated_node.with_changes(leading_lines=[*updated_node.leading_lines, *lines])


def _rewrite_module(wrapper: MetadataWrapper, plans: Sequence[_Plan], how: Conversion) -> str:
    module = wrapper.module.visit(_Rewriter(plans))
    kept = how.kept | listed_names(wrapper.module)
    return with_imports(wrapper.module, module, (needed for plan in plans for needed in plan.imports), kept).code
