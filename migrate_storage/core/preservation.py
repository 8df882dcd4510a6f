"""What a user asks copies to get beside bytes, headers and user metadata."""

from __future__ import annotations

from dataclasses import dataclass

from migrate_storage.core.errors import ConfigurationError

__all__ = ("PRESERVABLE", "STORAGE_CLASS", "TAGS", "Preservation", "check_preservation")

STORAGE_CLASS, TAGS = PRESERVABLE = ("storage-class", "tags")


@dataclass(frozen=True, kw_only=True, slots=True)
class Preservation:
    """What copies get beside bytes, headers and user metadata."""

    #: The storage class of each copy; ``None`` leaves it to the destination's default.
    storage_class: str | None = None
    #: What each copy takes over from its source, of ``PRESERVABLE``.
    preserve: tuple[str, ...] = ()

    @property
    def is_asked(self) -> bool:
        """Whether copies get anything of it."""
        return self.storage_class is not None or bool(self.preserve)


def check_preservation(asked: Preservation) -> None:
    """Check what a user asks for.

    Raises:
        ConfigurationError: an unknown word, or two options that contradict each other.
    """
    for word in asked.preserve:
        if word not in PRESERVABLE:
            raise ConfigurationError(f"--preserve takes {' and '.join(PRESERVABLE)}, not {word!r}")
    if asked.storage_class is not None and STORAGE_CLASS in asked.preserve:
        raise ConfigurationError(
            "--storage-class sets the class of every copy: leave 'storage-class' out of --preserve"
        )
    if asked.storage_class is not None and not asked.storage_class.replace("_", "").replace("-", "").isalnum():
        raise ConfigurationError(f"--storage-class {asked.storage_class!r} is no name of a storage class")
