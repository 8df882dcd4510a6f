"""Find the public addresses of objects in any text, and write those of moved objects anew in the same spelling."""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from urllib.parse import quote, unquote, urlsplit

from migrate_storage.core.address_text import (
    COLON,
    NEXT,
    SLASH,
    SLASH_IN_PERCENT,
    Token,
    Unit,
    ends_address,
    read_extent,
    read_tokens,
    read_units,
)
from migrate_storage.core.errors import ConfigurationError

__all__ = (
    "Address",
    "AddressBase",
    "AddressFinder",
    "AddressKind",
    "Edit",
    "MovedNames",
    "apply_edits",
    "edit_of",
    "undo_edits",
)

MAX_PATH_CHARACTERS = 12_288
"""Characters of an address behind its host. S3 keys have at most 1,024 bytes, and each may be spelled with several."""
MAX_QUERY_CHARACTERS = 8_192
MAX_ENDS = 128
"""Places at which one address may end, the first ones."""
_LOOK_BEHIND = 32
"""Characters before ``//`` in which its scheme is."""
_QUOTE_CHARACTERS = 12
"""Characters of the longest spelling of a quote before an address."""
_TRAILING = frozenset(".,;:!')*_~")
"""Punctuation that may be of the text around an address, at its end."""
_SCHEME = re.compile(
    rf"(?:^|[^A-Za-z0-9+.\-]|\\[bfnrt]|\\u[0-9a-fA-F]{{4}}|%[0-9a-fA-F]{{2}})(?P<scheme>(?i:https?)){COLON}\Z"
)
_OPENINGS = (
    ('"', re.compile(r"(?:\"|&quot;|&#0{0,4}34;|&#[xX]0{0,4}22;|\\u0022)\Z")),
    ("'", re.compile(r"(?:'|&apos;|&#0{0,4}39;|&#[xX]0{0,4}27;|\\u0027)\Z")),
    ("=", re.compile(r"(?:=|\\u003[dD]|&#0{0,4}61;)\Z")),
)
_PATH_BOUNDARY = re.compile(r"(?:^|[\s\"'(=>,\[;|])\Z")
"""What is before a path that is an address by itself."""
_SEGMENTS = re.compile(r"/(?:[A-Za-z0-9._~-]+/)+")
_SIGNED = frozenset({
    "x-amz-signature", "x-amz-credential", "awsaccesskeyid", "signature", "x-goog-signature", "googleaccessid", "sig",
    "key-pair-id", "policy", "x-oss-signature", "ossaccesskeyid", "q-signature", "se", "sp",
})  # fmt: skip
"""Parameters of signed addresses: of AWS, CloudFront, Google, Azure, Alibaba and Tencent."""
_COLON = re.compile(COLON)
_QUERY = re.compile(r"[^\s\"<>]*")
_PARAMETER = re.compile(r"(?:[?&;]|%3[fF]|%26|u0026)([A-Za-z0-9_-]{1,40})=")
_OF_A_VERSION = frozenset({"versionid", "generation", "snapshot", "partnumber"})


class MovedNames(Protocol):
    """The filenames of moved objects."""

    @property
    def longest(self) -> int:
        """Characters of the longest one."""

    @property
    def odd(self) -> Collection[str]:
        """Characters in them that no URL has unless it is spelled in percent."""

    def find(self, names: Collection[str]) -> Collection[str]:
        """Those of some names that are among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AddressBase:
    """What the addresses of a backend's files begin with."""

    #: ``http`` or ``https``; empty for a path.
    scheme: str = ""
    #: In lower case, with a port that is not the scheme's own; empty for a path.
    host: str = ""
    #: Decoded, with a slash at both ends.
    path: str = "/"
    #: What the filenames of its objects begin with, before what follows in the address.
    folder: str = ""
    #: Why addresses with it are not changed; empty where they are.
    reason: str = ""

    @classmethod
    def parse(cls, text: str, option: str) -> AddressBase:
        """Read a base address as a person types it: ``https://HOST/PATH/``, ``/PATH/``, or one of them with ``=FOLDER``.

        Raises:
            ConfigurationError: it is none.
        """
        url, _, folder = text.strip().partition("/=")
        url = f"{url.rstrip('/')}/"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigurationError(f"{option}: it is no address; write https://HOST/PATH/") from None
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise ConfigurationError(
                f"{option}: an address without user, query and fragment, such as https://HOST/PATH/"
            )
        if not url.isascii() or any(ends_address(char) or char in "'()&;,*" for char in url):
            raise ConfigurationError(f"{option} {url!r}: write it in ASCII, its other characters in percent")
        if not parts.netloc and not parts.scheme:
            if not _SEGMENTS.fullmatch(url):
                raise ConfigurationError(f"{option} {url!r}: write https://HOST/PATH/, or a path such as /media/")
            return cls(path=url, folder=folder)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{option} {url!r}: write https://HOST/PATH/, or a path such as /media/")
        shown = f":{port}" if port and port != {"http": 80, "https": 443}[parts.scheme] else ""
        return cls(scheme=parts.scheme, host=f"{parts.hostname}{shown}", path=unquote(parts.path), folder=folder)

    def __str__(self) -> str:
        head = f"{self.scheme}://{self.host}" if self.host else ""
        return f"{head}{quote(self.path)}"


class AddressKind(enum.StrEnum):
    """What an address names, and whether it can be changed."""

    MOVED = "moved"
    """A moved object."""
    UNMOVED = "unmoved"
    """No moved object."""
    UNCHANGED = "unchanged"
    """A moved object, in a spelling that is recognised and not changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """An address in a text."""

    kind: AddressKind
    #: Where its spelling is, without query and fragment.
    start: int
    end: int
    #: The filename of the moved object; empty where it names none.
    name: str = ""
    #: Why it is not changed.
    reason: str = ""
    #: Where the part of the filename begins, and its characters.
    middle: int = 0
    rest: Sequence[Unit] = field(default=(), repr=False)


class Edit(NamedTuple):
    """A change of a text."""

    start: int
    old: str
    new: str


class _Start(NamedTuple):
    """Where an address begins."""

    #: Of the slashes and the host, or of the path.
    match: re.Match[str]
    begin: int
    #: As it is spelled; empty where there is none.
    scheme: str = ""


class _Part(NamedTuple):
    """What follows a host or a base."""

    units: Sequence[Unit]
    #: The character behind it, see :class:`.Extent`.
    closing: str
    #: Whether it was read and decoded to its end.
    whole: bool
    end: int
    #: Whether a character of it is spelled as an entity of HTML.
    entities: bool


class _Candidate(NamedTuple):
    """An address whose possible names were not searched yet."""

    base: AddressBase
    start: int
    #: Where the part of the filename begins.
    middle: int
    part: _Part
    #: The numbers of units at which it may end, the longest first.
    ends: Sequence[int]
    reason: str

    @property
    def rest(self) -> Sequence[Unit]:
        return self.part.units

    def name(self, end: int) -> str:
        return self.base.folder + "".join(unit.char for unit in self.rest[:end])


class AddressFinder:
    """Finds the addresses below some bases.

    Args:
        bases: the bases. Where two of one host match, the longer path does.
        names: the filenames of moved objects.
    """

    def __init__(self, bases: Sequence[AddressBase], names: MovedNames) -> None:
        self._bases = sorted(bases, key=lambda base: -len(base.path))
        self._names = names
        self._limit = min(MAX_PATH_CHARACTERS, 12 * names.longest + max((len(base.path) for base in bases), default=0))
        hosts = sorted({base.host for base in bases if base.host}, key=len, reverse=True)
        paths = sorted({base.path for base in bases if not base.host}, key=len, reverse=True)
        # A pattern that matches nothing keeps both groups where there are none of one kind.
        spelled = "|".join(map(_to_host_pattern, hosts)) or "(?!)"
        after = rf"(?P<port>{COLON}(?:443|80)(?!\d))?(?![A-Za-z0-9_-]|\.[A-Za-z0-9])"
        below = "|".join(map(_to_path_pattern, paths)) or "(?!)"
        self._pattern = re.compile(rf"{SLASH_IN_PERCENT}{{2}}(?P<host>{spelled}){after}|{SLASH}(?P<path>{below})")

    def find(self, text: str) -> list[Address]:
        """The addresses in a text, in their order."""
        found = list(self._read(text))
        names = {candidate.name(end) for candidate in found for end in candidate.ends}
        known = self._names.find({variant for name in names for variant in (name, *_vary(name))})
        return [self._decide(text, candidate, known) for candidate in found]

    def _read(self, text: str) -> Iterator[_Candidate]:
        """Yield the addresses. One ends at the latest where the next begins, so that no character is read twice."""
        starts = list(self._find_starts(text))
        for number, start in enumerate(starts):
            stop = starts[number + 1].begin if number + 1 < len(starts) else len(text)
            candidate = (
                self._read_path(text, start, stop) if start.match["path"] else self._read_host(text, start, stop)
            )
            if candidate is not None:
                yield candidate

    def _find_starts(self, text: str) -> Iterator[_Start]:
        for match in self._pattern.finditer(text):
            first = max(0, match.start() - _LOOK_BEHIND)
            before = text[first : match.start()]
            if match["path"]:
                if _PATH_BOUNDARY.search(before):
                    yield _Start(match, match.start())
                continue
            found = _SCHEME.search(before)
            if found is not None:
                yield _Start(match, first + found.start("scheme"), found["scheme"])
            elif before[-1:] not in ("/", ":") and not before[-1:].isalnum():
                yield _Start(match, match.start())

    def _read_path(self, text: str, start: _Start, stop: int) -> _Candidate:
        path = "".join(token.char for token in read_tokens(text, start.begin, start.match.end()))
        base = next(base for base in self._bases if not base.host and base.path == path)
        part = self._read_part(text, start.match.end(), stop)
        return _Candidate(base, start.begin, start.match.end(), part, _find_ends(text, start.begin, part), "")

    def _read_host(self, text: str, start: _Start, stop: int) -> _Candidate | None:
        match = start.match
        part = self._read_part(text, match.end(), stop)
        is_encoded = "%" in text[match.start() : match.start("host")]
        if is_encoded:
            part = _decode_part(part)
        host = _COLON.sub(":", match["host"])
        path, given = "".join(unit.char for unit in part.units) or "/", start.scheme.lower()
        bases = [base for base in self._bases if base.host == host.lower() and path.startswith(base.path)]
        if not bases:
            return None
        base = next((each for each in bases if each.scheme == given and not each.reason), bases[0])
        reason = base.reason
        if is_encoded:
            reason = "encoded as a whole"
        elif start.begin and text[start.begin - 1] == "/":
            reason = "inside of another address"
        elif not given:
            reason = "without a scheme"
        elif given != base.scheme:
            reason = reason or f"{given} in place of {base.scheme}"
        elif host != base.host or match["port"] or start.scheme != given:
            reason = reason or "another spelling of its host"
        rest = part.units[len(base.path) :]
        part = part._replace(units=rest)
        middle = rest[0].start if rest else part.end
        return _Candidate(base, start.begin, middle, part, _find_ends(text, start.begin, part), reason)

    def _read_part(self, text: str, start: int, stop: int) -> _Part:
        """Read what follows the host or the base."""
        extent = read_extent(text, start, stop, self._limit, until="?#", within=self._names.odd)
        units, is_decoded = read_units(extent.tokens)
        end = extent.tokens[-1].end if extent.tokens else start
        entities = any(token.entity for token in extent.tokens)
        return _Part(units, extent.closing, extent.whole and is_decoded, end, entities)

    def _decide(self, text: str, candidate: _Candidate, known: Collection[str]) -> Address:
        for end in candidate.ends:
            if (name := candidate.name(end)) not in known:
                continue
            reason = candidate.reason or _find_query_reason(text, candidate, end)
            if not reason and candidate.part.entities and self._is_literal(text, candidate, end):
                reason = "two objects may be meant"
            return _make_address(candidate, end, name, reason)
        for end in candidate.ends:
            for variant in _vary(name := candidate.name(end)):
                if variant in known:
                    how = "a plus for a space" if variant == name.replace("+", " ") else "another Unicode form"
                    return _make_address(candidate, end, variant, candidate.reason or how)
        longest = candidate.ends[0] if candidate.ends else 0
        stop = candidate.rest[longest - 1].end if longest else candidate.middle
        return Address(kind=AddressKind.UNMOVED, start=candidate.start, end=stop)

    def _is_literal(self, text: str, candidate: _Candidate, end: int) -> bool:
        """Whether the text, taken without HTML, names another moved object."""
        spelled = text[candidate.rest[0].start : candidate.rest[end - 1].end]
        literal = candidate.base.folder + unquote(spelled.replace("\\/", "/"))
        return literal != candidate.name(end) and bool(self._names.find([literal]))


def _make_address(candidate: _Candidate, end: int, name: str, reason: str) -> Address:
    rest = candidate.rest[:end]
    return Address(
        kind=AddressKind.UNCHANGED if reason else AddressKind.MOVED, start=candidate.start, end=rest[-1].end, name=name,
        reason=reason, middle=candidate.middle, rest=() if reason else rest,
    )  # fmt: skip


def _to_host_pattern(host: str) -> str:
    name, _, port = host.partition(":")
    return f"(?i:{re.escape(name)}){f'{COLON}{port}(?![0-9])' if port else ''}"


def _to_path_pattern(path: str) -> str:
    """A pattern of a path without its first slash."""
    return "".join(f"{re.escape(part)}{SLASH}" for part in path.strip("/").split("/"))


def _decode_part(part: _Part) -> _Part:
    """What follows a host that is encoded as a whole, decoded once more. A parameter ends at ``&``."""
    units = [Token(unit.char, unit.start, unit.end) for unit in part.units]
    for number, unit in enumerate(part.units):
        if unit.char in ("?", "#") or (unit.char in ("&", ";") and not unit.percent):
            again, _ = read_units(units[:number])
            return part._replace(units=again, closing="?" if unit.char == "?" else "", whole=True)
    again, is_decoded = read_units(units)
    return part._replace(units=again, whole=part.whole and is_decoded)


def _find_ends(text: str, start: int, part: _Part) -> list[int]:
    """Where an address may end, the longest first: as a whole, or before what cannot be a part of it.

    Args:
        text: the text.
        start: where the address begins in it.
        part: what follows its base.
    """
    count = len(part.units)
    if count == 0:
        return []
    before = text[max(0, start - _QUOTE_CHARACTERS) : start]
    opening = next((char for char, pattern in _OPENINGS if pattern.search(before)), "")
    plain = [unit.char if not unit.percent else "" for unit in part.units]
    whole = [count] if part.whole else []
    breaks = [number for number, char in enumerate(plain) if char and ends_address(char)]
    if opening == '"' and part.closing == '"' and not breaks:
        return whole
    if opening == "'" and "'" in plain:
        quoted = plain.index("'")
        if not breaks or breaks[0] > quoted:
            return [*whole, *([quoted] if quoted else [])]
    unbalanced = _find_unbalanced(plain)
    ends, trailing = whole, part.whole
    for number in range(count - 1, 0, -1):
        char = plain[number]
        if char and (ends_address(char) or number in unbalanced or _begins_next(plain, number, part.closing)):
            ends.append(number)
            trailing = True
        elif char in _TRAILING and trailing:
            ends.append(number)
        else:
            trailing = False
            if char == "&" and opening == "=":
                ends.append(number)
    return ends[:MAX_ENDS]


def _find_unbalanced(plain: Sequence[str]) -> set[int]:
    """Closing parentheses that the address did not open: they are of the text around it, as in CommonMark."""
    depth, found = 0, set()
    for number, char in enumerate(plain):
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth < 0:
                found.add(number)
                depth = 0
    return found


def _begins_next(plain: Sequence[str], number: int, closing: str) -> bool:
    """Whether a comma or semicolon separates two addresses."""
    if plain[number] not in (",", ";"):
        return False
    if number == len(plain) - 1:
        return closing == NEXT
    return "".join(plain[number + 1 : number + 9]).lower().startswith(("http://", "https://"))


def _find_query_reason(text: str, candidate: _Candidate, end: int) -> str:
    """Why the query of an address forbids to change it."""
    if candidate.part.closing != "?" or end != len(candidate.rest):
        return ""
    found = _QUERY.match(text, candidate.part.end, candidate.part.end + MAX_QUERY_CHARACTERS)
    names = {name.lower() for name in _PARAMETER.findall(found[0] if found else "")}
    if names & _SIGNED:
        return "signed"
    return "of one version" if names & _OF_A_VERSION else ""


def _vary(name: str) -> Iterator[str]:
    """Names that are equal to a reader, but not to a store."""
    if "+" in name:
        yield name.replace("+", " ")
    if not name.isascii():
        for form in ("NFC", "NFD"):
            if (other := unicodedata.normalize(form, name)) != name:
                yield other


def edit_of(text: str, address: Address, base: str, path: str, folder: str = "") -> Edit:
    """The change that writes a moved address anew, in its own spelling.

    What the old and the new filename end with in common stays as it is spelled. What is new is encoded in percent, and
    its slashes and colons are escaped as those of the old beginning are.

    Args:
        text: the text.
        address: of the kind :data:`AddressKind.MOVED`, found in it.
        base: the new base address, with a slash at its end.
        path: the new filename.
        folder: what a new filename begins with that its address does not have.
    """
    name, rest = path.removeprefix(folder), address.rest
    same = 0
    while same < min(len(rest), len(name)) and rest[-1 - same].char == name[-1 - same]:
        same += 1
    kept = rest[len(rest) - same].start if same else address.end
    spellings: dict[str, str] = {}
    for token in read_tokens(text, address.start, address.middle):
        spellings.setdefault(token.char, text[token.start : token.end])
    new = base + quote(name[: len(name) - same], safe="/~")
    spelled = "".join(spellings.get(char, char) if char in "/:" else char for char in new)
    return Edit(address.start, text[address.start : kept], spelled)


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """The text with its changes, which are in their order and do not overlap."""
    parts, position = [], 0
    for edit in edits:
        parts += [text[position : edit.start], edit.new]
        position = edit.start + len(edit.old)
    return "".join((*parts, text[position:]))


def undo_edits(text: str, edits: Sequence[Edit]) -> str:
    """The text before :func:`apply_edits`."""
    parts, position, shift = [], 0, 0
    for edit in edits:
        start = edit.start + shift
        parts += [text[position:start], edit.old]
        position = start + len(edit.new)
        shift += len(edit.new) - len(edit.old)
    return "".join((*parts, text[position:]))
