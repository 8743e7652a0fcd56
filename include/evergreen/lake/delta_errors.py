"""What deltalake raises, in the lake's own errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from evergreen.errors import EvergreenError, LakeUnavailable
from evergreen.lake.objects import unavailable
from evergreen.lake.s3_errors import s3_error

OF_S3 = "Generic S3 error"
"""What object_store calls every failure of the server; a commit that merely lost a race does not say it."""


@contextmanager
def delta_errors(thing: str, url: str, storage_options: Mapping[str, str]) -> Iterator[None]:
    """TableNotFoundError and CommitFailedError by a race stay as they are; everything else becomes the lake's."""
    try:
        yield
    except TableNotFoundError:
        raise
    except CommitFailedError as error:
        if OF_S3 not in str(error):
            raise
        raise _of_s3(thing, error, url, storage_options) from error
    except OSError as error:
        if url.startswith("s3://"):
            raise _of_s3(thing, error, url, storage_options) from error
        raise unavailable(thing, error) from error
    except DeltaError as error:
        if OF_S3 in str(error):
            raise _of_s3(thing, error, url, storage_options) from error
        raise LakeUnavailable(
            thing,
            found=str(error).splitlines()[0],
            wanted="a lake that can be read and written",
            remedy="Check the lake's disk, URL and credentials, then run the task again; nothing was half-written.",
        ) from error


def _of_s3(thing: str, error: Exception, url: str, storage_options: Mapping[str, str]) -> EvergreenError:
    endpoint = storage_options.get("AWS_ENDPOINT_URL") or f"AWS {storage_options.get('AWS_REGION')}"
    return s3_error(thing, error, server=f"bucket {urlsplit(url).netloc} at {endpoint}")
