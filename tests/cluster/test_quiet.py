"""dask of a process of ours says nothing, and listens nowhere beside its port."""

from __future__ import annotations

import subprocess
import sys


def test_dask_is_silent_and_has_no_pages() -> None:
    said = subprocess.run(
        [sys.executable, "-c", """
import logging
from bootmatrix.cluster import quiet
quiet.settle()
import dask
logging.getLogger("distributed.worker").info("loud")
logging.getLogger("distributed.core").error("louder")
print(dask.config.get("distributed.worker.http.routes"))
"""], capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == ("[]\n", "")
