"""What docs/cluster.md has for Kubernetes: the image is made, and starts what the values name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import bootmatrix
from bootmatrix.cli.main import parser

HERE = Path(__file__).parents[2]
IMAGE = f"bootmatrix-test-worker:{os.getpid()}"


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120)


@pytest.mark.docker
def test_the_image_of_a_worker_is_made_without_a_registry() -> None:
    try:
        made = subprocess.run(
            [HERE / "deploy/worker.sh", IMAGE], capture_output=True, text=True, timeout=600,
            # Without what cells need, the scripts of packages and bytecode: half of the time.
            env={**os.environ, "PACKAGES": "dash", "VARIANT": "extract", "PIP_NO_COMPILE": "1"})
        assert made.returncode == 0, made.stderr
        assert made.stdout == f"made {IMAGE}\n"
        said = docker("run", "--rm", "--network", "none", IMAGE, "--version")
        assert said.stdout.startswith(f"bootmatrix {bootmatrix.__version__} "), said
        assert ", Python 3.11." in said.stdout
        refused = docker("run", "--rm", "--network", "none", IMAGE, "worker", "tcp://10.0.0.1:8786")
        assert refused.returncode == 2
        assert "whoever reaches it can run code" in refused.stderr
        dask = docker("run", "--rm", "--network", "none", "--entrypoint", "dask", IMAGE,
                      "scheduler", "--help")
        for option in values()["scheduler"]["args"]:
            assert option.partition("=")[0] in dask.stdout
    finally:
        docker("rmi", "--force", IMAGE)


def values() -> Any:
    return YAML(typ="safe").load(HERE / "deploy/values.yaml")


def test_the_values_give_a_worker_what_it_takes() -> None:
    worker = values()["worker"]
    assert worker["command"][0] == "bootmatrix"
    options = parser().parse_args([*worker["command"][1:], *worker["args"]])
    assert options.cluster_tls == Path("/certs")
    assert not options.insecure
    mounted = worker["mounts"]["volumeMounts"][0]
    assert (mounted["mountPath"], mounted["readOnly"]) == ("/certs", True)
    assert values()["scheduler"]["args"][0] == "--protocol=tls"
