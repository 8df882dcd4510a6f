"""Credential providers for obstore.

All are synchronous: obstore waits for ever when a synchronous call inside a running event loop needs an asynchronous
provider. All are lazy: a provider requests nothing before the first use of the store.
"""

from __future__ import annotations

import asyncio
import copy
import ctypes
import inspect
import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.extras import install_command
from migrate_storage.translate.model import CredentialSource

__all__ = ("Provider", "StaticCredentials", "provider")

Provider = Callable[[], Mapping[str, Any]]

#: obstore caches credentials until they expire; refreshable ones are read again this often.
_REFRESH_INTERVAL = timedelta(minutes=5)
_AZURE_SCOPE = "https://storage.azure.com/.default"
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"


class StaticCredentials:
    """Credentials that never change. ``repr`` shows none of them."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {"expires_at": None, **values}

    def __call__(self) -> Mapping[str, Any]:
        """Return the credentials."""
        return self._values


class _Lazy:
    """Reads credentials from a source that the first request builds."""

    def __init__(self, build: Callable[[], Any], ask: Callable[[Any], Mapping[str, Any]]) -> None:
        self._build, self._ask = build, ask
        self._built: Any = None
        self._process = os.getpid()
        self._lock = threading.Lock()

    def __call__(self) -> Mapping[str, Any]:
        if self._process != os.getpid():
            # Another thread of the parent may have had the lock.
            self._process, self._lock = os.getpid(), threading.Lock()
            if self._built is not None:
                # Its end would close the parent's connections, and take them off the parent's event loop: it never ends.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._built))
                self._built = None
        with self._lock:
            if self._built is None:
                self._built = self._build()
            return self._ask(self._built)


def provider(source: CredentialSource, service: str) -> Provider:
    """Return the provider for a source.

    Args:
        source: where the credentials come from.
        service: ``s3``, ``gcs`` or ``azure``: decides what is read from a live object.

    Raises:
        ConfigurationError: the source or its live object is of no known kind.
    """
    options = {name: value for name, value in source.options.items() if value is not None}
    match source.kind:
        case "static":
            return StaticCredentials(options)
        case "boto3":
            return _Lazy(lambda: _find_botocore(options), _read_botocore)
        case "google":
            return _Lazy(lambda: _find_google(options), _read_google)
        case "google_file":
            return _Lazy(lambda: _load_google(str(options["path"])), _read_google)
        case "azure":
            return _Lazy(lambda: _find_azure(options), _read_azure)
        case "object":
            return _make_object_provider(source.provider, service)
    raise ConfigurationError(
        f"credentials of the kind {source.kind!r} are not known; use boto3, google, azure or static"
    )


def _find_botocore(options: Mapping[str, Any]) -> Any:
    profile = options.get("profile_name") or options.get("profile")
    session = _import_module("botocore.session", "boto3").Session(profile=profile)
    return _require_credentials(session.get_credentials())


def _require_credentials(credentials: Any) -> Any:
    if credentials is None:
        raise PermissionError("botocore found no AWS credentials: no keys, profile, role or instance that gives any")
    return credentials


def _read_botocore(credentials: Any) -> Mapping[str, Any]:
    frozen = _await_result(credentials.get_frozen_credentials())
    refreshable = hasattr(credentials, "refresh_needed")
    return {
        "access_key_id": frozen.access_key,
        "secret_access_key": frozen.secret_key,
        "token": frozen.token,
        "expires_at": datetime.now(UTC) + _REFRESH_INTERVAL if refreshable else None,
    }


def _find_google(options: Mapping[str, Any]) -> Any:
    scopes = options.get("scopes") or [_GOOGLE_SCOPE]
    return _import_module("google.auth", "google-auth").default(scopes=scopes)[0]


def _load_google(path: str) -> Any:
    return _import_module("google.auth", "google-auth").load_credentials_from_file(path, scopes=[_GOOGLE_SCOPE])[0]


def _read_google(credentials: Any) -> Mapping[str, Any]:
    if getattr(credentials, "requires_scopes", False):
        credentials = credentials.with_scopes([_GOOGLE_SCOPE])
    if hasattr(credentials, "refresh") and not _is_static(credentials):
        credentials.refresh(_import_module("google.auth.transport.requests", "google-auth[requests]").Request())
    return {"token": credentials.token or "", "expires_at": _to_utc(getattr(credentials, "expiry", None))}


def _is_static(credentials: Any) -> bool:
    # google.auth's plain Credentials(token) and AnonymousCredentials raise from refresh().
    if type(credentials).__name__ == "AnonymousCredentials":
        return True
    return hasattr(credentials, "refresh_token") and not credentials.refresh_token and bool(credentials.token)


def _find_azure(options: Mapping[str, Any]) -> Any:
    return _import_module("azure.identity", "azure-identity").DefaultAzureCredential(**options)


def _read_azure(credential: Any) -> Mapping[str, Any]:
    token = _await_result(credential.get_token(_AZURE_SCOPE))
    return {"token": token.token, "expires_at": datetime.fromtimestamp(token.expires_on, UTC)}


def _make_object_provider(live: Any, service: str) -> Provider:
    if hasattr(live, "get_frozen_credentials"):
        return _Lazy(lambda: live, _read_botocore)
    if hasattr(live, "get_credentials"):
        return _Lazy(lambda: _require_credentials(_await_result(live.get_credentials())), _read_botocore)
    if hasattr(live, "get_token"):
        return _Lazy(_copy_unopened(live), _read_azure)
    if hasattr(live, "named_key"):
        return StaticCredentials({"access_key": live.named_key.key})
    if service == "azure" and hasattr(live, "signature"):
        return StaticCredentials({"sas_token": live.signature})
    if service == "gcs" and hasattr(live, "token") and not callable(live.token):
        return _Lazy(lambda: live, _read_google)
    if not callable(live):
        raise ConfigurationError(
            f"credential_provider is a {type(live).__name__}, which gives no credentials; pass a function that returns them"
        )
    return _Lazy(lambda: live, lambda function: _add_expiry(_await_result(function())))


def _copy_unopened(live: Any) -> Callable[[], Any]:
    """Return a function that gives an asynchronous credential without connections.

    Connections belong to one event loop of one process: adlfs may use those of the same credential on its own loop, and
    a child process has those of its parent.
    """
    if not inspect.iscoroutinefunction(live.get_token):
        return lambda: live
    born = os.getpid()
    try:
        transports = _find_transports(live)
        spare = copy.deepcopy(live, {id(each): _copy_transport(each) for each in transports})
    except Exception:  # noqa: BLE001 - it may be of any class, and in use: then it has to be shared
        return lambda: live
    return lambda: copy.deepcopy(spare) if transports or os.getpid() != born else live


def _find_transports(live: Any) -> list[Any]:
    """Return the HTTP transports of azure.core that an object has, however deep."""
    found: list[Any] = []
    seen: set[int] = set()
    waiting = [live]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | ModuleType):
            continue
        seen.add(id(each))
        if hasattr(each, "_has_been_opened"):
            found.append(each)
        elif isinstance(each, list | tuple | set):
            waiting += each
        else:
            waiting += (each if isinstance(each, Mapping) else getattr(each, "__dict__", {})).values()
    return found


def _copy_transport(transport: Any) -> Any:
    """Return a transport with the same settings that was never opened."""
    found = copy.copy(transport)
    found.session, found._has_been_opened = None, False  # noqa: SLF001 - azure.core has no public name for it
    return found


def _add_expiry(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**answer, "expires_at": _to_utc(answer.get("expires_at"))}


def _to_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _await_result(answer: Any) -> Any:
    """Return the answer; await it on a loop of our own, for the loop of this thread may be running or end soon."""
    if not inspect.isawaitable(answer):
        return answer

    async def wait() -> Any:
        return await answer

    return asyncio.run_coroutine_threadsafe(wait(), _Loop.running()).result()


class _Loop:
    """The one event loop, on a thread of its own, that serves asynchronous credentials as long as the process lives.

    Their connections belong to the loop that made them, so that a loop for each request would end them.
    """

    _loop: asyncio.AbstractEventLoop | None = None
    _process = 0
    _lock = threading.Lock()

    @classmethod
    def running(cls) -> asyncio.AbstractEventLoop:
        """Return the loop; a new one in a child process, where no thread of the parent runs."""
        if cls._process != os.getpid():
            cls._lock = threading.Lock()
            cls._loop, cls._process = None, os.getpid()
        with cls._lock:
            if cls._loop is None:
                cls._loop = asyncio.new_event_loop()
                thread = threading.Thread(target=cls._loop.run_forever, name="migrate-storage-credentials", daemon=True)
                thread.start()
            return cls._loop


def _import_module(name: str, package: str) -> Any:
    try:
        return __import__(name, fromlist=["*"])
    except ImportError:
        command = install_command(package) or "install it"
        raise ConfigurationError(f"these credentials need {package}: {command}") from None
