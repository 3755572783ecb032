"""Domains of libvirt's: the common devices."""

from __future__ import annotations

import pytest

from bootmatrix.vm import libvirt

DOMAIN = """<domain type='kvm'><memory unit='GiB'>2</memory><vcpu current='2'>4</vcpu>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
<cpu mode='custom'><model>Haswell</model><feature policy='disable' name='hle'/>
<topology sockets='1' cores='4' threads='1'/></cpu>
<devices><interface type='network'><mac address='52:54:00:00:00:01'/><model type='virtio'/>
<address type='pci' bus='0x01' slot='0x00' function='0x0'/></interface>
<disk type='file' device='disk'><source file='/a,b.img'/><target bus='sata'/>
<boot order='1'/></disk>
<controller type='pci' index='1' model='pcie-root-port'>
<target chassis='1' port='0x10'/></controller>
<hostdev type='pci'/><shmem name='x'/><tpm model='tpm-crb'/></devices></domain>"""


def test_a_domain_becomes_words() -> None:
    assert libvirt.looks_like(DOMAIN)
    assert not libvirt.looks_like("qemu-system-x86_64 -m 1")
    program, words = libvirt.command_line(DOMAIN)
    assert program == "qemu-system-x86_64"
    text = " ".join(words)
    for words_of_it in (
        "-machine pc-q35-7.2 ", "-smp 2,maxcpus=4,sockets=1,cores=4,threads=1", "-cpu Haswell,-hle",
        "-m size=2097152k", "-device pcie-root-port,id=pci.1,chassis=1,port=0x10",
        "-device virtio-net-pci,netdev=hostnet0,id=net0,mac=52:54:00:00:00:01,bus=pci.1,addr=0x0",
        "-drive file=/a,,b.img,if=none,id=libvirt-disk0,format=raw",
        "-device ide-hd,bus=ide.0,drive=libvirt-disk0,id=sata-disk0,bootindex=1",
        "-device vfio-pci", "-libvirt-shmem name=x", "-device tpm-crb",
    ):
        assert words_of_it in text
    # What a device is plugged into stands before it.
    assert text.index("pcie-root-port") < text.index("virtio-net-pci")


@pytest.mark.parametrize(("text", "says"), [
    ("<domain", "no XML"), ("<a/>", "<a> is no libvirt domain"),
    ("<!DOCTYPE a [<!ENTITY b 'c'>]><domain>&b;</domain>", "a document type"),
    ("<domain>" + "<a/>" * 6000 + "</domain>", "more than 5000 elements"),
])
def test_what_is_no_domain(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        libvirt.command_line(text)
