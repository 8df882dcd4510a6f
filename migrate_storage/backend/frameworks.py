"""What web frameworks need to encode and decode a FileObject, and advanced-alchemy does not give them.

- Litestar encodes no FileObject: its JSON is what :meth:`FileObject.to_dict` returns.
- pydantic does not read the JSON that it wrote: a null is refused, and no text is an instance of FileObject.

:func:`register_file_object` is called where ObstoreBackend is imported. It changes nothing that an application has set.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from advanced_alchemy.types.file_object import FileObject

if TYPE_CHECKING:
    from litestar.config.app import AppConfig

__all__ = ("FileObjectPlugin", "register_file_object")

_GET_SCHEMA = "__get_pydantic_core_schema__"


class FileObjectPlugin:
    """A plugin for a Litestar application that was imported after ObstoreBackend: ``Litestar(plugins=[FileObjectPlugin()])``."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the encoder of FileObject, unless the application has one."""
        app_config.type_encoders = {FileObject: FileObject.to_dict, **(app_config.type_encoders or {})}
        return app_config


def register_file_object() -> None:
    """Let Litestar, where it is imported, encode a FileObject, and pydantic read the JSON of one."""
    if (hooks := sys.modules.get("litestar.serialization.msgspec_hooks")) is not None:
        hooks.DEFAULT_TYPE_ENCODERS.setdefault(FileObject, FileObject.to_dict)
    original = getattr(FileObject, _GET_SCHEMA)
    if original.__func__.__module__ == __name__:
        return

    def get_schema(cls: type[FileObject], source: Any, handler: Any) -> Any:
        return _accept_own_json(original.__func__(cls, source, handler))

    get_schema.__module__ = __name__
    setattr(FileObject, _GET_SCHEMA, classmethod(get_schema))


def _accept_own_json(schema: Any) -> Any:
    """Return upstream's schema with nulls for what a file need not have, and without the instance in its part for JSON."""
    from pydantic_core import core_schema

    try:
        from_dict = schema["json_schema"]["choices"][1]
        fields = from_dict["steps"][0]["fields"].values()
    except (KeyError, IndexError, TypeError):
        return schema  # of another version of advanced-alchemy
    for field in fields:
        if field.get("required") is False and field["schema"]["type"] != "nullable":
            field["schema"] = core_schema.nullable_schema(field["schema"])
    return {**schema, "json_schema": from_dict}
