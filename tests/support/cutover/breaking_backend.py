"""A backend that fails on demand, over one that works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from migrate_storage import ObstoreBackend


class KilledError(BaseException):
    """The process ends here: nothing that it would have done next is done."""


class Breaking(ObstoreBackend):
    """Fails each request for which ``broken`` says so, ``before`` or ``after`` its effect; or kills who asked, ``killed``
    before and ``dead`` after it."""

    #: What is overridden changes neither bytes nor keys.
    migrate_storage_direct = True
    broken: Callable[[str], str | None] = staticmethod(lambda _: None)

    def _harm(self, name: str, work: Callable[[], Any]) -> Any:
        how = self.broken(name)
        if how == "before":
            raise OSError("broken before")
        if how == "killed":
            raise KilledError
        done = work()
        if how == "dead":
            raise KilledError
        if how == "after":
            raise OSError("broken after")
        return done

    def save_object(self, *arguments: Any, **options: Any) -> Any:
        return self._harm("save", lambda: super(Breaking, self).save_object(*arguments, **options))

    async def save_object_async(self, *arguments: Any, **options: Any) -> Any:
        return self.save_object(*arguments, **options)

    def delete_object(self, *arguments: Any, **options: Any) -> Any:
        return self._harm("delete", lambda: super(Breaking, self).delete_object(*arguments, **options))

    async def delete_object_async(self, *arguments: Any, **options: Any) -> Any:
        return self.delete_object(*arguments, **options)

    def get_content(self, *arguments: Any, **options: Any) -> Any:
        return self._harm("read", lambda: super(Breaking, self).get_content(*arguments, **options))

    async def get_content_async(self, *arguments: Any, **options: Any) -> Any:
        return self.get_content(*arguments, **options)

    def head(self, *arguments: Any, **options: Any) -> Any:
        return self._harm("head", lambda: super(Breaking, self).head(*arguments, **options))

    def list(self, *arguments: Any, **options: Any) -> Any:
        return iter(self._harm("list", lambda: [*super(Breaking, self).list(*arguments, **options)]))

    def sign(self, paths: Any, **options: Any) -> Any:
        """Return a URL with the store and key, as a memory store has none."""
        return self._harm("sign", lambda: f"https://{self.key}/{paths}{'?upload' if options.get('for_upload') else ''}")

    async def head_async(self, *arguments: Any, **options: Any) -> Any:
        return self.head(*arguments, **options)
