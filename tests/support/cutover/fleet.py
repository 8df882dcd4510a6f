"""Clients of an application in several processes, and the check of each operation against every other one.

A key is a register that several clients write and read. A write that was acknowledged is seen by every read that begins after
it; one that failed may have happened or not, but only until its answer came: after the next acknowledged write neither
is seen again.
"""

from __future__ import annotations

import hashlib
import math
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import httpx

#: What a read found: the digest of its bytes, or that there is nothing.
Value = str | None


@dataclass(frozen=True, slots=True)
class Write:
    value: Value
    began: float
    #: When it ended, acknowledged or not.
    ended: float
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Read:
    value: Value
    began: float
    ended: float
    #: Where it was made, for a person.
    by: str


BEFORE = Write(value=None, began=-math.inf, ended=-math.inf, acknowledged=True)


@dataclass(slots=True)
class History:
    """All writes and reads of one key."""

    writes: list[Write] = field(default_factory=lambda: [BEFORE])
    reads: list[Read] = field(default_factory=list)

    def possible(self, began: float, ended: float) -> set[Value]:
        """Return the values that a read in this time may find."""
        # The last begun of those that were over, and acknowledged, when the read began: what had ended before it is no more.
        newest = max(each.began for each in self.writes if each.acknowledged and each.ended < began)
        return {each.value for each in self.writes if each.began < ended and each.ended >= newest}

    def wrong(self) -> list[tuple[Read, set[Value]]]:
        """Return each read of a wrong value, with the values that it might have found."""
        looked = [(each, self.possible(each.began, each.ended)) for each in self.reads]
        return [(read, possible) for read, possible in looked if read.value not in possible]


class Histories:
    """All keys; for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.keys: dict[str, History] = defaultdict(History)

    def write(self, key: str, write: Write) -> None:
        with self._lock:
            self.keys[key].writes.append(write)

    def read(self, key: str, read: Read) -> None:
        with self._lock:
            self.keys[key].reads.append(read)

    def wrong(self) -> list[str]:
        return [
            f"{key}: {read} might be {possible}" for key, each in self.keys.items() for read, possible in each.wrong()
        ]


class Client(threading.Thread):
    """Uploads, replaces, deletes and reads until ``stop`` is set.

    Args:
        number: of this client.
        endpoints: of all processes; those that are gone are passed over.
        keys: that it writes. Others may write them too.
        all_keys: that it reads.
        histories: where it takes everything down.
        stop: ends it.
        seed: of all that it does.
        lingers: seconds for which a write may still take effect whose connection was lost.
        ways: that it reads by, one at a time.
    """

    def __init__(
        self, number: int, endpoints: Sequence[str], keys: Sequence[str], all_keys: Sequence[str], histories: Histories,
        stop: threading.Event, seed: int, lingers: float, ways: Sequence[str] = ("files", "objects"),
    ) -> None:  # fmt: skip
        super().__init__(name=f"client {number}", daemon=True)
        self._number, self._endpoints, self._keys, self._all = number, endpoints, keys, all_keys
        self._histories, self._stopping, self._lingers = histories, stop, lingers
        self._dice = random.Random(f"{seed} {number}")
        self._ways = ways
        #: Seconds between two requests at most.
        self.pause = 0.05
        self._avoided: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self.broken: BaseException | None = None

    def run(self) -> None:
        try:
            with httpx.Client(timeout=60) as http:
                while not self._stopping.wait(self._dice.uniform(0, self.pause)):
                    self._one(http)
        except BaseException as error:  # told by the test
            self.broken = error

    def _one(self, http: httpx.Client) -> None:
        dice = self._dice
        drawn = dice.random()
        if drawn < 0.55:
            return self._read(http, dice.choice(self._all))
        key = dice.choice(self._keys)
        if self._avoided.get(key, 0) > time.monotonic():
            return None
        if drawn < 0.9:
            content = (
                dice.randbytes(dice.choice((0, 10, 1000, 30_000))) + f"{self._number} {time.monotonic_ns()}".encode()
            )
            return self._write(http, key, content)
        return self._write(http, key, None)

    def _write(self, http: httpx.Client, key: str, content: bytes | None) -> None:
        url, what = f"{self._dice.choice(self._endpoints)}/files/{key}", "delete" if content is None else "save"
        began = time.monotonic()
        try:
            answer = http.delete(url) if content is None else http.put(url, content=content)
        except httpx.ConnectError:
            # Never sent.
            self.counts[f"{what} refused"] += 1
            return
        except httpx.HTTPError:
            # Nobody knows what has become of it: the process was killed. Nor does it help to ask at once.
            ended = time.monotonic() + self._lingers
            self._avoided[key], fine = ended, False
            self.counts[f"{what} lost"] += 1
        else:
            # The object was deleted: a side may answer so, and a delete that failed may have happened.
            ended, fine = time.monotonic(), answer.status_code in (200, 404)
            self.counts[f"{what} {'acknowledged' if fine else 'failed'}"] += 1
            self.counts[f"in {answer.headers.get('x-phase')}"] += 1
        value = None if content is None else digest(content)
        self._histories.write(key, Write(value=value, began=began, ended=ended, acknowledged=fine))

    def _read(self, http: httpx.Client, key: str) -> None:
        try:
            found = look(http, self._dice.choice(self._endpoints), key, self._dice.choice(self._ways))
        except httpx.ConnectError:
            self.counts["read refused"] += 1
            return
        except httpx.HTTPError:
            # The process ended before it answered.
            self.counts["read lost"] += 1
            return
        if found is None:
            self.counts["read failed"] += 1
        else:
            self.counts["read answered"] += 1
            self._histories.read(key, found)


def look(http: httpx.Client, endpoint: str, key: str, how: str) -> Read | None:
    """Return what a process answers; ``None`` for an error. Raises ``httpx.HTTPError`` when no process answers."""
    began = time.monotonic()
    answer = http.get(f"{endpoint}/{how}/{key}")
    if answer.status_code not in (200, 404):
        return None
    value = digest(answer.content) if answer.status_code == 200 else None
    return Read(
        value=value, began=began, ended=time.monotonic(), by=f"{endpoint}/{how} {answer.headers.get('x-phase')}"
    )


def digest(content: bytes) -> str:
    """What a history keeps of a content."""
    return hashlib.sha256(content).hexdigest()[:16]


def told(clients: Iterable[Client]) -> Counter[str]:
    """Return the counts of all clients; raise the error of one that failed."""
    counts: Counter[str] = Counter()
    for client in clients:
        if client.broken is not None:
            raise client.broken
        counts += client.counts
    return counts
