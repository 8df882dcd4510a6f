"""The credentials of an ``S3FileSystem``: keys, a profile, a role, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from migrate_storage.core.model import Note
from migrate_storage.translate.assemble import Part
from migrate_storage.translate.model import CredentialSource
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import mapping, text, truth

__all__ = ("credentials",)

#: botocore's name, the filesystem's names of it, and obstore's.
_KEYS = (
    ("aws_access_key_id", ("key", "username"), "access_key_id"),
    ("aws_secret_access_key", ("secret", "password"), "secret_access_key"),
    ("aws_session_token", ("token",), "session_token"),
)

#: With all variables of one line, obstore finds the credentials that botocore would find.
_OWN_CHAIN = (
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
)


def credentials(options: Mapping[str, Any], environment: Mapping[str, str]) -> Part:
    """Translate keys first, then a profile, then what botocore would find."""
    client = mapping(options.get("client_kwargs"))
    signature = mapping(options.get("config_kwargs")).get("signature_version")
    if truth(options.get("anon")) or _is_unsigned(signature):
        return _make_anonymous_part(options, client)
    given: dict[str, str] = {}
    notes: list[Note] = []
    empty = [
        name
        for of_client, own_names, _ in _KEYS[:2]
        for name, value in ((of_client, client.get(of_client)), *((own, options.get(own)) for own in own_names))
        if value == ""
    ]
    if empty:
        notes.append(note("s3.credentials.empty", empty[0]))
    for of_client, own_names, ours in _KEYS:
        own = [text(options.get(name)) for name in own_names if text(options.get(name))]
        theirs = text(client.get(of_client))
        values = {*own, *([theirs] if theirs else [])}
        if len(values) > 1:
            notes.append(note("option.conflict", own_names[0]))
        if values:
            given[ours] = (own or [theirs])[0]
    if "access_key_id" in given or "secret_access_key" in given:
        return _make_static_part(given, notes, environment)
    if "session_token" in given:
        notes.append(note("s3.credentials.token_alone", "token"))
    return _make_chain_part(options, tuple(notes), environment)


def _is_unsigned(signature: Any) -> bool:
    return signature is not None and not isinstance(signature, str) and "UNSIGNED" in type(signature).__name__.upper()


def _make_anonymous_part(options: Mapping[str, Any], client: Mapping[str, Any]) -> Part:
    ignored = any(options.get(name) for _, names, _ in _KEYS for name in names)
    ignored = ignored or any(client.get(name) for name, _, _ in _KEYS)
    notes = (note("s3.credentials.anonymous", "anon"),) if ignored else ()
    return Part(options={"skip_signature": True}, notes=notes)


def _make_static_part(given: dict[str, str], notes: list[Note], environment: Mapping[str, str]) -> Part:
    if "access_key_id" not in given or "secret_access_key" not in given:
        return Part(notes=(*notes, note("s3.credentials.incomplete", "key")))
    result: dict[str, Any] = dict(given)
    if "session_token" in given:
        notes.append(note("credentials.expires", "token"))
    elif environment.get("AWS_SESSION_TOKEN") or environment.get("AWS_TOKEN"):
        notes.append(note("s3.trap.session_token", "AWS_SESSION_TOKEN"))
    if "AWS_SKIP_SIGNATURE" in environment:
        result["skip_signature"] = False
        notes.append(note("s3.trap.skip_signature", "AWS_SKIP_SIGNATURE"))
    return Part(options=result, notes=tuple(notes))


def _make_chain_part(options: Mapping[str, Any], notes: tuple[Note, ...], environment: Mapping[str, str]) -> Part:
    session = options.get("session")
    if callable(getattr(session, "get_credentials", None)):
        source = CredentialSource(kind="object", provider=session)
        return Part(credentials=source, notes=(*notes, note("s3.session.object", "session")))
    if session is not None:
        return Part(notes=(*notes, note("s3.session", "session")))
    profile = text(options.get("profile"))
    if profile:
        source = CredentialSource(kind="boto3", options={"profile_name": profile})
        return Part(credentials=source, notes=(*notes, note("s3.credentials.profile", "profile")))
    if environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE"):
        # The profile stays a choice of the environment: another machine may choose another one.
        source = CredentialSource(kind="boto3", options={})
        return Part(credentials=source, notes=(*notes, note("s3.credentials.profile", "AWS_PROFILE")))
    if any(all(environment.get(name) for name in names) for names in _OWN_CHAIN):
        notes = (*notes, note("s3.credentials.environment"))
        if "AWS_SKIP_SIGNATURE" in environment:
            trap = note("s3.trap.skip_signature", "AWS_SKIP_SIGNATURE")
            return Part(options={"skip_signature": False}, notes=(*notes, trap))
        return Part(notes=notes)
    return Part(credentials=CredentialSource(kind="boto3", options={}), notes=(*notes, note("s3.credentials.chain")))
