"""Connections to object stores, one for each process and configuration.

Away from AWS set AWS_EC2_METADATA_DISABLED=true, or a first access without credentials stalls while
looking for a machine role; it is not set silently.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from balancer.config import StorageConfig

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

CONCURRENT_READS = 16
"""Range requests in flight at once against an object store, per call."""
# botocore retries requests; this many tries are for bodies cut short, which it does not retry.
_BODY_TRIES = 3
_instances: dict[tuple[int, StorageConfig, str | None], AbstractFileSystem] = {}
_instances_lock = threading.Lock()


def object_store(config: StorageConfig) -> AbstractFileSystem:
    """Return this process's connection for a configuration, made on first use."""
    endpoint = config.endpoint_url or os.environ.get("AWS_ENDPOINT_URL")
    key = (os.getpid(), config, endpoint)
    with _instances_lock:
        if key not in _instances:
            _instances[key] = _connect(config, endpoint)
        return _instances[key]


def _connect(config: StorageConfig, endpoint: str | None) -> AbstractFileSystem:
    import s3fs

    filesystem = s3fs.S3FileSystem(
        endpoint_url=endpoint,
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={
            "connect_timeout": config.connect_timeout_s,
            "read_timeout": config.read_timeout_s,
            "retries": {"mode": "standard", "max_attempts": config.max_attempts},
            "max_pool_connections": 2 * CONCURRENT_READS,
        },
    )
    filesystem.retries = min(_BODY_TRIES, config.max_attempts)
    return filesystem
