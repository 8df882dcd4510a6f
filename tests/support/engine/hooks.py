"""Work that is done at an exact point of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def before_call(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, work: Callable[..., None]) -> None:
    """Do ``work`` once, right before the first call of a method, with the arguments of that call."""
    original, left = getattr(owner, name), [work]

    def hooked(*args: Any, **kwargs: Any) -> Any:
        if left:
            left.pop()(*args, **kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, hooked)
