"""One row of a table of options: what goes in, what must come out."""

from dataclasses import dataclass, field
from typing import Any

from migrate_storage.translate import translate


@dataclass
class Row:
    protocol: str
    options: dict[str, Any]
    expected: dict[str, Any] = field(default_factory=dict)
    client: dict[str, Any] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    prefix: str | None = "b"
    retry: dict[str, Any] = field(default_factory=dict)
    credentials: str | None = None
    refused: bool = False

    def check(self) -> None:
        """Exactly these options, client options and notes: nothing more, nothing less."""
        translation = translate(self.protocol, self.options, self.prefix, self.environment)
        codes = tuple(sorted({note.code for note in translation.notes}))
        assert codes == tuple(sorted(self.codes))
        assert bool(translation.refused) is self.refused
        if self.refused:
            assert translation.config is None
            assert all(note.todo for note in translation.refused)
            return
        config = translation.config
        assert config is not None
        assert dict(config.options) == self.expected
        assert dict(config.client_options) == self.client
        assert dict(config.retry) == self.retry
        assert (config.credentials.kind if config.credentials else None) == self.credentials
