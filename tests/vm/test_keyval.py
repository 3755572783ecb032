"""Values of options: with commas, or as JSON."""

from __future__ import annotations

import pytest

from bootmatrix.vm import keyval


def test_commas() -> None:
    keys = keyval.read("virtio-rng-pci,rng=r,id=a,,b", "driver")
    assert list(keys.items()) == [("driver", "virtio-rng-pci"), ("rng", "r"), ("id", "a,b")]
    assert keyval.write(keys, "driver") == "virtio-rng-pci,rng=r,id=a,,b"
    assert dict(keyval.read("socket,id=x,server,nowait", "backend").items()) == {
        "backend": "socket", "id": "x", "server": "on", "wait": "off"}
    assert dict(keyval.read("type=1,serial=", "").items()) == {"type": "1", "serial": ""}


def test_what_is_said_twice_is_there_twice_and_the_last_value_counts() -> None:
    text = "node,cpus=0-1,nodeid=0,cpus=4-5,memdev=m"
    keys = keyval.read(text, "type")
    assert keyval.write(keys, "type") == text
    assert keys["cpus"] == "4-5"
    assert keyval.write(keys.without("nodeid", "memdev"), "type") == "node,cpus=0-1,cpus=4-5"
    keys["cpus"] = "7"
    assert keyval.write(keys, "type") == "node,cpus=7,nodeid=0,memdev=m"
    assert keys.pop("cpus") == "7"
    assert "cpus" not in keys
    with pytest.raises(KeyError):
        keys["cpus"]


def test_json_is_made_what_old_qemus_read() -> None:
    keys = keyval.read('{"driver":"VGA","vgamem_mb":64,"x":true,"file":null}', "driver")
    assert keyval.write(keys, "driver") == "VGA,vgamem_mb=64,x=on,file="


def test_json_with_lists_stays_json() -> None:
    text = ('{"driver":"virtio-blk-pci","drive":"d","iothread-vq-mapping":[{"iothread":"io0"}],'
            '"rss":true,"serial":"007","bootindex":3,"x":null}')
    keys = keyval.read(text, "driver")
    assert keys["driver"] == "virtio-blk-pci"
    assert keyval.write(keys, "driver") == text
    keys["drive"], keys["bootindex"] = "disk", "0"
    assert keyval.write(keys) == text.replace('"d"', '"disk"').replace(":3", ":0")


@pytest.mark.parametrize("text", [
    '{"a":' * 100000, '{"a":' * 700 + "1" + "}" * 700, '{"a":' + "[" * 64 + "]" * 64 + "}",
], ids=["unclosed", "700", "lists"])
def test_json_goes_so_deep_and_no_deeper(text: str) -> None:
    with pytest.raises(ValueError, match=r"no JSON|more than 64 levels"):
        keyval.read(text)
    assert keyval.read('{"a":' * 60 + "1" + "}" * 60)["a"].count("a") == 59


def test_thousands_of_keys_do_not_take_long() -> None:
    assert len(list(keyval.read("aaa," * 8000).items())) == 8000
