"""Whatever stands in the options, translation answers."""

from hypothesis import given
from hypothesis import strategies as st

from migrate_storage.translate import CODES, PROTOCOLS, translate, translate_url
from migrate_storage.translate.model import StoreConfig
from migrate_storage.translate.protocols import azure, gcs, http, local, memory, s3
from migrate_storage.translate.protocols.unsupported import ARCHIVES, SOURCE_ONLY, WRAPPERS


class Spiteful:
    """An object that raises whenever it is asked anything."""

    def __bool__(self):
        raise RuntimeError("no")

    def __str__(self):
        raise RuntimeError("no")

    __len__ = __iter__ = __eq__ = __bool__

    def __hash__(self):
        return 1

    def __getattr__(self, name):
        raise RuntimeError("no")


TABLES = (s3.OPTIONS, gcs.OPTIONS, azure.OPTIONS, http.OPTIONS, local.OPTIONS, memory.OPTIONS)
NAMES = sorted({option.name for table in TABLES for option in table})
LEAVES = sorted({part for name in NAMES for part in name.split(".")})

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=8)
    | st.sampled_from(
        ["anon", "s3", "s3v4", "virtual", "secondary", "http://h:1", "https://u:p@h:x/", "{}", "AES256", "dir", "\0"]
    )
    | st.builds(object)
    | st.builds(Spiteful)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(LEAVES) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
options = st.dictionaries(st.sampled_from(LEAVES) | st.text(max_size=8), values, max_size=6)
protocols = st.sampled_from([*PROTOCOLS, *SOURCE_ONLY, *ARCHIVES, *WRAPPERS]) | st.text(max_size=6)
prefixes = (
    st.none()
    | st.text(max_size=12)
    | st.sampled_from(["b", "b/p", "s3://b//x", "arn:aws:s3:::x", "http://[", "\ud800", "~"])
)
environments = st.dictionaries(
    st.sampled_from(
        [
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_S3",
            "AWS_PROFILE",
            "AWS_DEFAULT_REGION",
            "AWS_CA_BUNDLE",
            "SERVICE_ACCOUNT",
            "AZURE_STORAGE_CONNECTION_STRING",
            "AZURE_STORAGE_ACCOUNT_NAME",
            "AZURE_STORAGE_ANON",
            "STORAGE_EMULATOR_HOST",
        ]
    ),
    st.text(max_size=10),
    max_size=4,
)


def answers(translation) -> None:
    assert (translation.config is None) is bool(translation.refused)
    assert translation.config is None or isinstance(translation.config, StoreConfig)
    for note in translation.notes:
        assert note.code in CODES
        assert "\n" not in note.message


@given(protocol=protocols, given_options=options, prefix=prefixes, environment=environments)
def test_translate_never_raises(protocol, given_options, prefix, environment):
    answers(translate(protocol, given_options, prefix, environment))


@given(url=st.text(max_size=30) | st.lists(protocols, max_size=4).map("::".join), given_options=options)
def test_translate_url_never_raises(url, given_options):
    answers(translate_url(url, given_options))


@given(protocol=st.sampled_from(list(PROTOCOLS)), given_options=values, prefix=values)
def test_arguments_of_the_wrong_kind_are_answered_too(protocol, given_options, prefix):
    answers(translate(protocol, given_options, prefix))
