"""A libvirt domain to QEMU's words: the common devices, where libvirt itself is not there to do it.

Who reads an attribute, a text or an element has it marked (``_Node``). What is left unread in the
end is told of, whatever it is, as an option of no QEMU's: UNKNOWN. Addresses of devices are
libvirt's; PCI ones without are left to QEMU.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from xml.parsers import expat

from bootmatrix import arguments
from bootmatrix.vm.words import after_blank

UNKNOWN = "libvirt"
"""The option that has, as its value, an element or attribute that is not known here."""

_UNITS = {"b": 0, "bytes": 0, "KB": 10, "k": 10, "KiB": 10, "M": 20, "MiB": 20, "G": 30, "GiB": 30,
          "T": 40, "TiB": 40}
_MOST_ELEMENTS = 5000
_DEEPEST = 64
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
_DRIVE = ("name", "type", "cache", "io", "discard", "error_policy", "rerror_policy",
          "detect_zeroes", "copy_on_read")
_SWITCH = {"on": "on", "yes": "on", "off": "off", "no": "off"}
# Properties of a CPU that libvirt calls otherwise, beside hv- and an underscore less.
_KVM = {"hidden": ("on", "kvm=off"), "hint-dedicated": ("on", "kvm-hint-dedicated=on"),
        "poll-control": ("on", "kvm-poll-control=on"), "pv-ipi": ("off", "kvm-pv-ipi=off")}
# What says nothing of the machine that the guest sees, wherever it stands.
_NOTHING = frozenset(("name", "title", "description", "metadata", "on_poweroff", "on_reboot",
                      "on_crash", "emulator", "alias"))


class _Node:
    """An element that knows what was read of it."""

    def __init__(self, tag: str, attributes: dict[str, str], above: _Node | None,
                 line: int) -> None:
        self.tag, self.above, self.line = tag, above, line
        self._attributes = attributes
        self._unread = dict(attributes)
        self.children: list[_Node] = []
        self.parts: list[str] = []
        self._seen = self._text_seen = False
        self.virtio_scsi: set[int] = set()
        """Of <devices>: the controllers whose disks have a target and a LUN."""

    def __contains__(self, key: str) -> bool:
        return key in self._attributes

    def get(self, key: str, default: str = "") -> str:
        """An attribute."""
        self._unread.pop(key, None)
        return self._attributes.get(key, default)

    def known(self, key: str, values: Container[str], default: str = "") -> str:
        """An attribute that is one of these; as any other it stays unread, and is ``default``."""
        value = self._attributes.get(key, default)
        return self.get(key, default) if value in values else default

    def number(self, key: str, default: str = "0") -> int:
        """Raises ValueError, which says where."""
        value = self.get(key, default).strip()
        found = int(value) if re.fullmatch("0[0-9]{1,18}", value) else arguments.number(value)
        if found is None:
            raise ValueError(f"line {self.line}: <{self.tag} {key}={value[:40]!r}>: a number is "
                             "meant")
        return found

    def switch(self, key: str) -> str:
        """on or off; "" where the attribute is not there."""
        return _SWITCH.get(self.known(key, _SWITCH), "")

    def text(self) -> str:
        """Its text, without blanks around."""
        self._text_seen = True
        return "".join(self.parts).strip()

    def see(self) -> _Node:
        """Say that it is known here."""
        self._seen = True
        return self

    def refuse(self) -> None:
        """Leave it unread, after all."""
        self._seen = False

    def ignore(self, *keys: str) -> _Node:
        """Without a key all that is in it."""
        if keys:
            for key in keys:
                self._unread.pop(key, None)
            return self.see()
        nodes = [self]
        while nodes:
            node = nodes.pop()
            node._seen = node._text_seen = True
            node._unread.clear()
            nodes += node.children
        return self

    def of(self, path: str) -> list[_Node]:
        """The elements there, each of which is seen by that, as those above them."""
        found = [self]
        for tag in path.split("/"):
            found = [child.see() for node in found for child in node.children if child.tag == tag]
        return found

    def one(self, path: str) -> _Node:
        """The first one; an empty one where there is none. A second one stays unread."""
        found: _Node = self
        for tag in path.split("/"):
            first = next((child for child in found.children if child.tag == tag), None)
            found = _Node(tag, {}, found, self.line) if first is None else first.see()
        return found

    def has(self, tag: str) -> bool:
        """Whether it has such an element, which is seen by that."""
        return any(child.see() for child in self.children if child.tag == tag)

    def listed(self) -> str:
        """Its first attributes, to be told; never empty, as a word is meant behind an option."""
        listed = [f"{key}={value}" for key, value in list(self._attributes.items())[:6]]
        return " ".join(listed) or f"<{self.tag}>"

    def unread(self) -> Iterator[str]:
        """What nobody has read, in the order of the file."""
        nodes = [self]
        while nodes:
            node = nodes.pop()
            if not node._seen:
                if node.tag not in _NOTHING:
                    yield node._summary(node._attributes, len(node.children) == 0)
                continue
            alone = not node._text_seen and bool("".join(node.parts).strip())
            if node._unread or alone:
                yield node._summary(node._unread, alone)
            nodes += reversed(node.children)

    def _summary(self, attributes: dict[str, str], with_text: bool) -> str:
        listed = "".join(f" {key}={value!r}" for key, value in attributes.items())
        text = "".join(self.parts).strip() if with_text else ""
        above = f" of <{self.above.tag}>" if self.above is not None else ""
        return f"<{self.tag}{listed}>{text}{above}, line {self.line}"


def looks_like(text: str) -> bool:
    """Whether a text is a domain, at first sight."""
    at = after_blank(text, 0)
    while text.startswith(("<?xml", "<!--"), at):
        end = "?>" if text.startswith("<?", at) else "-->"
        closed = text.find(end, at)
        if closed < 0:
            return False
        at = after_blank(text, closed + len(end))
    return re.compile(r"<domain\b").match(text, at) is not None


_ENCODING = re.compile(r"^(\s*<\?xml[^>]*?)\sencoding=(?:\"[^\"]*\"|'[^']*')")


def command_line(text: str) -> tuple[str, list[str]]:
    """QEMU's program and words. Raises ValueError."""
    root = _parsed(text)
    if root.tag != "domain":
        raise ValueError(f"<{root.tag}> is no libvirt domain")
    kind = root.one("os/type")
    kind.text()
    arch = kind.get("arch", "x86_64")
    words = ["-nodefaults"]
    for option, value in _words(root.see(), kind, arch):
        if arch not in ("x86_64", "i686"):  # which has no VGA
            value = re.sub(r"^virtio-vga\b", "virtio-gpu-pci", value)
        words += [f"-{option}", value] if value else [f"-{option}"]
    root.ignore("xmlns:qemu")
    own = [arg.get("value") for arg in root.of("qemu:commandline/qemu:arg")]
    for unread in root.unread():
        words += [f"-{UNKNOWN}", unread]
    words += own  # behind all else, as libvirt has them
    return f"qemu-system-{arch}", words


def _parsed(text: str) -> _Node:
    """The root of a document without a document type, which has no entities of its own."""
    top = _Node("", {}, None, 0)
    open_ = [top]
    count = 0
    parser = expat.ParserCreate()

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > _MOST_ELEMENTS:
            raise ValueError(f"more than {_MOST_ELEMENTS} elements")
        if len(open_) > _DEEPEST:
            raise ValueError(f"elements more than {_DEEPEST} deep")
        above = open_[-1]
        node = _Node(tag, attributes, above if above is not top else None,
                     parser.CurrentLineNumber)
        above.children.append(node)
        open_.append(node)

    def no_type(*_: object) -> None:
        raise ValueError("a document type: a domain has none")

    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda tag: open_.pop()
    parser.CharacterDataHandler = lambda part: open_[-1].parts.append(part)
    parser.StartDoctypeDeclHandler = no_type
    try:
        # What it says of its encoding was true of the file; here it is text.
        parser.Parse(re.sub(_ENCODING, r"\1", text), True)
    except expat.ExpatError as error:
        raise ValueError(f"no XML: {error}") from None
    return top.children[0]


def _words(root: _Node, kind: _Node, arch: str) -> Iterator[tuple[str, str]]:
    root.ignore("type", "id")
    yield from _machine(root, kind)
    yield from _processor(root)
    yield from _memory(root)
    if uuid := root.one("uuid").text():
        yield "uuid", uuid
    if genid := root.one("genid").text():
        yield "device", f"vmgenid,guid={genid},id=vmgenid0"
    elif root.has("genid"):
        root.one("genid").refuse()
    if base := root.one("clock").known("offset", ("utc", "localtime")):
        yield "rtc", f"base={base}"
    places: dict[str, int] = {}
    # What others are plugged into comes first.
    listed = sorted(root.one("devices").children, key=lambda one: one.tag != "controller")
    for element in listed:
        deed = _DEVICES.get(element.tag)
        if deed is not None:
            number = places[element.tag] = places.get(element.tag, -1) + 1
            yield from deed(element.see(), number)


def _machine(root: _Node, kind: _Node) -> Iterator[tuple[str, str]]:
    machine = kind.get("machine", "pc")
    features = root.one("features")
    if not features.has("acpi") and not machine.startswith("virt"):
        machine += ",acpi=off"  # libvirt's, also where there are no features
    features.has("apic")  # there is no machine without
    features.has("pae")
    if features.has("smm") and features.one("smm").known("state", ("on", "off"), "on") == "on":
        machine += ",smm=on"
    if features.has("vmport"):
        machine += f",vmport={features.one('vmport').switch('state') or 'on'}"
    if version := features.one("gic").get("version"):
        machine += f",gic-version={version}"
    for timer in root.one("clock").children:
        if timer.tag == "timer" and timer.see().known("name", ("hpet",)):
            if timer.known("present", ("yes", "no")) == "no":
                machine += ",hpet=off"
        else:
            timer.refuse()
    yield "machine", machine
    os = root.one("os")
    firmware = os.known("firmware", ("efi", "bios"))
    loader = os.one("loader") if os.has("loader") else None
    if loader is not None or firmware == "efi":
        name = loader.text() if loader is not None and loader.text() else "OVMF"
        yield "bios", name.replace(",", ",,")
    if loader is not None and loader.switch("secure") == "on":
        yield "global", "driver=cfi.pflash01,property=secure,value=on"
    if os.has("nvram") and (store := os.one("nvram").text()):
        yield "drive", f"if=pflash,format=raw,unit=1,file={store.replace(',', ',,')}"
    for firmwares in ("loader", "nvram", "firmware"):  # what is tested is the host's
        for element in os.of(firmwares):
            element.ignore()
    letters = {"hd": "c", "cdrom": "d", "network": "n", "fd": "a"}
    order = "".join(letters.get(found.known("dev", letters), "") for found in os.of("boot"))
    menu = os.one("bootmenu").switch("enable")
    said = [f"order={order}"] * bool(order) + [f"menu={menu}"] * bool(menu)
    if said:
        yield "boot", ",".join(said)


def _processor(root: _Node) -> Iterator[tuple[str, str]]:
    vcpu = root.one("vcpu").ignore("placement", "cpuset")
    most = vcpu.text() or "1"
    if arguments.number(most) is None:
        raise ValueError(f"line {vcpu.line}: <vcpu>{most[:40]}: a number is meant")
    now = str(vcpu.number("current", most))
    smp = now if now == most else f"{now},maxcpus={most}"
    cpu = root.one("cpu").ignore("match", "check")
    topology = cpu.one("topology")
    for key in ("sockets", "dies", "clusters", "cores", "threads"):
        if key in topology:
            smp += f",{key}={topology.number(key)}"
    yield "smp", smp
    mode = cpu.known("mode", ("host-passthrough", "maximum", "host-model", "custom"), "custom")
    model = cpu.one("model").ignore("fallback").text()
    name = "host" if mode in ("host-passthrough", "maximum") or (
        mode == "host-model" and not model) else model
    properties = []
    if name:
        for feature in cpu.of("feature"):
            sign = {"require": "+", "force": "+", "optional": "+", "disable": "-", "forbid": "-"}
            policy = feature.known("policy", sign, "require")
            properties.append(f"{sign[policy]}{feature.get('name')}")
    properties += _hyper_v(root)
    for element in root.one("features/kvm").children:
        state, said = _KVM.get(element.tag, ("", ""))
        if element.see().known("state", ("on", "off")) == state and state:
            properties.append(said)
        elif not state:
            element.refuse()
    properties += ["hv-crash=on" for panic in root.of("devices/panic")
                   if panic.known("model", ("hyperv",))]
    if name:
        yield "cpu", ",".join([name, *properties])
    elif properties:  # of QEMU's own choice there is no name
        yield UNKNOWN, f"properties of a CPU without a model: {','.join(properties)}"


def _hyper_v(root: _Node) -> Iterator[str]:
    hyperv = root.one("features/hyperv")
    if hyperv.known("mode", ("passthrough", "custom"), "custom") == "passthrough":
        yield "hv-passthrough=on"
    for element in hyperv.children:
        state = element.see().known("state", ("on", "off"))
        if state != "on":
            if not state:
                element.refuse()
            continue
        name = f"hv-{element.tag.replace('_', '-')}"
        value = element.get("retries") or element.get("value") or "on"
        yield f"{name}={value.replace(',', ',,')}"
        for part in element.children:  # stimer's direct, tlbflush's direct and extended
            if part.see().switch("state") == "on":
                yield f"{name}-{ {'extended': 'ext'}.get(part.tag, part.tag) }=on"


def _kib(element: _Node) -> int:
    text, unit = element.text(), element.get("unit", "KiB")
    if not text:
        return 0
    if (number := arguments.number(text)) is None or unit not in _UNITS:
        raise ValueError(f"line {element.line}: <{element.tag} unit={unit!r}>{text[:40]}: a size "
                         "is meant")
    return (number << _UNITS[unit]) >> 10


def _memory(root: _Node) -> Iterator[tuple[str, str]]:
    size = _kib(root.one("memory")) or 128 << 10
    if root.has("currentMemory") and _kib(root.one("currentMemory")) != size:
        root.one("currentMemory").refuse()
    text = f"size={size}k"
    if root.has("maxMemory"):
        most = root.one("maxMemory")
        text += f",slots={most.number('slots', '16')},maxmem={_kib(most)}k"
    yield "m", text
    kinds = {"memfd": "memory-backend-memfd", "file": "memory-backend-file",
             "anonymous": "memory-backend-ram"}
    backing = root.one("memoryBacking")
    backend = kinds[backing.one("source").known("type", kinds, "anonymous")]
    modes = ("shared", "private")
    shared = backing.one("access").known("mode", modes, "private")
    distances = []
    for number, cell in enumerate(root.of("cpu/numa/cell")):
        share = cell.known("memAccess", modes, shared) == "shared"
        unit = cell.known("unit", _UNITS, "KiB")
        kib = cell.number("memory") << _UNITS[unit] >> 10
        yield "object", (f"{backend},id=ram-node{number},size={kib}k"
                         + (",share=on" if share and backend != "memory-backend-ram" else ""))
        cpus = "".join(f",cpus={part}" for part in cell.get("cpus").split(",") if part)
        node = cell.number("id", str(number))
        yield "numa", f"node,nodeid={node}{cpus},memdev=ram-node{number}"
        distances += [f"dist,src={node},dst={other.number('id')},val={other.number('value')}"
                      for other in cell.of("distances/sibling")]
    for distance in distances:  # between nodes that are there
        yield "numa", distance


def _address(element: _Node) -> str:
    """Where libvirt has put a device on PCI or USB, by the names of its buses."""
    address = element.one("address")
    kind = address.known("type", ("pci", "usb"))
    if kind == "usb":
        bus = address.number("bus")
        port = f",port={address.get('port')}" if "port" in address else ""
        return f",bus=usb{bus or ''}.0{port}"
    if kind != "pci":
        return ""
    address.known("domain", ("0x0000", "0"))
    bus, slot, function = (
        int(text, 16) if re.fullmatch(r"(0[xX])?[0-9a-fA-F]{1,4}", text := address.get(key, "0"))
        else address.number(key) for key in ("bus", "slot", "function"))
    # Behind a bridge or a root port of another number QEMU finds a place.
    return (f",bus=pci.{bus}" if bus else "") + f",addr={slot:#x}" + (
        f".{function:#x}" if function else "") + (
        ",multifunction=on" if address.switch("multifunction") == "on" else "")


def _order(element: _Node) -> str:
    return f",bootindex={element.one('boot').number('order')}" if element.has("boot") else ""


def _virtio(element: _Node, device: str) -> str:
    """A virtio device of the kind that its model says, with what all of them can be told."""
    model = element.known("model", ("virtio-transitional", "virtio-non-transitional"))
    driver = element.one("driver")
    return device + model.removeprefix("virtio") + _said(driver, {
        "iommu": "iommu_platform", "ats": "ats", "packed": "packed",
        "page_per_vq": "page-per-vq"}, switch=True)


def _said(element: _Node, properties: dict[str, str], switch: bool = False) -> str:
    """Attributes as properties of a device, under QEMU's names of them."""
    return "".join(
        f",{there}={element.switch(attribute) if switch else element.number(attribute)}"
        for attribute, there in properties.items()
        if attribute in element and (not switch or element.switch(attribute)))


def _disk(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    device_kind = element.known("device", ("disk", "cdrom"), "disk")
    target, source, drive = element.one("target"), element.one("source"), element.one("driver")
    buses = ("virtio", "sata", "ide", "scsi", "usb", "nvme")
    bus = target.get("bus", "ide")
    if bus not in buses or element.get("device", "disk") != device_kind:
        element.refuse()
        return
    cd, id_ = device_kind == "cdrom", f"libvirt-disk{number}"
    element.ignore("type", "model" if element.known("model", ("virtio",)) else "type")
    target.ignore("dev", "tray")
    drive.ignore(*_DRIVE)
    file = source.get("file") or source.get("dev") or source.get("name") or "?"
    for host in ("source", "backingStore", "mirror"):
        for one in element.of(host):
            one.ignore()
    if cd:
        element.has("readonly")
    yield "drive", (f"file={file.replace(',', ',,') if element.has('source') else ''},if=none,"
                    f"id={id_},format={drive.get('type', 'raw')}")
    device = {"sata": "ide-cd" if cd else "ide-hd", "ide": "ide-cd" if cd else "ide-hd",
              "scsi": "scsi-cd" if cd else "scsi-hd", "usb": "usb-storage", "nvme": "nvme"}.get(
                  bus, "")
    address = element.one("address")
    placed = bool(address.known("type", ("drive",)))
    place = {key: address.number(key) for key in ("controller", "bus", "target", "unit")
             if placed and key in address}
    if bus == "virtio":
        device = _virtio(element, "virtio-blk-pci") + _address(element) + _said(
            drive, {"queues": "num-queues", "queue_size": "queue-size"}) + _said(
            drive, {"event_idx": "event_idx", "ioeventfd": "ioeventfd"}, switch=True)
    elif bus == "sata":
        device += f",bus=ide.{place.get('unit', number)}"
    elif bus == "ide":
        device += f",bus=ide.{place.get('bus', 0)},unit={place.get('unit', 0)}"
    elif bus == "scsi" and placed:
        on = place.get("controller", 0)
        virtio = element.above is not None and on in element.above.virtio_scsi
        device += f",bus=scsi{on}.0," + (
            f"channel={place.get('bus', 0)},scsi-id={place.get('target', 0)},"
            f"lun={place.get('unit', 0)}" if virtio else f"scsi-id={place.get('unit', 0)}")
    elif bus in ("usb", "nvme"):
        device += _address(element)
    device += _said(element.one("blockio"), {"logical_block_size": "logical_block_size",
                                            "physical_block_size": "physical_block_size"})
    serial = element.one("serial").text()
    if serial or bus == "nvme":
        device += f",serial={(serial or 'nvme0').replace(',', ',,')}"
    yield "device", f"{device},drive={id_},id={bus}-disk{number}{_order(element)}"


def _controller(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    kind = element.get("type")
    index = element.number("index")
    if kind == "pci":
        yield from _bridge(element, index)
    elif kind == "usb" and (model := element.known("model", _USB)):
        first = f",id=usb{index or ''}"
        if element.has("master"):
            first = f",masterbus=usb.0,firstport={element.one('master').number('startport')}"
        ports = f",p2={element.number('ports')},p3={element.number('ports')}" if (
            "ports" in element and model.endswith("xhci")) else ""
        yield "device", f"{_USB[model]}{first}{ports}{_address(element)}"
    elif kind == "scsi":
        model = element.known("model", _SCSI)
        device = _SCSI.get(model, "lsi")
        more = ""
        if device.startswith("virtio") and element.above is not None:
            element.above.virtio_scsi.add(index)
            driver = element.one("driver")
            more = _virtio(element, "") + _said(driver, {
                "queues": "num_queues", "cmd_per_lun": "cmd_per_lun",
                "max_sectors": "max_sectors", "virtqueue_size": "virtqueue_size"})
            more = re.sub(r"^-[a-z-]+", "", more)  # which is in the table
        yield "device", f"{device},id=scsi{index}{more}{_address(element)}"
    elif kind == "virtio-serial":
        device = _virtio(element, "virtio-serial-pci")
        yield "device", (f"{device},id=virtio-serial{index}"
                         + _said(element, {"ports": "max_ports", "vectors": "vectors"})
                         + _address(element))
    elif kind in ("sata", "ide", "fdc") and not index:
        element.ignore("model").one("address").ignore()  # the board's own
    else:
        element.refuse()


def _bridge(element: _Node, index: int) -> Iterator[tuple[str, str]]:
    bridges = {"pcie-root-port": "pcie-root-port", "pcie-to-pci-bridge": "pcie-pci-bridge",
               "pci-bridge": "pci-bridge", "dmi-to-pci-bridge": "i82801b11-bridge"}
    names = {"pcie-root-port": ("pcie-root-port", "ioh3420"), "pci-bridge": ("pci-bridge",),
             "pcie-to-pci-bridge": ("pcie-pci-bridge",),
             "dmi-to-pci-bridge": ("i82801b11-bridge",)}
    if element.known("model", ("pci-root", "pcie-root")):
        return
    model = element.known("model", bridges)
    if not model:
        element.refuse()
        return
    target = element.one("target")
    device = element.one("model").known("name", names[model], bridges[model])
    extra = ""
    if model == "pcie-root-port":
        extra = (f",chassis={target.number('chassis', str(index))}"
                 f",port={target.number('port', str(index)):#x}"
                 + _said(target, {"hotplug": "hotplug"}, switch=True))
    elif model == "pci-bridge":
        extra = f",chassis_nr={target.number('chassisNr', str(index))}"
    yield "device", f"{device},id=pci.{index}{extra}{_address(element)}"


def _interface(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    name = element.one("model").get("type", "rtl8139")
    mac = element.one("mac").get("address")
    for host in ("source", "target", "backend", "virtualport", "bandwidth", "portForward"):
        for one in element.of(host):  # its other end
            one.ignore()
    device = _NIC.get(name, name)
    yield "netdev", f"{element.get('type', 'user')},id=hostnet{number}"
    more = f",mac={mac}" if mac else ""
    if device.startswith("virtio"):
        driver = element.one("driver").ignore("name")
        if "queues" in driver and (queues := driver.number("queues")) > 1:
            more += f",mq=on,vectors={2 * queues + 2}"
        more += _virtio(element, "") + _said(driver, {
            "rx_queue_size": "rx_queue_size", "tx_queue_size": "tx_queue_size"}) + _said(
            driver, {"event_idx": "event_idx", "ioeventfd": "ioeventfd"}, switch=True)
        more += _said(element.one("mtu"), {"size": "host_mtu"})
    rom = element.one("rom")
    more += {"on": ",rombar=1", "off": ",rombar=0"}.get(rom.switch("bar"), "")
    if "file" in rom or rom.switch("enabled") == "off":
        more += f",romfile={rom.get('file').replace(',', ',,')}"
    yield "device", (f"{device},netdev=hostnet{number},id=net{number}{more}{_address(element)}"
                     + _order(element))


def _character(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    target, id_, tag = element.one("target"), f"char{element.tag}{number}", element.tag
    kind = element.get("type", "pty")
    element.ignore("tty")
    for host in ("source", "protocol", "log", "alias"):  # its other end
        for one in element.of(host):
            one.ignore()
    backend = {"unix": "socket"}.get(kind, kind)
    where = target.get("type")
    address = element.one("address")
    port = ""
    if address.known("type", ("virtio-serial",)):
        address.known("bus", ("0",))
        port = f",bus=virtio-serial{address.number('controller')}.0"
        port += f",nr={address.number('port')}" if "port" in address else ""
    if tag == "console":  # the serial port, or virtio's
        target.ignore("port")
        if where == "virtio":
            yield "chardev", f"{backend},id={id_}"
            yield "device", f"virtconsole,chardev={id_},id=console{number}{port}"
    elif tag == "serial":
        index = target.number("port", str(number))
        model = target.one("model").get("name")
        yield "chardev", f"{backend},id={id_}"
        if where == "system-serial":  # the board has it
            yield "serial", f"chardev:{id_}"
        elif where in ("", "isa-serial") and model in ("", "isa-serial"):
            yield "device", f"isa-serial,chardev={id_},id=serial{number},index={index}"
        else:
            element.refuse()
    elif tag == "parallel":
        target.ignore("port")
        yield "chardev", f"{backend},id={id_}"
        yield "device", f"isa-parallel,chardev={id_},id=parallel{number}"
    elif where == "virtio":
        name = target.ignore("state").get("name")
        yield "chardev", f"{backend},id={id_}"
        yield "device", f"virtserialport,chardev={id_},id=channel{number}{port},name={name}"
    else:
        element.refuse()


def _input(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    kind, bus = element.get("type"), element.get("bus", "usb")
    names = {"usb": {"tablet": "usb-tablet", "mouse": "usb-mouse", "keyboard": "usb-kbd"},
             "virtio": {"tablet": "virtio-tablet-pci", "mouse": "virtio-mouse-pci",
                        "keyboard": "virtio-keyboard-pci"}}
    device = names.get(bus, {}).get(kind)
    if bus == "ps2":
        return  # the board's own
    if device is None:
        element.refuse()
        return
    device = _virtio(element, device) if bus == "virtio" else device
    yield "device", f"{device},id=input{number}{_address(element)}"


def _video(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    model = element.one("model")
    name = model.get("type", "vga")
    if name == "none":
        return
    device = _VIDEO.get(name, name)
    more = ""
    if name in ("vga", "vmvga", "qxl"):
        key = "vgamem" if name == "qxl" else "vram"
        more += f",vgamem_mb={model.number(key) >> 10}" if key in model else ""
    if name == "qxl":
        more += "".join(f",{there}={model.number(attribute) << 10}" for attribute, there in (
            ("ram", "ram_size"), ("vram", "vram_size")) if attribute in model)
        more += f",vram64_size_mb={model.number('vram64') >> 10}" if "vram64" in model else ""
    if name in ("qxl", "virtio"):
        more += _said(model, {"heads": "max_outputs"})
    else:
        model.known("heads", ("1",))
    model.known("primary", ("yes",))
    yield "device", f"{device},id=video{number}{more}{_address(element)}"


def _sound(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    device, codec = _SOUND.get(element.get("model"), ("", ""))
    if not device:
        element.refuse()
        return
    element.one("audio").ignore()
    yield "audiodev", f"none,id=audio{number}"
    audio = f",audiodev=audio{number}"
    yield "device", f"{device},id=sound{number}{_address(element)}" + ("" if codec else audio)
    if codec:
        yield "device", f"{codec},id=sound{number}-codec0,bus=sound{number}.0,cad=0{audio}"


def _balloon(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    if element.known("model", ("none", "virtio")) != "none":
        yield "device", (_virtio(element, "virtio-balloon-pci") + f",id=balloon{number}"
                         + _said(element, {"autodeflate": "deflate-on-oom",
                                           "freePageReporting": "free-page-reporting"},
                                 switch=True) + _address(element))


def _rng(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    element.known("model", ("virtio",))
    backend = element.one("backend")
    if backend.known("model", ("random", "builtin"), "random") == "builtin":
        yield "object", f"rng-builtin,id=objrng{number}"
    else:
        file = (backend.text() or "/dev/urandom").replace(",", ",,")
        yield "object", f"rng-random,id=objrng{number},filename={file}"
    rate = element.one("rate")
    more = f",max-bytes={rate.number('bytes')},period={rate.number('period', '1000')}" if (
        "bytes" in rate) else ""
    yield "device", (_virtio(element, "virtio-rng-pci") + f",rng=objrng{number},id=rng{number}"
                     f"{more}{_address(element)}")


def _watchdog(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    model = element.get("model")
    actions = {"reset": "reset", "shutdown": "shutdown", "poweroff": "poweroff", "pause": "pause",
               "none": "none", "dump": "pause", "inject-nmi": "inject-nmi"}
    action = actions.get(element.known("action", actions), "reset")
    if model == "itco":  # q35's own
        yield "global", "ICH9-LPC.noreboot=off"
    else:
        yield "device", f"{model},id=watchdog{number}{_address(element)}"
    if action != "reset":
        yield "watchdog-action", action


def _host_device(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    device = "usb-host" if element.ignore().get("type") == "usb" else "vfio-pci"
    yield "device", f"{device},id=hostdev{number}"


def _tpm(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    yield "device", f"{element.ignore().get('model', 'tpm-tis')},tpmdev=tpm{number}"


def _panic(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    kinds = {"isa": "pvpanic", "pvpanic": "pvpanic-pci"}
    model = element.known("model", (*kinds, "hyperv"), "isa")
    if element.get("model", "isa") != model:
        element.refuse()
    elif model in kinds:  # Hyper-V's is a property of the CPU
        yield "device", f"{kinds[model]}{_address(element)}"


def _redirected(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    element.ignore()
    yield "device", f"usb-redir,id=redir{number}"


def _vsock(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    element.ignore()
    yield "device", f"vhost-vsock-pci,id=vsock{number}"


def _graphics(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    element.ignore()
    yield "vnc", element.listed()


def _audio(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    element.ignore()
    yield from ()  # each sound card has one of its own, that is not heard


def _filesystem(element: _Node, number: int) -> Iterator[tuple[str, str]]:
    element.ignore()
    yield "fsdev", element.listed()


_DEVICES = {
    "disk": _disk, "controller": _controller, "interface": _interface, "serial": _character,
    "parallel": _character, "console": _character, "channel": _character, "input": _input,
    "video": _video, "sound": _sound, "memballoon": _balloon, "rng": _rng, "watchdog": _watchdog,
    "hostdev": _host_device, "tpm": _tpm, "panic": _panic, "redirdev": _redirected,
    "vsock": _vsock, "graphics": _graphics, "audio": _audio, "filesystem": _filesystem,
}  # fmt: skip
