"""Domains of libvirt's: the common devices."""

from __future__ import annotations

from itertools import pairwise

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


def test_nothing_of_a_domain_is_lost_silently() -> None:
    _, words = libvirt.command_line(
        "<domain><memory>1048576</memory><os><type arch='aarch64' machine='virt-9.2'/>"
        "<smbios mode='sysinfo'/></os><features><gic version='3'/><pmu state='off'/></features>"
        "<cpu mode='host-model'><cache mode='passthrough'/></cpu><pm><suspend-to-mem "
        "enabled='no'/></pm><clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock>"
        "<memtune/></domain>")
    text = " ".join(words)
    for told in ("virt-9.2,gic-version=3", "-libvirt <smbios mode='sysinfo'> of <os>, line 1",
                 "<pmu state='off'> of <features>", "<cache mode='passthrough'> of <cpu>",
                 "<pm> of <domain>", "<timer name='rtc' tickpolicy='catchup'> of <clock>",
                 "<memtune> of <domain>"):
        assert told in text


def test_what_nobody_reads_is_told_with_its_place() -> None:
    """Whatever it is: an element, an attribute, a text, a value that is not known, a second one."""
    _, words = libvirt.command_line("""<domain type='kvm'><name>x</name><memory>1048576</memory>
<os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type></os><clock offset='timezone' zone='a'/>
<devices><disk device='disk'><driver name='qemu' cache='none' statistics='x'/><source file='/a'/>
<target bus='virtio' dev='vda'/><iotune>never<read>7</read></iotune></disk>
<disk device='lun'><target bus='scsi'/></disk><controller type='usb' model='new'/>
<video><model type='vga'/><model type='qxl'/></video>stray</devices></domain>""")
    told = [word for name, word in pairwise(words) if name == "-libvirt"]
    assert told == [
        "<clock offset='timezone' zone='a'> of <domain>, line 2",
        "<devices>stray of <domain>, line 3",
        "<driver statistics='x'> of <disk>, line 3",
        "<iotune> of <disk>, line 4",
        "<disk device='lun'> of <devices>, line 5",
        "<controller type='usb' model='new'> of <devices>, line 5",
        "<model type='qxl'> of <video>, line 6"]


def test_arguments_that_a_domain_passes_through_are_read() -> None:
    """And an element that says nothing takes no word of the option behind it."""
    _, words = libvirt.command_line("""<domain xmlns:qemu='http://libvirt.org/x'><os><type/></os>
<devices><filesystem/><graphics/><tpm/></devices><qemu:commandline><qemu:arg value='-device'/>
<qemu:arg value='e1000,id=a b'/><qemu:env name='A' value='B'/></qemu:commandline></domain>""")
    assert words[-2:] == ["-device", "e1000,id=a b"]
    assert ("-fsdev", "<filesystem>") in list(pairwise(words))
    assert ("-vnc", "<graphics>") in list(pairwise(words))
    told = [word for name, word in pairwise(words) if name == "-libvirt"]
    assert told == ["<qemu:env name='A' value='B'> of <qemu:commandline>, line 3"]


def test_what_a_guest_sees_of_a_domain_is_kept() -> None:
    _, words = libvirt.command_line("""<domain><memory unit='MiB'>512</memory><vcpu>8</vcpu>
<genid>11111111-3a51-4a53-9b6c-70b7d7f2a911</genid>
<os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type></os>
<features><acpi/><hyperv mode='custom'><relaxed state='on'/><vendor_id state='on' value='KVM Hv'/>
<stimer state='on'><direct state='on'/></stimer><vapic state='off'/></hyperv>
<kvm><hidden state='on'/><poll-control state='on'/></kvm></features>
<cpu mode='custom'><model>qemu64</model><numa>
<cell id='0' cpus='0-1,4-5' memory='256' unit='MiB'><distances><sibling id='1' value='31'/>
</distances></cell><cell id='1' cpus='2-3,6-7' memory='256' unit='MiB'/></numa></cpu>
<devices><controller type='usb' model='qemu-xhci' ports='15'/>
<controller type='scsi' model='virtio-scsi'><driver queues='4' cmd_per_lun='64'/></controller>
<controller type='virtio-serial' ports='16' vectors='4'/>
<disk model='virtio-transitional'><driver queues='4' queue_size='256' packed='on'/>
<target bus='virtio'/></disk><disk><target bus='scsi'/>
<address type='drive' controller='0' bus='0' target='2' unit='3'/></disk>
<interface type='user'><model type='virtio'/><driver queues='4' rx_queue_size='1024'/>
<mtu size='1400'/><rom bar='off'/>
<address type='pci' bus='0x01' slot='0x00' function='0x1'/></interface>
<input type='tablet' bus='usb'><address type='usb' bus='0' port='2'/></input>
<video><model type='vga' vram='65536'/></video><memballoon model='virtio' autodeflate='on'/>
<rng model='virtio'><backend model='random'>/dev/random</backend><rate bytes='1024'/></rng>
<watchdog model='i6300esb' action='poweroff'/><panic model='hyperv'/></devices></domain>""")
    text = " ".join(words)
    assert "-libvirt" not in words
    for kept in (
        "-device vmgenid,guid=11111111-3a51-4a53-9b6c-70b7d7f2a911",
        "-cpu qemu64,hv-relaxed=on,hv-vendor-id=KVM Hv,hv-stimer=on,hv-stimer-direct=on,kvm=off,"
        "kvm-poll-control=on,hv-crash=on",
        "-numa node,nodeid=0,cpus=0-1,cpus=4-5,memdev=ram-node0", "-numa dist,src=0,dst=1,val=31",
        "qemu-xhci,id=usb,p2=15,p3=15", "virtio-scsi-pci,id=scsi0,num_queues=4,cmd_per_lun=64",
        "virtio-serial-pci,id=virtio-serial0,max_ports=16,vectors=4",
        "virtio-blk-pci-transitional,packed=on,num-queues=4,queue-size=256,",
        "scsi-hd,bus=scsi0.0,channel=0,scsi-id=2,lun=3,",
        ",mq=on,vectors=10,rx_queue_size=1024,host_mtu=1400,rombar=0,bus=pci.1,addr=0x0.0x1",
        "usb-tablet,id=input0,bus=usb.0,port=2", "VGA,id=video0,vgamem_mb=64",
        "virtio-balloon-pci,id=balloon0,deflate-on-oom=on", "filename=/dev/random",
        "max-bytes=1024,period=1000", "-watchdog-action poweroff",
    ):
        assert kept in text


@pytest.mark.parametrize(("inner", "says"), [
    ("<vcpu>x</vcpu>", "line 1: <vcpu>x: a number is meant"),
    ("<devices>\n<disk><address type='pci' bus='zz'/><target bus='virtio'/></disk></devices>",
     "line 2: <address bus='zz'>: a number is meant"),
    ("<memory unit='PB'>1</memory>", "<memory unit='PB'>1: a size is meant"),
    ("<vcpu current='" + "9" * 5000 + "'>1</vcpu>", "<vcpu current='999"),
    ("<a>" * 100 + "</a>" * 100, "more than 64 deep"),
], ids=["text", "attribute", "unit", "digits", "deep"])
def test_what_cannot_be_read_is_named_with_its_place(inner: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        libvirt.command_line(f"<domain>{inner}</domain>")


def test_what_other_boards_have_is_no_pcs() -> None:
    """As `virsh dumpxml` has it of each aarch64 domain."""
    _, words = libvirt.command_line(
        "<domain><os><type arch='aarch64' machine='virt-9.2'/></os><devices><serial type='pty'>"
        "<target type='system-serial' port='0'><model name='pl011'/></target></serial>"
        "<video><model type='virtio'/></video></devices></domain>")
    text = " ".join(words)
    assert "-serial chardev:" in text
    assert "isa-serial" not in text
    assert "-device virtio-gpu-pci" in text


def test_what_goes_before_a_domain() -> None:
    assert libvirt.looks_like("<?xml version='1.0'?>\n<!-- a -->\n<!-- b --> <domain>")
    assert not libvirt.looks_like("<!-- a -->" * 10_000 + "qemu-system-x86_64")
    assert not libvirt.looks_like("<!-- <domain>")
    assert libvirt.looks_like("<!---->" * 149_000 + "<domain>")


def test_a_domain_becomes_words() -> None:
    assert libvirt.looks_like(DOMAIN)
    assert not libvirt.looks_like("qemu-system-x86_64 -m 1")
    program, words = libvirt.command_line(DOMAIN)
    assert program == "qemu-system-x86_64"
    text = " ".join(words)
    for words_of_it in (
        "-machine pc-q35-7.2,acpi=off ", "-smp 2,maxcpus=4,sockets=1,cores=4,threads=1",
        "-cpu Haswell,-hle",
        "-m size=2097152k", "-device pcie-root-port,id=pci.1,chassis=1,port=0x10",
        "-device virtio-net-pci,netdev=hostnet0,id=net0,mac=52:54:00:00:00:01,bus=pci.1,addr=0x0",
        "-drive file=/a,,b.img,if=none,id=libvirt-disk0,format=raw",
        "-device ide-hd,bus=ide.0,drive=libvirt-disk0,id=sata-disk0,bootindex=1",
        "-device vfio-pci", "-libvirt <shmem name='x'> of <devices>", "-device tpm-crb",
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


def test_a_store_and_a_secure_loader_are_told_as_qemus_own_options() -> None:
    text = ("<domain><os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type>"
            "<loader secure='yes' type='pflash'>/x</loader><nvram>/a,b</nvram></os></domain>")
    words = libvirt.command_line(text)[1]
    assert "driver=cfi.pflash01,property=secure,value=on" in words
    assert "if=pflash,format=raw,unit=1,file=/a,,b" in words
