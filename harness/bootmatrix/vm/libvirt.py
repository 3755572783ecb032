"""A libvirt domain to QEMU's words: the common devices, where libvirt itself is not there to do it.

What is not known here becomes an option that no QEMU has, ``-libvirt-ELEMENT``, so that it is told
of as left out. Addresses of devices are libvirt's; PCI ones without are left to QEMU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

Element = ElementTree.Element
_UNITS = {"b": 0, "bytes": 0, "KB": 10, "k": 10, "KiB": 10, "M": 20, "MiB": 20, "G": 30, "GiB": 30,
          "T": 40, "TiB": 40}
_MOST_ELEMENTS = 5000
_USB = {"qemu-xhci": "qemu-xhci", "nec-xhci": "nec-usb-xhci", "piix3-uhci": "piix3-usb-uhci",
        "ich9-ehci1": "ich9-usb-ehci1", "ich9-uhci1": "ich9-usb-uhci1",
        "ich9-uhci2": "ich9-usb-uhci2", "ich9-uhci3": "ich9-usb-uhci3", "ehci": "usb-ehci"}
_SCSI = {"virtio-scsi": "virtio-scsi-pci", "lsilogic": "lsi", "auto": "lsi",
         "virtio-transitional": "virtio-scsi-pci-transitional", "lsisas1068": "mptsas1068",
         "lsisas1078": "megasas"}
_VIDEO = {"vga": "VGA", "cirrus": "cirrus-vga", "virtio": "virtio-vga", "qxl": "qxl-vga",
          "bochs": "bochs-display", "ramfb": "ramfb", "vmvga": "vmware-svga"}
_NIC = {"virtio": "virtio-net-pci", "e1000": "e1000", "e1000e": "e1000e", "rtl8139": "rtl8139",
        "igb": "igb", "virtio-transitional": "virtio-net-pci-transitional",
        "virtio-non-transitional": "virtio-net-pci-non-transitional", "ne2k_pci": "ne2k_pci"}
_SOUND = {"ich6": ("intel-hda", "hda-duplex"), "ich9": ("ich9-intel-hda", "hda-duplex"),
          "ac97": ("AC97", ""), "es1370": ("ES1370", "")}
_LEFT_OUT = {"graphics": "vnc", "audio": "libvirt-audio", "filesystem": "fsdev"}


def looks_like(text: str) -> bool:
    """Whether a text is a domain, at first sight."""
    return re.match(r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<domain\b", text, re.DOTALL) is not None


def command_line(text: str) -> tuple[str, list[str]]:
    """QEMU's program and words. Raises ValueError."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("a document type: a domain has none")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  # without entities
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML: {error}") from None
    if root.tag != "domain":
        raise ValueError(f"<{root.tag}> is no libvirt domain")
    if sum(1 for _ in root.iter()) > _MOST_ELEMENTS:
        raise ValueError(f"more than {_MOST_ELEMENTS} elements")
    kind = root.find("os/type")
    arch = kind.get("arch", "x86_64") if kind is not None else "x86_64"
    words = ["-nodefaults"]
    for option, value in _words(root, kind):
        words += [f"-{option}", value] if value else [f"-{option}"]
    return f"qemu-system-{arch}", words


def _words(root: Element, kind: Element | None) -> Iterator[tuple[str, str]]:
    yield from _machine(root, kind)
    yield from _processor(root)
    yield from _memory(root)
    if uuid := root.findtext("uuid", "").strip():
        yield "uuid", uuid
    clock = root.find("clock")
    if clock is not None and clock.get("offset") in ("utc", "localtime"):
        yield "rtc", f"base={clock.get('offset')}"
    places: dict[str, int] = {}
    devices = root.find("devices")
    # What others are plugged into comes first.
    listed = sorted(devices if devices is not None else (), key=lambda one: one.tag != "controller")
    for element in listed:
        if element.tag == "emulator":
            continue
        number = places[element.tag] = places.get(element.tag, -1) + 1
        deed = _DEVICES.get(element.tag)
        if deed is not None:
            yield from deed(element, number)
        else:
            yield _LEFT_OUT.get(element.tag, f"libvirt-{element.tag}"), _told(element)
    for element in root:
        if element.tag in ("launchSecurity", "iothreads", "sysinfo", "keywrap", "idmap",
                           "memoryBacking", "cputune", "numatune", "blkiotune", "resource"):
            yield f"libvirt-{element.tag}", _told(element)


def _told(element: Element) -> str:
    """An element in a few words."""
    return " ".join(f"{key}={value}" for key, value in list(element.attrib.items())[:6]) or \
        element.tag


def _machine(root: Element, kind: Element | None) -> Iterator[tuple[str, str]]:
    machine = kind.get("machine", "pc") if kind is not None else "pc"
    features = root.find("features")
    if features is not None:
        if features.find("acpi") is None and not machine.startswith("virt"):
            machine += ",acpi=off"
        smm = features.find("smm")
        if smm is not None and smm.get("state", "on") == "on":
            machine += ",smm=on"
        vmport = features.find("vmport")
        if vmport is not None:
            machine += f",vmport={vmport.get('state', 'on')}"
    hpet = next((timer for timer in root.findall("clock/timer") if timer.get("name") == "hpet"),
                None)
    if hpet is not None and hpet.get("present") == "no":
        machine += ",hpet=off"
    yield "machine", machine
    loader = root.find("os/loader")
    if loader is not None or (root.find("os") is not None and (
            root.find("os").get("firmware") == "efi")):  # type: ignore[union-attr]
        name = loader.text if loader is not None and loader.text else "OVMF"
        yield "bios", name.strip().replace(",", ",,")
    boot = [found.get("dev", "") for found in root.findall("os/boot")]
    letters = "".join({"hd": "c", "cdrom": "d", "network": "n", "fd": "a"}.get(dev, "")
                      for dev in boot)
    if letters:
        yield "boot", f"order={letters}"


def _processor(root: Element) -> Iterator[tuple[str, str]]:
    vcpu = root.find("vcpu")
    most = (vcpu.text or "1").strip() if vcpu is not None else "1"
    now = vcpu.get("current", most) if vcpu is not None else most
    smp = now if now == most else f"{now},maxcpus={most}"
    cpu = root.find("cpu")
    topology = cpu.find("topology") if cpu is not None else None
    if topology is not None:
        smp += "".join(f",{key}={value}" for key, value in topology.attrib.items()
                       if key in ("sockets", "dies", "cores", "threads"))
    yield "smp", smp
    if cpu is None:
        return
    mode, model = cpu.get("mode", "custom"), cpu.findtext("model", "").strip()
    name = "host" if mode in ("host-passthrough", "maximum") or (
        mode == "host-model" and not model) else model
    if not name:
        return
    for feature in cpu.findall("feature"):
        sign = {"require": "+", "force": "+", "optional": "+", "disable": "-", "forbid": "-"}.get(
            feature.get("policy", "require"), "+")
        name += f",{sign}{feature.get('name', '')}"
    hyperv = root.find("features/hyperv")
    for element in hyperv if hyperv is not None else ():
        if element.get("state") == "on":
            name += f",hv-{element.tag}={element.get('retries', 'on')}"
    hidden = root.find("features/kvm/hidden")
    if hidden is not None and hidden.get("state") == "on":
        name += ",kvm=off"
    yield "cpu", name


def _kib(element: Element | None) -> int:
    if element is None or not (element.text or "").strip().isdecimal():
        return 0
    return (int(element.text or "0") << _UNITS.get(element.get("unit", "KiB"), 10)) >> 10


def _memory(root: Element) -> Iterator[tuple[str, str]]:
    size = _kib(root.find("memory")) or 128 << 10
    most, cells = root.find("maxMemory"), root.findall("cpu/numa/cell")
    text = f"size={size}k"
    if most is not None:
        text += f",slots={most.get('slots', '16')},maxmem={_kib(most)}k"
    yield "m", text
    source = root.find("memoryBacking/source")
    access = root.find("memoryBacking/access")
    shared = access is not None and access.get("mode") == "shared"
    backend = {"memfd": "memory-backend-memfd", "file": "memory-backend-file"}.get(
        source.get("type", "") if source is not None else "", "memory-backend-ram")
    for number, cell in enumerate(cells):
        share = shared or cell.get("memAccess") == "shared"
        kib = int(cell.get("memory", "0")) << _UNITS.get(cell.get("unit", "KiB"), 10) >> 10
        yield "object", (f"{backend},id=ram-node{number},size={kib}k"
                         + (",share=on" if share and backend != "memory-backend-ram" else ""))
        cpus = "".join(f",cpus={part}" for part in cell.get("cpus", "").split(",") if part)
        yield "numa", f"node,nodeid={cell.get('id', number)}{cpus},memdev=ram-node{number}"


def _address(element: Element) -> str:
    """Where libvirt has put a PCI device, by the names of its buses."""
    address = element.find("address")
    if address is None or address.get("type") != "pci":
        return ""
    numbers = [int(address.get(key, "0"), 16) for key in ("bus", "slot", "function")]
    if numbers[0]:  # behind a bridge or a root port of another number: QEMU finds a place
        return f",bus=pci.{numbers[0]},addr={numbers[1]:#x}"
    return f",addr={numbers[1]:#x}" + (f".{numbers[2]:#x}" if numbers[2] else "") + (
        ",multifunction=on" if address.get("multifunction") == "on" else "")


def _order(element: Element) -> str:
    boot = element.find("boot")
    return f",bootindex={boot.get('order')}" if boot is not None else ""


def _disk(element: Element, number: int) -> Iterator[tuple[str, str]]:
    target = element.find("target")
    bus = target.get("bus", "ide") if target is not None else "ide"
    cd, id_ = element.get("device") == "cdrom", f"libvirt-disk{number}"
    if element.get("device") in ("floppy", "lun"):
        yield f"libvirt-{element.get('device')}", _told(element)
        return
    drive = element.find("driver")
    form = drive.get("type", "raw") if drive is not None else "raw"
    source = element.find("source")
    file = (source.get("file") or source.get("dev") or source.get("name") or "?"
            if source is not None else "")
    yield "drive", f"file={file.replace(',', ',,')},if=none,id={id_},format={form}"
    address = element.find("address")
    place: dict[str, str] = dict(address.attrib) if address is not None else {}
    get = place.get
    device = {"virtio": f"virtio-blk-pci{_address(element)}", "sata": "ide-cd" if cd else "ide-hd",
              "ide": "ide-cd" if cd else "ide-hd", "scsi": "scsi-cd" if cd else "scsi-hd",
              "usb": "usb-storage", "nvme": "nvme"}.get(bus, "")
    if not device:
        yield f"libvirt-disk-{bus}", _told(element)
        return
    if bus == "sata":
        device += f",bus=ide.{get('unit', str(number))}"
    elif bus == "ide":
        device += f",bus=ide.{get('bus', '0')},unit={get('unit', '0')}"
    elif bus == "scsi" and address is not None:
        device += f",bus=scsi{get('controller', '0')}.0,scsi-id={get('unit', '0')}"
    serial = element.findtext("serial", "").strip()
    if serial or bus == "nvme":
        device += f",serial={serial or 'nvme0'}"
    yield "device", f"{device},drive={id_},id={bus}-disk{number}{_order(element)}"


def _controller(element: Element, number: int) -> Iterator[tuple[str, str]]:
    kind, model = element.get("type", ""), element.get("model", "")
    index = element.get("index", "0")
    if kind == "pci":
        if model.endswith("-root"):
            return
        device = {"pcie-root-port": "pcie-root-port", "pcie-to-pci-bridge": "pcie-pci-bridge",
                  "pci-bridge": "pci-bridge", "dmi-to-pci-bridge": "i82801b11-bridge"}.get(model)
        if device is None:
            yield f"libvirt-controller-{model}", _told(element)
            return
        extra = ""
        target = element.find("target")
        if device == "pcie-root-port" and target is not None:
            extra = f",chassis={target.get('chassis', index)},port={target.get('port', index)}"
        elif device in ("pcie-root-port", "pci-bridge"):
            number_key = "chassis" if device == "pcie-root-port" else "chassis_nr"
            extra = f",{number_key}={index}"
        yield "device", f"{device},id=pci.{index}{extra}{_address(element)}"
    elif kind == "usb" and model in _USB:
        master = element.find("master")
        first = f",masterbus=usb.0,firstport={master.get('startport')}" if master is not None else \
            ",id=usb" if index == "0" else f",id=usb{index}"
        yield "device", f"{_USB[model]}{first}{_address(element)}"
    elif kind == "scsi":
        yield "device", f"{_SCSI.get(model, 'lsi')},id=scsi{index}{_address(element)}"
    elif kind == "virtio-serial":
        yield "device", f"virtio-serial-pci,id=virtio-serial{index}{_address(element)}"
    elif kind in ("sata", "ide", "fdc"):
        return  # the board's own
    else:
        yield f"libvirt-controller-{kind}", _told(element)


def _interface(element: Element, number: int) -> Iterator[tuple[str, str]]:
    model, mac = element.find("model"), element.find("mac")
    name = model.get("type", "rtl8139") if model is not None else "rtl8139"
    address = mac.get("address", "") if mac is not None else ""
    yield "netdev", f"{element.get('type', 'user')},id=hostnet{number}"
    yield "device", (f"{_NIC.get(name, name)},netdev=hostnet{number},id=net{number}"
                     + (f",mac={address}" if address else "") + _address(element)
                     + _order(element))


def _character(element: Element, number: int) -> Iterator[tuple[str, str]]:
    target = element.find("target")
    id_, tag = f"char{element.tag}{number}", element.tag
    backend = {"unix": "socket", "spicevmc": "spicevmc"}.get(element.get("type", "pty"),
                                                             element.get("type", "pty"))
    if tag == "console":  # the serial port, or virtio's
        if target is None or target.get("type") != "virtio":
            return
        yield "chardev", f"{backend},id={id_}"
        yield "device", f"virtconsole,chardev={id_},id=console{number}"
    elif tag == "serial":
        yield "chardev", f"{backend},id={id_}"
        yield "device", f"isa-serial,chardev={id_},id=serial{number},index={number}"
    elif tag == "parallel":
        yield "chardev", f"{backend},id={id_}"
        yield "device", f"isa-parallel,chardev={id_},id=parallel{number}"
    else:
        name = target.get("name", "") if target is not None else ""
        if target is None or target.get("type") != "virtio":
            yield "libvirt-channel", _told(element)
            return
        yield "chardev", f"{backend},id={id_}"
        yield "device", f"virtserialport,chardev={id_},id=channel{number},name={name}"


def _input(element: Element, number: int) -> Iterator[tuple[str, str]]:
    kind, bus = element.get("type", ""), element.get("bus", "")
    names = {"usb": {"tablet": "usb-tablet", "mouse": "usb-mouse", "keyboard": "usb-kbd"},
             "virtio": {"tablet": "virtio-tablet-pci", "mouse": "virtio-mouse-pci",
                        "keyboard": "virtio-keyboard-pci"}}
    if bus == "ps2":
        return  # the board's own
    device = names.get(bus, {}).get(kind)
    if device is None:
        yield f"libvirt-input-{kind}", _told(element)
    else:
        yield "device", f"{device},id=input{number}{_address(element)}"


def _video(element: Element, number: int) -> Iterator[tuple[str, str]]:
    model = element.find("model")
    name = model.get("type", "vga") if model is not None else "vga"
    if name == "none":
        return
    yield "device", f"{_VIDEO.get(name, name)},id=video{number}{_address(element)}"


def _sound(element: Element, number: int) -> Iterator[tuple[str, str]]:
    device, codec = _SOUND.get(element.get("model", ""), ("", ""))
    if not device:
        yield f"libvirt-sound-{element.get('model')}", _told(element)
        return
    yield "audiodev", f"none,id=audio{number}"
    audio = f",audiodev=audio{number}"
    yield "device", f"{device},id=sound{number}{_address(element)}" + ("" if codec else audio)
    if codec:
        yield "device", f"{codec},id=sound{number}-codec0,bus=sound{number}.0,cad=0{audio}"


def _balloon(element: Element, number: int) -> Iterator[tuple[str, str]]:
    if element.get("model", "virtio") != "none":
        yield "device", f"virtio-balloon-pci,id=balloon{number}{_address(element)}"


def _rng(element: Element, number: int) -> Iterator[tuple[str, str]]:
    yield "object", f"rng-random,id=objrng{number},filename=/dev/urandom"
    yield "device", f"virtio-rng-pci,rng=objrng{number},id=rng{number}{_address(element)}"


def _watchdog(element: Element, number: int) -> Iterator[tuple[str, str]]:
    model = element.get("model", "")
    if model == "itco":  # q35's own
        yield "global", "ICH9-LPC.noreboot=off"
    else:
        yield "device", f"{model},id=watchdog{number}{_address(element)}"


def _host_device(element: Element, number: int) -> Iterator[tuple[str, str]]:
    device = "usb-host" if element.get("type") == "usb" else "vfio-pci"
    yield "device", f"{device},id=hostdev{number}"


def _tpm(element: Element, number: int) -> Iterator[tuple[str, str]]:
    yield "device", f"{element.get('model', 'tpm-tis')},tpmdev=tpm{number}"


def _panic(element: Element, number: int) -> Iterator[tuple[str, str]]:
    if element.get("model", "isa") == "isa":
        yield "device", "pvpanic"


def _redirected(element: Element, number: int) -> Iterator[tuple[str, str]]:
    yield "device", f"usb-redir,id=redir{number}"


def _vsock(element: Element, number: int) -> Iterator[tuple[str, str]]:
    yield "device", f"vhost-vsock-pci,id=vsock{number}"


_DEVICES = {
    "disk": _disk, "controller": _controller, "interface": _interface, "serial": _character,
    "parallel": _character, "console": _character, "channel": _character, "input": _input,
    "video": _video, "sound": _sound, "memballoon": _balloon, "rng": _rng, "watchdog": _watchdog,
    "hostdev": _host_device, "tpm": _tpm, "panic": _panic, "redirdev": _redirected,
    "vsock": _vsock,
}  # fmt: skip

