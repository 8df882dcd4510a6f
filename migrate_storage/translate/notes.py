"""The codes, severities and messages of all notes of a translation."""

from __future__ import annotations

from dataclasses import dataclass

from migrate_storage.core.model import Note, Severity

__all__ = ("CODES", "Code", "note")

_INFO, _WARNING, _REFUSED = Severity.INFO, Severity.WARNING, Severity.REFUSED


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of note: formats, whose fields never contain a secret."""

    severity: Severity
    message: str
    todo: str = ""


CODES: dict[str, Code] = {
    # any protocol
    "option.no_effect": Code(_INFO, "{subject} does not change where or how bytes are stored; it has no counterpart"),
    "option.dropped": Code(_WARNING, "{subject} has no counterpart in obstore{why}", "Check that nothing relies on it"),
    "option.unknown": Code(_WARNING, "{subject} is no option that this translation knows; it is left out"),
    "option.invalid": Code(_WARNING, "{subject} is not {expected}; it is left out", "Correct the value in the source"),
    "option.conflict": Code(_REFUSED, "{subject} is given twice with different values; the source fails at first use",
        "Keep one of the two"),
    "translation.failed": Code(_REFUSED, "The options could not be read ({why})",
        "Report it with the names (not the values) of the options; use it as a source through fsspec meanwhile"),
    "backend.unknown": Code(_REFUSED, "Neither an fsspec nor an obstore backend, but {subject}",
        "Move its files with code of your own, or register an FSSpecBackend that reaches them"),
    "backend.own": Code(_REFUSED, "{subject} is a class of the application, with {methods} of its own; obstore has no counterpart",
        "'run --to' another key copies them, read through these methods"),
    "backend.unreadable": Code(_REFUSED, "The store of backend {subject} does not show its configuration",
        "Construct it with client_options={{...}} instead of plain allow_http or timeout arguments"),
    "protocol.source_only": Code(_REFUSED,
        "{subject}{why} has no counterpart as a destination; it is usable as a source through fsspec",
        "Move its files to S3, GCS, Azure or a local disk"),
    "protocol.archive": Code(_REFUSED,
        "The files are members of one archive or byte ranges of other files ({subject}); obstore has no such store",
        "Extract them to a store, then register that"),
    "memory.process": Code(_WARNING,
        "The files live in the memory of the process that wrote them; a MemoryStore starts empty",
        "Read them inside that process, or leave them behind"),
    "wrapper.cache": Code(_INFO,
        "The cache ({subject}) is taken off: obstore has none, and reading through it could give stale bytes"),
    "wrapper.generic": Code(_REFUSED, "Each row names its own service in its filename (GenericFileSystem)",
        "Register one backend for each service, and rekey the rows to them"),
    "place.per_row": Code(_INFO, "There is no {root} in the prefix: each row names its own in its filename",
        "Each {root} becomes a store of its own"),
    "place.prefix": Code(_REFUSED, "The prefix {why}, so obstore cannot address any key below it",
        "Copy the objects to another prefix, reading them through fsspec"),
    "endpoint.scheme": Code(_REFUSED, "{subject} is no URL", "Write it with https:// or http:// in front"),
    "endpoint.query": Code(_REFUSED, "{subject} has ? or #, which are no part of an endpoint",
        "Write scheme, host, port and path only"),
    "endpoint.userinfo": Code(_WARNING, "User and password in {subject} are left out: nothing would send them"),
    "credentials.expires": Code(_WARNING, "{subject} has a token that expires, and nothing will renew it",
        "Use a key, a role, or a credential provider for anything that runs longer"),
    "client.unverified": Code(_WARNING, "Certificates are not checked ({subject} is false), neither before nor after",
        "Give the authority's certificate as root_certificate instead"),
    "client.ca_file": Code(_INFO, "obstore takes certificates, not their file ({subject}): it is read at start-up"),
    "client.certificate": Code(_REFUSED, "A client certificate ({subject}) has no counterpart in obstore",
        "Put a proxy that presents the certificate in front, and use it as the endpoint"),
    "client.proxy": Code(_INFO, "None of the {subject} is for the scheme of the endpoint, so none is used"),
    # S3
    "s3.credentials.incomplete": Code(_REFUSED, "Only one half of the access key is given",
        "Give both key and secret, or neither"),
    "s3.credentials.token_alone": Code(_WARNING, "A session token without a key is never used; it is left out"),
    "s3.credentials.anonymous": Code(_WARNING, "anon drops the keys given with it, before and after"),
    "s3.credentials.profile": Code(_INFO,
        "The credentials of the profile come through boto3: obstore reads no profile itself ({subject})"),
    "s3.credentials.environment": Code(_INFO, "The credentials come from the environment, as before"),
    "s3.credentials.chain": Code(_INFO,
        "No credentials are given: they come through boto3, which searches where s3fs did (files, roles, instances)"),
    "s3.credentials.empty": Code(_REFUSED, "{subject} is an empty text, with which s3fs signs",
        "Set the variable that it comes from, or leave it out"),
    "s3.session.object": Code(_WARNING, "The session of this process is asked for credentials, as s3fs asks it",
        "In code, give a profile, or obstore's Boto3CredentialProvider"),
    "s3.session": Code(_REFUSED,
        "A session object cannot be translated: obstore needs credentials that can be asked synchronously",
        "Give profile=, or keys, or register an ObstoreBackend with a credential_provider"),
    "s3.region.missing": Code(_WARNING,
        "No region is given: botocore follows the bucket to its region, obstore does not, and takes us-east-1",
        "Set the region of the bucket"),
    "s3.endpoint.environment": Code(_INFO, "The endpoint comes from the environment ({subject}); it is written out"),
    "s3.endpoint.per_bucket": Code(_WARNING,
        "The bucket belongs in the endpoint's host ({subject}), but each row names its own",
        "Register each bucket by its name in the prefix"),
    "s3.endpoint.variant": Code(_WARNING, "Dual stack and FIPS do not apply to a custom endpoint"),
    "s3.endpoint.accelerate": Code(_REFUSED, "botocore refuses {subject} beside a custom endpoint", "Keep one of the two"),
    "s3.address": Code(_REFUSED, "botocore gives no address for the bucket ({subject}): {why}",
        "Correct the option: the source fails at first use"),
    "s3.address.unlike": Code(_REFUSED, "botocore asks {why} ({subject}), which obstore cannot ask",
        "Use the bucket's own name at a plain endpoint, or keep fsspec"),
    "s3.profile.missing": Code(_REFUSED, "This machine has no profile of the name ({subject}): {why}",
        "Translate where the profile is"),
    "s3.profile.unread": Code(_REFUSED, "The {subject} decides the address, and only botocore can read it",
        "Install s3fs"),
    "s3.region.invalid": Code(_REFUSED, "{subject} is not a region's name; the source fails at first use",
        "Correct the region"),
    "s3.use_ssl": Code(_WARNING, "{subject} is false: requests go by http, unencrypted, as before"),
    "s3.signature": Code(_REFUSED, "obstore signs with version 4 only, not as {subject} asks",
        "Ask the server for version 4, or keep fsspec"),
    "s3.bucket.arn": Code(_REFUSED, "The bucket is an ARN that obstore cannot address",
        "Use the access point's alias as the bucket"),
    "s3.bucket.access_point": Code(_INFO,
        "The access point becomes an endpoint of its own; its alias would do as well"),
    "s3.encryption.unknown": Code(_REFUSED, "{subject} is none of AES256, aws:kms, aws:kms:dsse", "Correct it"),
    "s3.encryption.kms": Code(_WARNING, "{subject} is ignored by obstore without ServerSideEncryption='aws:kms'",
        "Give both"),
    "s3.encryption.customer_key": Code(_REFUSED, "{subject} is given without SSECustomerKey", "Give both, or neither"),
    "s3.header": Code(_WARNING, "{subject} becomes a header on every request, reads included{why}",
        "Try a read with --check"),
    "s3.version_aware": Code(_INFO,
        "A version suffix in a filename is cut off, as before; obstore would take it for a part of the key"),
    "s3.trap.session_token": Code(_WARNING,
        "{subject} is set: upstream's ObstoreBackend would send it with the explicit key; ours does not",
        "Unset it, or use migrate_storage's ObstoreBackend"),
    "s3.trap.skip_signature": Code(_WARNING, "{subject} is set: obstore would not sign; skip_signature is written out"),
    "s3.trap.virtual_hosted": Code(_WARNING,
        "{subject} is set: obstore would drop the bucket from the URL; the style is written out"),
    "s3.trap.endpoint": Code(_WARNING,
        "{subject} is set: upstream's ObstoreBackend would go there in spite of the endpoint; ours does not",
        "Unset it, or use migrate_storage's ObstoreBackend"),
    # GCS
    "gcs.access": Code(_WARNING, "{subject} is lost: obstore asks for the scope cloud-platform",
        "Limit the account itself"),
    "gcs.version_aware": Code(_INFO, "A generation in a filename is not understood by obstore: the newest is read"),
    "gcs.requester_pays": Code(_WARNING, "{subject} becomes a header x-goog-user-project on every request"),
    "gcs.endpoint.environment": Code(_INFO,
        "The endpoint comes from {subject}, which obstore does not read: written out"),
    "gcs.token.default": Code(_INFO,
        "Application default credentials come through google.auth, so that every kind works"),
    "gcs.token.silent": Code(_WARNING, "Without credentials gcsfs continues anonymously, obstore does not",
        "Give token='anon' where the bucket is public"),
    "gcs.token.environment": Code(_INFO, "The credentials are those of {subject}, as before"),
    "gcs.token.cloud": Code(_INFO, "The credentials are those of the machine, which obstore asks itself"),
    "gcs.token.anon": Code(_WARNING, "Anonymous: obstore can read this way, not write"),
    "gcs.token.interactive": Code(_REFUSED, "{subject} needs a person at a browser, or what one left on this machine",
        "Use a service account"),
    "gcs.token.file": Code(_WARNING,
        "{subject} is taken for a service account's file; an authorized user's file is application_credentials",
        'Read the word after "type" in the file'),
    "gcs.token.empty": Code(_REFUSED, "{subject} is empty, which gcsfs takes for an access token",
        "Set the variable that it comes from, or leave it out"),
    "gcs.token.missing": Code(_REFUSED, "{subject} is a path without a file here, so gcsfs takes it for an access token",
        "Give the path of a file that exists; ~ is not expanded"),
    "gcs.token.path": Code(_REFUSED, "{subject} is a Path, which gcsfs does not take", "Give it as text"),
    "gcs.token.federated": Code(_REFUSED, "The file's kind of credentials is known neither to gcsfs nor to obstore",
        "Use application default credentials, which come through google.auth"),
    "gcs.token.user": Code(_REFUSED, "A user's credentials in a mapping have no counterpart",
        "Write them to a file and give it as token, or use application default credentials"),
    "gcs.token.json": Code(_REFUSED,
        "{subject} is JSON text: gcsfs takes it for an access token and sends it to the vendor in a URL",
        "Revoke that key, then give the path of the file, or the parsed mapping"),
    "gcs.token.object": Code(_WARNING,
        "A credentials object of this process is used as it is; URLs cannot be signed with it",
        "Use a service account's file where URLs are signed"),
    "gcs.trap": Code(_WARNING,
        "{subject} is set: upstream's ObstoreBackend would use it in spite of the explicit token; ours does not",
        "Unset it, or use migrate_storage's ObstoreBackend"),
    # Azure
    "azure.account.missing": Code(_REFUSED, "No storage account is named", "Give account_name"),
    "azure.account.invalid": Code(_REFUSED, "{subject} is no name of a storage account",
        "Write the name alone; a host goes into account_host"),
    "azure.host": Code(_REFUSED, "{subject} must be a host, without a scheme", "Write it as HOST"),
    "azure.secondary": Code(_WARNING, "The secondary endpoint can only be read", "Give the primary one to write"),
    "azure.secondary.unknown": Code(_REFUSED, "adlfs knows no secondary endpoint of {subject}",
                                    "Give the host of the secondary endpoint as account_host, without location_mode"),
    "azure.connection.environment": Code(_WARNING,
        "The connection string is that of {subject}, which adlfs takes before anything explicit"),
    "azure.connection.wins": Code(_WARNING, "{subject} wins over the other options, as in adlfs; they are left out"),
    "azure.connection.malformed": Code(_REFUSED, "{subject} cannot be read",
        "Copy it again from the portal, without quotes around it"),
    "azure.environment_wins": Code(_WARNING, "{subject} is set, and adlfs takes it before the explicit credentials",
        "Unset it if that is not meant"),
    "azure.credentials.environment": Code(_INFO, "The credentials come from {subject}, as before"),
    "azure.credentials.default": Code(_INFO,
        "No credentials are given: azure.identity's DefaultAzureCredential searches for them, as before"),
    "azure.anon.unknown": Code(_REFUSED,
        "Neither credentials nor {subject} are given. The version of adlfs decides whether it then asks anonymously or with "
        "DefaultAzureCredential, and that version is not known here", "Give anon=True or anon=False"),
    "azure.anon.installed": Code(_WARNING,
        "Neither credentials nor {subject} are given: {why}. The new registration does the same, and reads no "
        "AZURE_STORAGE_ variable, as adlfs does", "Give anon=True or anon=False"),
    "azure.default_credential": Code(_INFO, "{subject} is handed to DefaultAzureCredential, as adlfs does"),
    "azure.principal.incomplete": Code(_REFUSED, "A service principal needs tenant_id, client_id and client_secret",
        "Give all three"),
    "azure.credential.object": Code(_WARNING, "A credentials object of this process is used as it is",
        "In code, give obstore's AzureCredentialProvider the synchronous twin from azure.identity"),
    "azure.credential.unknown": Code(_REFUSED, "{subject} is of no known kind",
        "Give a key, a SAS or an azure.identity object"),
    "azure.version_aware": Code(_INFO, "A version suffix in a filename is cut off, as before"),
    "azure.trap": Code(_WARNING,
        "{subject} is set: upstream's ObstoreBackend would use it in spite of the explicit options; ours does not",
        "Unset it, or use migrate_storage's ObstoreBackend"),
    # HTTP
    "http.store": Code(_WARNING, "An HTTP store can be read; writing and listing need a WebDAV server"),
    "http.auth": Code(_REFUSED, "{subject} is an object of aiohttp's", "Give an Authorization header instead"),
    "http.encoded": Code(_WARNING,
        "obstore always encodes keys; URLs that are encoded already have no counterpart{why}"),
    "http.userinfo": Code(_REFUSED, "User and password in the URL are not sent by obstore",
        "Give an Authorization header instead"),
    "http.query": Code(_REFUSED, "A query or fragment in the base URL has no counterpart",
        "Leave it out of the prefix"),
}  # fmt: skip


def note(code: str, subject: str = "", **fields: str) -> Note:
    """Make the note of a code.

    Args:
        code: a key of :data:`CODES`.
        subject: the option, column or store that it is about.
        **fields: the fields of the message, without any secret.
    """
    kind = CODES[code]
    fields = {"why": "", **fields, "subject": subject or "This"}
    return Note(
        severity=kind.severity,
        code=code,
        message=kind.message.format_map(fields),
        subject=subject,
        todo=kind.todo.format_map(fields),
    )
