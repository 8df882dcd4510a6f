"""The shapes of S3 configurations in public repositories: names and secrets replaced, and what variables hold written out."""

from __future__ import annotations

from botocore import UNSIGNED

from tests.support.translate.aws_sweep import Configuration

__all__ = ("PUBLIC",)

OWN = {"key": "EXPLICIT", "secret": "S"}
PATH = {"s3": {"addressing_style": "path"}}
VIRTUAL = {"s3": {"addressing_style": "virtual"}}
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "S"}

PUBLIC: dict[str, Configuration] = {
    # seen in the source files of applications
    "open data": Configuration(bucket="noaa-goes16", options={"anon": True}),
    "open data with a region": Configuration(
        bucket="inmap-model", options={"anon": True, "client_kwargs": {"region_name": "us-east-2"}}
    ),
    "open data with timeouts": Configuration(
        bucket="ooi-data", options={"anon": True, "config_kwargs": {"read_timeout": 300, "connect_timeout": 60}}
    ),
    "open data elsewhere": Configuration(
        bucket="d2h2", options={"anon": True, "client_kwargs": {"endpoint_url": "https://minio.dev.example.cloud/"}}
    ),
    "a satellite's archive": Configuration(
        news="a region of two cases",
        bucket="eodata",
        options={
            "anon": True,
            "client_kwargs": {"endpoint_url": "https://s3.waw3-1.cloudferro.com", "region_name": "RegionOne"},
            "config_kwargs": {**PATH, "max_pool_connections": 32},
        },
    ),
    "everything of the environment": Configuration(bucket="my-data", environment=ENVIRONMENT),
    "anon false": Configuration(bucket="aind-behavior-data", options={"anon": False}, environment=ENVIRONMENT),
    "secrets of streamlit": Configuration(bucket="my-data", options={"anon": False, **OWN}),
    "a national data platform": Configuration(
        bucket="projet",
        options={"client_kwargs": {"endpoint_url": "https://minio.lab.example.fr"}},
        environment={**ENVIRONMENT, "AWS_SESSION_TOKEN": "T", "AWS_DEFAULT_REGION": "us-east-1"},
    ),
    "the same with keys": Configuration(
        bucket="projet-sat",
        options={**OWN, "client_kwargs": {"endpoint_url": "https://minio.lab.example.fr"}},
        environment={"AWS_SESSION_TOKEN": "T", "AWS_S3_ENDPOINT": "minio.lab.example.fr"},
    ),
    "an endpoint that is perhaps not set": Configuration(
        bucket="climate", options={"client_kwargs": {"endpoint_url": None}}, environment=ENVIRONMENT
    ),
    "no client arguments": Configuration(bucket="models", options={**OWN, "client_kwargs": {}}),
    "mlflow": Configuration(
        bucket="datafiles",
        options={**OWN, "client_kwargs": {"endpoint_url": "http://minio:9000"}, "config_kwargs": PATH},
    ),
    "a region called None": Configuration(
        news="a region that is a text of another language's nothing",
        bucket="assets",
        options={
            **OWN,
            "client_kwargs": {"endpoint_url": "http://minio:9000", "region_name": "None"},
            "config_kwargs": PATH,
            "use_ssl": False,
        },
    ),
    "https by the endpoint's name": Configuration(
        bucket="nyc-cleaned",
        options={
            **OWN,
            "client_kwargs": {"endpoint_url": "http://localhost:9000", "region_name": "us-east-1"},
            "config_kwargs": PATH,
            "use_ssl": False,
        },
    ),
    "Garage": Configuration(
        bucket="next-load-data",
        options={
            **OWN,
            "endpoint_url": "http://localhost:3900",
            "client_kwargs": {"region_name": "garage"},
            "config_kwargs": PATH,
        },
    ),
    "CoreWeave": Configuration(
        bucket="cohorts", options={**OWN, "endpoint_url": "https://cwobject.com", "config_kwargs": VIRTUAL}
    ),
    "CoreWeave from a node": Configuration(
        bucket="cohorts",
        options={"client_kwargs": {"endpoint_url": "http://cwlota.com"}, "config_kwargs": VIRTUAL},
        environment=ENVIRONMENT,
    ),
    "DuckLake": Configuration(
        bucket="lake",
        options={
            **OWN,
            "endpoint_url": "https://fsn1.your-objectstorage.com",
            "client_kwargs": {"region_name": "fsn1"},
        },
    ),
    "Odoo": Configuration(
        bucket="odoo-attachments",
        options={**OWN, "client_kwargs": {"endpoint_url": "https://ams3.digitaloceanspaces.com"}, "config_kwargs": PATH},
    ),
    "Spaces with the bucket in the endpoint": Configuration(
        bucket="chatwidget", options={**OWN, "endpoint_url": "https://chatwidget.nyc3.digitaloceanspaces.com"}
    ),
    "R2 in a settings class": Configuration(
        bucket="media",
        options={
            **OWN,
            "endpoint_url": "https://0a1b2c.r2.cloudflarestorage.com",
            "client_kwargs": {"region_name": "auto"},
            "config_kwargs": {
                "signature_version": "s3v4", "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
        },
    ),
    "R2 with the bucket in the endpoint": Configuration(
        news="a path in the endpoint that is the bucket's name",
        bucket="media", options={**OWN, "endpoint_url": "https://0a1b2c.r2.cloudflarestorage.com/media"}
    ),
    "Backblaze with a name of two cases": Configuration(
        news="a name that fits no host, in spite of the addressing style",
        bucket="MyBackups",
        options={
            **OWN,
            "endpoint_url": "https://s3.us-west-004.backblazeb2.com",
            "client_kwargs": {"region_name": "us-west-004"},
            "config_kwargs": VIRTUAL,
        },
    ),
    "a bucket with dots, of a profile": Configuration(
        news="a region in the credentials file, before the one in the configuration file",
        bucket="dog.atlaseo-glm.eo-gridded-data",
        options={"profile": "plain", "client_kwargs": {"endpoint_url": "https://s3.gfz.example.de"}},
    ),
    "style by a setting": Configuration(
        news="the addressing style auto: the bucket is in the host at AWS",
        bucket="tiktok-landing",
        options={**OWN, "client_kwargs": {"region_name": "us-east-1"}, "config_kwargs": {"s3": {"addressing_style": "auto"}}},
    ),
    "large parts": Configuration(
        news="options for boto3's transfers",
        bucket="zarr-output",
        options={"config_kwargs": {"max_pool_connections": 50, "s3": {"multipart_threshold": 64 * 1024 * 1024}}},
        environment=ENVIRONMENT,
    ),
    "a token that may be none": Configuration(
        bucket="merged",
        options={**OWN, "token": None, "client_kwargs": {"endpoint_url": "https://objects.example.com"}},
        environment={"AWS_SESSION_TOKEN": "stale"},
    ),
    "no listing cache": Configuration(
        bucket="eerie",
        options={
            **OWN, "client_kwargs": {"endpoint_url": "https://s3.eu-dkrz-1.example.cloud"}, "use_listings_cache": False
        },
    ),
    "LocalStack of an airflow connection": Configuration(
        bucket="airflow",
        options={"client_kwargs": {"aws_access_key_id": "EXPLICIT", "aws_secret_access_key": "S", "endpoint_url": "http://localstack:4566", "region_name": "us-east-1"}},
        environment={"AWS_ENDPOINT_URL": "http://elsewhere:4566"},
    ),
    "GovCloud by a variable": Configuration(
        news="a FIPS endpoint by a variable",
        bucket="agency-docs",
        options={**OWN, "client_kwargs": {"region_name": "us-gov-west-1"}},
        environment={"AWS_USE_FIPS_ENDPOINT": "true"},
    ),
    "a public interface endpoint": Configuration(
        bucket="internal-docs",
        options={
            **OWN,
            "endpoint_url": "https://bucket.vpce-0a1b2c3d-4e5f.s3.eu-west-1.vpce.amazonaws.com",
            "client_kwargs": {"region_name": "eu-west-1"},
        },
    ),
    "an empty region of a variable": Configuration(
        news="an empty endpoint",
        bucket="uploads", options={**OWN, "endpoint_url": "", "client_kwargs": {"region_name": ""}}
    ),
    "unsigned by its signature": Configuration(
        bucket="hazard-source", options={"config_kwargs": {"signature_version": UNSIGNED}}
    ),
    "no verification, said to the client": Configuration(
        bucket="filestore",
        options={
            **OWN,
            "client_kwargs": {
                "endpoint_url": "https://minio.internal.example.com", "region_name": "eu-1", "verify": False, "use_ssl": False,
            },
            "config_kwargs": PATH,
        },
    ),
    "client arguments that are perhaps none": Configuration(
        bucket="uploads",
        options={**OWN, "endpoint_url": "https://s3.example.ru", "config_kwargs": PATH, "client_kwargs": None},
    ),
    "Wasabi, of the profile default": Configuration(
        bucket="oceanum-era5",
        options={
            "profile": "plain",
            "client_kwargs": {"endpoint_url": "https://s3.us-east-2.wasabisys.com", "region_name": "us-east-2"},
            "config_kwargs": {"max_pool_connections": 30},
        },
    ),
    "OVH of a profile": Configuration(
        bucket="zarr-explorer-tests", options={"profile": "plain", "endpoint_url": "https://s3.de.io.cloud.ovh.net"}
    ),
    "CoreWeave of a profile": Configuration(
        news="a profile that is in the credentials file only",
        bucket="cohorts",
        options={"profile": "stored", "endpoint_url": "https://cwobject.com", "config_kwargs": VIRTUAL},
    ),
    "a profile, and nothing else": Configuration(
        news="a dual stack endpoint by a profile",bucket="odin-era5", options={"profile": "dualstack"}),
    "a profile that is perhaps none": Configuration(
        bucket="training-sets", options={"profile": None}, environment=ENVIRONMENT
    ),
    "Volcengine": Configuration(
        bucket="ray",
        options={**OWN, "anon": False, "endpoint_url": "https://tos-s3-cn-beijing.ivolces.com", "config_kwargs": VIRTUAL},
    ),
    "R2 of an uploader": Configuration(
        news="R2 without a region is signed for us-east-1",
        bucket="flywheel",
        options={**OWN, "endpoint_url": "https://0a1b2c.r2.cloudflarestorage.com", "config_kwargs": PATH},
    ),
    "more attempts": Configuration(
        bucket="mirror-zarr",
        options={
            **OWN,
            "client_kwargs": {"endpoint_url": "https://s3.waw4-1.cloudferro.com"},
            "config_kwargs": {**PATH, "retries": {"max_attempts": 10}},
        },
    ),
    "an endpoint without a scheme": Configuration(
        bucket="bucket", options={**OWN, "endpoint_url": "localhost:9000"}
    ),
    "a session of a profile": Configuration(
        news="a session's profile, with an endpoint and a style",bucket="lake", session="profile"),
    "a session with the variables of boto3": Configuration(
        news="a session with variables of its own",bucket="parquet-merge", session="variables", environment=ENVIRONMENT),
    "public files, and the bucket in the endpoint": Configuration(
        bucket="chatwidget",
        options={
            **OWN,
            "s3_additional_kwargs": {"ACL": "public-read"},
            "endpoint_url": "https://chatwidget.nyc3.digitaloceanspaces.com",
        },
    ),
    "encrypted files": Configuration(
        bucket="ml-odds",
        options={"anon": False, "s3_additional_kwargs": {"ServerSideEncryption": "AES256"}},
        environment=ENVIRONMENT,
    ),
}  # fmt: skip
