"""What a program of a stranger's says of itself: heard within bounds, in a cell's sandbox."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.builds import asking
from bootmatrix.builds.asking import ANSWER_BYTES, ask
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.errors import ImageError
from bootmatrix.model import QemuBuild


@pytest.fixture
def stranger(store: ImageStore) -> QemuBuild:
    """A program that does what its arguments say: it takes QEMU's place in a root."""
    return replace(store.qemu("debian-sid"), binary="/bin/busybox", catalogued=False)


def test_a_qemu_says_its_version(store: ImageStore) -> None:
    build = store.qemu("debian-sid")
    assert ask(build, "--version").startswith(f"QEMU emulator version {build.version}")


def test_it_is_not_root_and_sees_no_network_and_no_files_of_the_host(stranger: QemuBuild) -> None:
    said = ask(stranger, "sh", "-c",
               "id -u; grep -c : /proc/net/dev; [ ! -e /etc/hostname ] || echo the host").split()
    assert said[0] != "0"
    assert said[1:] == ["1"], "the loopback alone"


def test_the_environment_is_what_is_given(stranger: QemuBuild) -> None:
    assert ask(stranger, "sh", "-c", "echo $ONE", environment={"ONE": "a b"}) == "a b\n"


def test_a_failure_has_its_last_words(stranger: QemuBuild) -> None:
    with pytest.raises(ImageError) as raised:
        ask(stranger, "sh", "-c", "for n in $(seq 30); do echo line $n >&2; done; exit 7")
    assert raised.value.status == 7
    assert raised.value.tail.splitlines() == [f"line {n}" for n in range(11, 31)]
    assert raised.value.message == "/bin/busybox does not run"


def test_too_long_an_answer_is_none(stranger: QemuBuild) -> None:
    with pytest.raises(ImageError, match="does not run: "):
        ask(stranger, "head", "-c", str(ANSWER_BYTES + 1), "/dev/zero")


def test_what_does_not_end_is_ended(
    stranger: QemuBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SECONDS", 0.5)
    with pytest.raises(ImageError, match="no end after"):
        ask(stranger, "sleep", "600")
