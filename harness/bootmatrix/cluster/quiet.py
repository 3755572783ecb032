"""dask says what it does; here people hear it in a line of ours, and only what matters to them."""

from __future__ import annotations

import logging
from typing import Any

_SETTINGS: dict[str, Any] = {
    "distributed.comm.timeouts.connect": "10s",
    # Nothing listens beside dask's own port: what is asked there is neither encrypted nor checked.
    "distributed.worker.http.routes": [],
    # Nobody looks at either, and both take time.
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.active-memory-manager.start": False,
}


def settle() -> None:
    """Have dask of this process as it is needed here, and silent."""
    import dask
    import distributed  # noqa: F401  # it sets its loggers up when it is imported

    dask.config.set(_SETTINGS)
    names = ("distributed", *(name for name in logging.root.manager.loggerDict
                              if name.startswith("distributed.")), "tornado", "asyncio")
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
