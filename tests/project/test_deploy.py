"""What docs/cluster.md has for Kubernetes: the image is made, and starts what the chart names."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import bootmatrix
from bootmatrix.cli.main import parser

HERE = Path(__file__).parents[2]
CHART = HERE / "deploy" / "chart"
IMAGE = f"bootmatrix-test-worker:{os.getpid()}"


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120)


@pytest.mark.docker
@pytest.mark.slow
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
        for option in container("scheduler")["args"]:
            assert option.partition("=")[0] in dask.stdout
    finally:
        docker("rmi", "--force", IMAGE)


def rendered(name: str, **values: Any) -> list[Any]:
    """A template of the chart: it has values in it, and the release's name, and nothing else."""
    load = YAML(typ="safe")
    made = {".Release.Name": "gate"} | {f".Values.{key}": value for key, value in
                                        (load.load(CHART / "values.yaml") | values).items()}
    text = re.sub(r"\{\{ (\.[A-Za-z.]+) \}\}", lambda found: str(made[found[1]]),
                  (CHART / "templates" / name).read_text())
    assert "{{" not in text
    return list(load.load_all(text))


def container(name: str, **values: Any) -> Any:
    template = "scheduler.yaml" if name == "scheduler" else "workers.yaml"
    deployment = rendered(template, **values)[-1]["spec"]["template"]
    one, = deployment["spec"]["containers"]
    assert one["name"] == name
    mounted, = one["volumeMounts"]
    assert mounted == {"name": "certs", "mountPath": "/certs", "readOnly": True}
    volume, = deployment["spec"]["volumes"]
    assert volume == {"name": "certs", "secret": {"secretName": "bootmatrix-tls"}}
    return one


def test_the_chart_starts_workers_as_its_values_say() -> None:
    worker = container("worker", cells=3)
    assert worker["command"][0] == "bootmatrix"
    options = parser().parse_args([*worker["command"][1:], *worker["args"]])
    assert options.cluster_tls == Path("/certs")
    assert (options.address, options.jobs, options.insecure) == (
        "tls://gate-scheduler:8786", "3", False)
    assert worker["securityContext"]["capabilities"] == {"add": ["SYS_ADMIN", "SYS_PTRACE"]}
    deployment, = rendered("workers.yaml", workers=20)
    assert deployment["spec"]["replicas"] == 20


def test_workers_find_the_scheduler_of_the_chart() -> None:
    service, deployment = rendered("scheduler.yaml")
    assert service["metadata"]["name"] == "gate-scheduler"
    assert service["spec"]["ports"] == [{"port": 8786}]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels == deployment["spec"]["selector"]["matchLabels"]
    assert container("scheduler")["args"][0] == "--protocol=tls"
