import os

import fsspec
import sqlalchemy as sa
from fill import fill

fill(fsspec.filesystem("s3"), "acme-uploads", "2026/")
OLD = f"{os.environ['AWS_ENDPOINT_URL']}/acme-uploads"
POSTS = (
    f'<p>New: <img src="{OLD}/2026/001.png"> and <a href="{OLD}/2026/002.png?v=2">this</a>.</p>',
    f"See {OLD}/2026/003.png. The old logo was {OLD}/logo.png.",
    f"For a day: {OLD}/2026/004.png?X-Amz-Signature=0a1b2c",
)
with sa.create_engine(os.environ["DATABASE_URL"]).begin() as connection:
    connection.execute(sa.text("CREATE TABLE posts (id INTEGER PRIMARY KEY, body TEXT NOT NULL)"))
    connection.execute(
        sa.text("INSERT INTO posts VALUES (:id, :body)"),
        [{"id": number, "body": body} for number, body in enumerate(POSTS, 1)],
    )
