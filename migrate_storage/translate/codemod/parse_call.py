"""Read one call of ``FSSpecBackend``: its filesystem, options and prefix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import libcst as cst

from migrate_storage.translate.codemod.literals import NotLiteralError, Values

__all__ = ("BACKEND", "Found", "read_call")

BACKEND = "advanced_alchemy.types.file_object.backends.fsspec.FSSpecBackend"

#: Constructors that are known, by their qualified names.
_CLASSES = {
    **dict.fromkeys(("s3fs.S3FileSystem", "s3fs.core.S3FileSystem"), "s3"),
    **dict.fromkeys(("gcsfs.GCSFileSystem", "gcsfs.core.GCSFileSystem"), "gcs"),
    **dict.fromkeys(("adlfs.AzureBlobFileSystem", "adlfs.spec.AzureBlobFileSystem"), "az"),
    "fsspec.implementations.local.LocalFileSystem": "file",
    "fsspec.implementations.memory.MemoryFileSystem": "memory",
    "fsspec.implementations.http.HTTPFileSystem": "http",
}
_FACTORIES = frozenset({"fsspec.filesystem", "fsspec.registry.filesystem", "fsspec.core.filesystem"})
_FOLDERS = frozenset({"fsspec.implementations.dirfs.DirFileSystem"})

#: From a name in the code to the expression that it was assigned, and the statement to remove with it.
Lookup = Callable[[cst.Name], tuple[cst.BaseExpression, cst.SimpleStatementLine | None]]
Qualified = Callable[[cst.BaseExpression], set[str]]


@dataclass
class Found:
    """One call of ``FSSpecBackend``, read."""

    protocol: str
    key: cst.BaseExpression
    prefix: cst.BaseExpression | None
    options: dict[str, Any] = field(default_factory=dict)
    #: The arguments that the options came from, by name, for their comments.
    arguments: dict[str, cst.Arg] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    #: Assignments that nothing else uses.
    obsolete: list[cst.SimpleStatementLine] = field(default_factory=list)
    #: Calls that are removed, for their comments.
    inner: list[cst.Call] = field(default_factory=list)


def read_call(call: cst.Call, values: Values, lookup: Lookup, qualified: Qualified) -> Found:
    """Read a call of ``FSSpecBackend``.

    Raises:
        NotLiteralError: it cannot be read for certain.
    """
    arguments = _name_arguments(call, ("key", "fs", "prefix"))
    if "key" not in arguments or "fs" not in arguments:
        raise NotLiteralError("key or fs is not given by name or position")
    fs = arguments.pop("fs").value
    key = arguments.pop("key").value
    prefix = arguments.pop("prefix", None)
    found = Found("", key, prefix.value if prefix else None)
    if isinstance(fs, cst.SimpleString):
        found.protocol = str(fs.evaluated_value)
        _add_options(found, arguments, values)
        return found
    if arguments:
        raise NotLiteralError(f"{next(iter(arguments))} is given beside a filesystem, which ignores it")
    _read_filesystem(fs, found, values, lookup, qualified)
    return found


def _name_arguments(call: cst.Call, names: tuple[str, ...]) -> dict[str, cst.Arg]:
    found: dict[str, cst.Arg] = {}
    for position, argument in enumerate(call.args):
        if argument.star:
            raise NotLiteralError("arguments come from a variable (* or **)")
        if argument.keyword is not None:
            found[argument.keyword.value] = argument
        elif position < len(names):
            found[names[position]] = argument
        else:
            raise NotLiteralError("a filesystem's options are given by position")
    return found


def _add_options(found: Found, arguments: Mapping[str, cst.Arg], values: Values) -> None:
    for name, argument in arguments.items():
        found.options[name] = values.of(name, argument.value)
        found.arguments[name] = argument


def _read_filesystem(
    fs: cst.BaseExpression, found: Found, values: Values, lookup: Lookup, qualified: Qualified
) -> None:
    if isinstance(fs, cst.Name):
        fs, statement = lookup(fs)
        if statement is not None:
            found.obsolete.append(statement)
    if not isinstance(fs, cst.Call):
        raise NotLiteralError("the filesystem is not made here")
    names = qualified(fs.func)
    found.inner.append(fs)
    if names & _FACTORIES:
        arguments = _name_arguments(fs, ("protocol",))
        protocol = arguments.pop("protocol", None)
        if protocol is None or not isinstance(protocol.value, cst.SimpleString):
            raise NotLiteralError("the protocol of the filesystem is not written out")
        found.protocol = str(protocol.value.evaluated_value)
        _add_options(found, arguments, values)
    elif names & _FOLDERS:
        arguments = _name_arguments(fs, ("path", "fs"))
        if set(arguments) != {"path", "fs"}:
            raise NotLiteralError("a DirFileSystem is made with more than a path and a filesystem")
        found.folders.append(values.text("path", arguments["path"].value))
        _read_filesystem(arguments["fs"].value, found, values, lookup, qualified)
    elif protocol_name := next((_CLASSES[name] for name in names if name in _CLASSES), None):
        found.protocol = protocol_name
        _add_options(found, _name_arguments(fs, ()), values)
    else:
        raise NotLiteralError("the filesystem is made by something that is not known")
