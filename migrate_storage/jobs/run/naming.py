"""Check the names that ``--rename`` gives, before the first byte is copied.

The rows are read once, and each new name is kept in a temporary file. A name must be one that the destination can have, no other
file's, and the same each time. Where an object is there already, it must have the bytes of the file.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from threading import Event

from migrate_storage.core.errors import ConfigurationError, KeyRefusedError, StoppedError
from migrate_storage.core.model import Location, Note, Severity
from migrate_storage.core.parallel import parallel_map
from migrate_storage.core.text import amount
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots
from migrate_storage.engine.existing_objects import ExistingObjects
from migrate_storage.engine.plan import Item, MigrationPlan
from migrate_storage.engine.rename import FLAG, RenameError
from migrate_storage.engine.transfer import CopyResources
from migrate_storage.jobs.run.new_names import NewName, NewNames
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.jobs.run.preflight import RunPreflight
from migrate_storage.journal import Journal, ObjectRecord, ObjectState, RunRecord
from migrate_storage.stores.failures import ObjectCheckError
from migrate_storage.stores.retry import StoreRequestError

__all__ = ("check_names", "check_same_rule")

HEADS_AT_ONCE = 32
"""Requests that search for objects under the new names at once."""
_COPIED = (ObjectState.INTENT, ObjectState.VERIFIED, ObjectState.UNREFERENCED, ObjectState.COPY_DELETING)
"""States of a record whose copy may be at the destination."""
_NAMED = frozenset({*_COPIED, ObjectState.SOURCE_DELETING, ObjectState.SOURCE_DELETED})
"""States of a record that decide which name the copy has."""


def check_same_rule(journal: Journal, options: RunOptions) -> None:
    """Check that the copies of earlier runs between the two keys were named by the same rule.

    Raises:
        ConfigurationError: the rule was another one, and copies of it are at the destination.
    """
    assert options.destination is not None
    for run in journal.runs.between("run", options.source, options.destination):
        if run.renaming != options.rename and _has_copies(journal, run):
            rule = (
                "kept the filenames"
                if run.renaming is None
                else f"named its copies by {FLAG} {shlex.quote(run.renaming)}"
            )
            raise ConfigurationError(
                f"run {run.id} {rule}, and they are at {options.destination!r}: give the same rule, or name another --to; to change it, "
                "complete that run, then 'migrate-storage revert' and 'migrate-storage purge --unreferenced-copies'"
            )


def _has_copies(journal: Journal, run: RunRecord) -> bool:
    found = journal.objects.in_states(*_COPIED, run=run.id)
    return any(record.written_by_us is not False for batch in found for record in batch)


def check_names(
    preflight: RunPreflight, journal: Journal | None, options: RunOptions, resources: CopyResources, stop: Event
) -> Note:
    """Check the names that copies would get.

    Args:
        preflight: the plan and the rows.
        journal: what earlier runs recorded; ``None`` where there is none.
        options: how the run works.
        resources: what objects are compared with.
        stop: set when the job is to stop.

    Returns:
        How many files get another name.

    Raises:
        ConfigurationError: a file gets a name that it cannot have; the message has the first one, and the number of them.
        StoppedError: the job was asked to stop.
    """
    with NewNames() as names:
        survey = _NameSurvey(preflight.route, journal, names, stop)
        for rows in preflight.rows:
            for window in rows.windows(options.source, options.batch_size):
                survey.add_rows(rows, window)
        survey.refuse_problems()
        survey.compare_existing(resources)
        survey.refuse_problems()
        return survey.describe()


class _NameSurvey:
    """Collects the new names and what is wrong with them."""

    def __init__(self, plan: MigrationPlan, journal: Journal | None, names: NewNames, stop: Event) -> None:
        self._plan, self._journal, self._names, self._stop = plan, journal, names, stop
        self._problems: Counter[str] = Counter()
        #: The first file of each kind of problem, in a message.
        self._first: dict[str, str] = {}

    def add_rows(self, rows: FileColumn, window: Sequence[Row]) -> None:
        """Add the names of the files of some rows. A row that cannot be read is left to the run, which lists it."""
        self._check_stop()
        items: dict[str, Item] = {}
        for row in window:
            try:
                slots = [slot for slot in parse_slots(rows.column, row) if self._plan.includes(slot)]
                items |= self._plan.items(slots)
            except RenameError as error:
                self._add_problem("named", str(error))
            except (BrokenValueError, ValueError):
                continue
        records = {} if self._journal is None or not items else self._journal.objects.find(list(items))
        added = []
        for id_, item in items.items():
            if self._check_name(item, records.get(id_)):
                new, old = item.destination.path, item.source.path
                renamed, known = new != self._plan.kept_path(old), _names_copy(records.get(id_))
                place = self._plan.destination.place(new)
                added.append(NewName(place, id_, old, new, renamed, renamed and item.action.moves and not known))
        for name, owner in self._names.add(added):
            both = f"{owner!r} and {name.source!r}"
            self._add_problem("shared", f"{FLAG} gives {both} one name, {name.path!r}")

    def _check_name(self, item: Item, record: ObjectRecord | None) -> bool:
        """Check one name by itself."""
        assert self._plan.rename is not None
        new, old = item.destination.path, item.source.path
        try:
            again = self._plan.destination_path(old)
        except ValueError as error:
            self._add_problem("named", str(error))
            return False
        if again != new:
            self._add_problem("varying", f"{FLAG} gives {old!r} the name {new!r}, and {again!r} when it is asked again")
            return False
        if item.action.moves and (reason := self._plan.refusal(new)):
            self._add_problem("refused", f"{FLAG} gives {old!r} the name {new!r}: {reason}")
            return False
        if record is not None and _names_copy(record) and record.destination_path != new:
            was = f"{FLAG} gives {old!r} the name {new!r}, and run {record.run} named its copy {record.destination_path!r}"
            self._add_problem("other", f"{was}: a rule must give the same name each time")
            return False
        return True

    def compare_existing(self, resources: CopyResources) -> None:
        """Search for an object under each new name, and compare it with the file."""
        existing = ExistingObjects(self._plan, resources, keeps_attributes=False)
        retry, plan = resources.retry, self._plan

        def compare(names: tuple[str, str]) -> bool | None:
            """Return whether the object under a new name has the bytes of the file; ``None`` where there is none."""
            old, new = names
            self._check_stop()
            try:
                destination = plan.destination.resolve(new)
                if retry.or_none_if_missing(destination.head) is None:
                    return None
                return existing.compare(plan.source.resolve(old), destination, headers=False) is not None
            except (ObjectCheckError, KeyRefusedError, StoreRequestError):
                return None  # the run lists it, with the reason

        found = iter(self._names.searched())
        while batch := list(islice(found, 20 * HEADS_AT_ONCE)):
            owners = self._find_owners([new for _, new in batch])
            for (old, new), equal in parallel_map(compare, batch, HEADS_AT_ONCE):
                if equal is not None and (owner := owners.get(new)):
                    self._add_problem(
                        "taken",
                        f"{FLAG} gives {old!r} the name {new!r}, which the copy of {owner.source_path!r} by run {owner.run} has",
                    )
                elif equal is False:
                    self._add_problem(
                        "occupied", f"{FLAG} gives {old!r} the name {new!r}, where another object is already"
                    )

    def _find_owners(self, names: Sequence[str]) -> dict[str, ObjectRecord]:
        """Return the records of earlier copies under these names, by name."""
        if self._journal is None:
            return {}
        found = self._journal.objects.at_destinations(Location(self._plan.destination.key, name) for name in names)
        return {location.path: record for location, record in found.items() if record.state in _NAMED}

    def _add_problem(self, kind: str, message: str) -> None:
        self._problems[kind] += 1
        self._first.setdefault(kind, message)

    def refuse_problems(self) -> None:
        """Raise where a name cannot be given."""
        if not self._problems:
            return
        kind, message = next(iter(self._first.items()))
        more, other = self._problems[kind] - 1, self._problems.total() - self._problems[kind]
        counts = [f"{more:,} more of this kind"] if more else []
        counts += [f"{amount(other, 'other problem')} with names"] if other else []
        said = f" ({', '.join(counts)})" if counts else ""
        raise ConfigurationError(f"{message}{said}; nothing was changed")

    def describe(self) -> Note:
        """Return how many files get another name."""
        (count, renamed), (old, new) = self._names.count(), self._names.example()
        shown = f", such as {new!r} for {old!r}" if renamed else ""
        return Note(
            severity=Severity.INFO if renamed else Severity.WARNING, code="rename", subject=FLAG,
            message=f"{renamed:,} of {amount(count, 'file')} that rows name get another name{shown}",
            todo="" if renamed else "see that the pattern matches the whole filename",
        )  # fmt: skip

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise StoppedError("a stop was requested, before anything was changed")


def _names_copy(record: ObjectRecord | None) -> bool:
    """Whether a record decides which name the copy of its object has."""
    return record is not None and record.state in _NAMED
