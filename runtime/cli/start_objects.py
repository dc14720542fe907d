"""The object store for recordings, as the settings name it: opened, and tried before anything depends on it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runtime.core.errors import AccessDenied, InvalidSettings, Unavailable
from runtime.service.settings import Settings
from runtime.service.values import is_loopback

if TYPE_CHECKING:
    from runtime.backend.objects import ObjectStore

logger = logging.getLogger(__name__)


async def open_objects(settings: Settings) -> ObjectStore | None:
    """Return the store of audit.recordings_uri; None if there is none.

    Raises InvalidSettings for one that cannot be right: no such bucket, credentials that are not accepted. One that is
    away is told of in the log: recordings wait on the disk until it is back.
    """
    options = settings.audit.recordings_uri
    if options is None:
        return None
    from runtime.backend.s3 import S3Store  # here: boto3 is for those who use it

    endpoint = urlsplit(options.endpoint or "")
    if endpoint.scheme == "http" and not is_loopback(endpoint.hostname or ""):
        logger.warning("audit.recordings_uri: what sessions show travels to %s for everybody to read", endpoint.netloc)
    store = await S3Store.open(options)
    try:
        await store.check()
    except Unavailable as error:
        logger.error("recordings wait on the disk of this auth server: %s", error.in_full)  # noqa: TRY400
    except (InvalidSettings, AccessDenied) as error:
        await store.close()
        raise InvalidSettings(f"audit.recordings_uri cannot be used: {error}", hint=error.hint) from error
    except BaseException:
        await store.close()
        raise
    return store
