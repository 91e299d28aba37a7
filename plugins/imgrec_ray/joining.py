"""Joins a Ray cluster without a word on standard output, which is for results."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import warnings
from pathlib import Path
from typing import Any

import imgrec

OWN_STORE = 1_000_000_000
"""Maximum bytes of the object store of a cluster that is started for a run."""

SHORT = "/tmp" if Path("/tmp").is_dir() else None
"""Where its files lie: the names of sockets are limited to 107 bytes."""

CONNECTS = 10
"""Seconds in which a cluster has to answer."""

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


def join(address: str | None, cores: int, *, has_gpus: bool) -> contextlib.ExitStack:
    """Join a cluster, or start one for the run; if this process is in one, that is taken.

    Args:
        address: `auto` or HOST:PORT of one that is there; None to start one on this machine.
        cores: that one which is started has at least, whatever the machine has.
        has_gpus: whether one which is started has the GPUs of this machine.

    Returns:
        What is to be closed in the end.

    Raises:
        UsageError: there is no cluster, or this process is in another one.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of a default to come
    import ray

    with contextlib.ExitStack() as joined:
        if ray.is_initialized():
            if address not in (None, "auto", there := ray.get_runtime_context().gcs_address):
                raise imgrec.UsageError(
                    f"engine.address={address}: this process is in the cluster {there} already"
                )
            return joined.pop_all()
        ray._private.worker._worker_logs_enabled = False  # there is no option for its errors, which go to stdout
        if address is not None:
            _connect(address)
            joined.callback(ray.shutdown)
            return joined.pop_all()
        place = os.environ.get("RAY_TMPDIR", SHORT)
        folder = tempfile.TemporaryDirectory(prefix="imgrec-ray-", dir=place, ignore_cleanup_errors=True)
        options = {"_temp_dir": joined.enter_context(folder), "object_store_memory": OWN_STORE, **QUIET}
        joined.callback(ray.shutdown)
        with warnings.catch_warnings():
            # Of libraries that bear no fork, as Lance: Ray's processes begin anew at once.
            warnings.filterwarnings("ignore", message=".*fork")
            ray.init(
                address="local",
                num_cpus=max(cores, imgrec.cores()),
                num_gpus=None if has_gpus else 0,
                include_dashboard=False,
                **options,
            )
        return joined.pop_all()


def _connect(address: str) -> None:
    import ray

    where = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    try:
        if where != "auto":  # else Ray tries for minutes
            host, _, port = where.rpartition("/")[2].rpartition(":")
            socket.create_connection((host, int(port)), timeout=CONNECTS).close()
        ray.init(address=where, **QUIET)
    except (OSError, ValueError) as error:
        raise imgrec.UsageError(
            f"engine.address={address}: no Ray cluster can be reached there ({str(error).splitlines()[0]:.99}); "
            "`ray start --head` makes one, and without engine.address= this machine is one for the run"
        ) from None
