"""Values of options: with commas, or as JSON."""

from __future__ import annotations

import pytest

from bootmatrix.vm import keyval


def test_commas() -> None:
    keys = keyval.read("virtio-rng-pci,rng=r,id=a,,b", "driver")
    assert keys == {"driver": "virtio-rng-pci", "rng": "r", "id": "a,b"}
    assert keyval.write(keys, "driver") == "virtio-rng-pci,rng=r,id=a,,b"
    assert keyval.read("socket,id=x,server,nowait", "backend") == {
        "backend": "socket", "id": "x", "server": "on", "wait": "off"}
    assert keyval.read("type=1,serial=", "") == {"type": "1", "serial": ""}


def test_json_is_made_what_old_qemus_read() -> None:
    keys = keyval.read('{"driver":"VGA","vgamem_mb":64,"x":true,"file":{"a":[1,null]}}', "driver")
    assert keyval.write(keys, "driver") == "VGA,vgamem_mb=64,x=on,file.a.0=1,file.a.1="
    with pytest.raises(ValueError, match="too deep"):
        keyval.read('{"a":' * 100000)
