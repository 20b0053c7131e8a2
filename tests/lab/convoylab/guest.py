# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests: their domain XML, starting, waiting and stopping."""

import dataclasses
import hashlib
import re
from xml.sax.saxutils import escape, quoteattr

from . import image, network
from .util import LabError, locked, read_json, renice_argv, run, wait_until, write_json

ECHO_PORT = 7007
FIRST_ADDRESS, LAST_ADDRESS = 100, 254
KERNEL_MIB = 112            # what the kernel, the initramfs and the services need
DOMAIN_NAMESPACE = "urn:virt-convoy:domain:1"


@dataclasses.dataclass
class GuestOptions:
    """What a guest is made of; sizes in MiB, rates in MiB/s, SLA in Mbit/s."""
    memory: int = 256
    vcpus: int = 1
    dirty_rate: int = 0
    working_set: int = 32
    fill: int | None = None             # None: all that the services leave over
    disk: int = 0
    priority: str | None = None         # high, medium or low
    sla_lower: float | None = None
    sla_upper: float | None = None
    max_downtime: int | None = None     # ms
    persistent: bool = False
    metadata: str | None = None         # raw XML instead of the four above
    kernel_arguments: str = ""


def mac_address(name):
    digest = hashlib.sha256(name.encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def metadata_xml(options):
    if options.metadata is not None:
        return options.metadata
    inner = ""
    if options.priority:
        inner += f"<convoy:priority>{escape(options.priority)}</convoy:priority>"
    sla = ""
    limits = [("lower", options.sla_lower), ("upper", options.sla_upper)]
    attributes = "".join(f' {key}="{value:g}"' for key, value in limits if value is not None)
    if attributes:
        sla += f'<convoy:bandwidth{attributes} unit="Mbit/s"/>'
    if options.max_downtime is not None:
        sla += f'<convoy:downtime maximum="{options.max_downtime}" unit="ms"/>'
    if sla:
        inner += f"<convoy:sla>{sla}</convoy:sla>"
    if not inner:
        return ""
    return f'<convoy:domain xmlns:convoy="{DOMAIN_NAMESPACE}">{inner}</convoy:domain>'


def disk_path(name):
    return f"/var/lib/libvirt/images/{name}.raw"


def emulation_xml(options):
    """Memory that does not end on a multiple of 256 KiB, for guests without KVM.

    QEMU before 9.0 copies its dirty bitmap word by word where a RAM block allows
    it, and then forgets to tell TCG's TLB: later writes go unseen and the guest
    is corrupt after a migration (seen in 3 of 8). A block whose length is not a
    multiple of 64 pages is copied page by page, which is right. libvirt rounds
    memory to 1 MiB, hence the arguments.
    """
    size = options.memory * 1024 + 128
    arguments = ["-object", f"memory-backend-ram,id=lab.ram,size={size}k",
                 "-machine", "memory-backend=lab.ram", "-m", f"size={size}k"]
    lines = "".join(f"    <qemu:arg value={quoteattr(word)}/>\n" for word in arguments)
    return f"  <qemu:commandline>\n{lines}  </qemu:commandline>\n"


def domain_xml(record, options, accelerator):
    name = record["name"]
    fill = options.fill
    if fill is None:
        fill = max(options.memory - KERNEL_MIB, options.working_set, 0)
    # An emulated processor that gets no time sees no timer tick, and Linux panics at its test.
    command_line = (f"console=ttyS0 quiet panic=-1 mitigations=off no_timer_check"
                    f" vc.address={record['ip']}/{network.PREFIX4}"
                    f" vc.address6={record['ip6']}/{network.PREFIX6}"
                    f" vc.fill={fill} vc.working={options.working_set}"
                    f" vc.rate={options.dirty_rate} {options.kernel_arguments}").strip()
    metadata = metadata_xml(options)
    cpu = '<cpu mode="custom" match="exact" check="none"><model>qemu64</model></cpu>'
    disk = ""
    if options.disk:
        disk = (f"<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/>"
                f"<source file={quoteattr(disk_path(name))}/><target dev='vda' bus='virtio'/></disk>")
    return f"""\
<domain type='{accelerator}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{escape(name)}</name>
  {f"<metadata>{metadata}</metadata>" if metadata else ""}
  <memory unit='MiB'>{options.memory}</memory>
  <vcpu>{options.vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>
    <kernel>{escape(str(image.KERNEL))}</kernel>
    <initrd>{escape(str(image.INITRAMFS))}</initrd>
    <cmdline>{escape(command_line)}</cmdline>
  </os>
  <features><acpi/></features>
  {cpu}
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>{image.EMULATOR}</emulator>
    {disk}
    <controller type='usb' model='none'/>
    <interface type='bridge'>
      <mac address='{record["mac"]}'/>
      <source bridge='br0'/>
      <model type='virtio'/>
    </interface>
    <serial type='file'>
      <source path='/var/log/libvirt/qemu/{escape(name)}-console.log' append='on'/>
      <target port='0'/>
    </serial>
    <memballoon model='none'/>
  </devices>
{emulation_xml(options) if accelerator == "qemu" else ""}</domain>
"""


class Guests:
    """The guests of one lab. Names and addresses are kept on disk."""

    def __init__(self, lab):
        self.lab = lab
        self.registry = lab.directory / "guests.json"

    def records(self):
        return read_json(self.registry, {})

    def record(self, name):
        record = self.records().get(name)
        if record is None:
            raise LabError(f"lab {self.lab.name} has no guest '{name}'")
        return record

    def register(self, name):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}", name):
            raise LabError(f"'{name}' is not a guest name")
        with locked("guests"):
            records = self.records()
            if name not in records:
                used = {record["number"] for record in records.values()}
                free = [n for n in range(FIRST_ADDRESS, LAST_ADDRESS) if n not in used]
                if not free:
                    raise LabError("no address is left for another guest")
                records[name] = {"name": name, "number": free[0], "mac": mac_address(name),
                                 "ip": f"10.77.0.{free[0]}", "ip6": f"fd77::{free[0]}"}
                write_json(self.registry, records)
            return records[name]

    def start(self, name, host="host-a", wait=True, timeout=90, **options):
        """Start guest NAME and wait until its echo server answers."""
        options = GuestOptions(**options)
        image.ensure()
        record = self.register(name)
        xml = domain_xml(record, options, image.accelerator())
        if options.disk:
            for each in self.lab.hosts.values():
                path = each.path(disk_path(name))
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, "wb") as file:
                    file.truncate(options.disk << 20)
        where = self.lab.host(host)
        xml_path = where.path("/var/lib/libvirt") / f"{name}.xml"
        xml_path.write_text(xml, encoding="utf-8")
        inside = f"/var/lib/libvirt/{name}.xml"
        if options.persistent:
            where.virsh("define", inside)
            where.virsh("start", name)
        else:
            where.virsh("create", inside)
        if wait:
            self.wait_ready(name, timeout)
        return record

    def wait_ready(self, name, timeout=90):
        """Wait until the guest has filled its memory and answers."""
        try:
            wait_until(f"answer of guest {name}", lambda: self.ask(name), timeout=timeout)
        except LabError as error:
            raise LabError(f"{error}\n{self.console(name)[-2000:]}") from error

    def ask(self, name, wait_seconds=0.5):
        """{counter, uptime_ms, pages_dirtied} of a guest, None without an answer."""
        ip = self.record(name)["ip"]
        script = (f"import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
                  f"s.settimeout({wait_seconds})\ns.sendto(b'ask',('{ip}',{ECHO_PORT}))\n"
                  f"print(s.recv(256).decode())\n")
        answer = run(self.lab.client_argv("python3", "-S", "-c", script), check=False)
        words = answer.stdout.split()
        if answer.returncode != 0 or len(words) != 4:
            return None
        return {"counter": int(words[1]), "uptime_ms": int(words[2]),
                "pages_dirtied": int(words[3])}

    def console(self, name):
        text = ""
        for host in self.lab.hosts.values():
            path = host.path(f"/var/log/libvirt/qemu/{name}-console.log")
            if path.exists():
                text += path.read_text(errors="replace")
        return text

    def list(self):
        """[{name, host, state, ip, mac}] of every guest libvirt knows."""
        rows = []
        for host in self.lab.hosts.values():
            names = host.virsh("list", "--all", "--name").stdout.split()
            for name in names:
                state = host.virsh("domstate", name, check=False).stdout.strip()
                record = self.records().get(name, {})
                rows.append({"name": name, "host": host.name, "state": state,
                             "ip": record.get("ip"), "mac": record.get("mac")})
        return rows

    def where(self, name):
        """Name of the host on which the guest runs, None when on none."""
        for row in self.list():
            if row["name"] == name and row["state"] in ("running", "paused"):
                return row["host"]
        return None

    def renice(self, name, host, nice):
        """Scheduling priority of the guest's QEMU, as long as it stays on HOST."""
        pid = self.lab.host(host).run("cat", f"/run/libvirt/qemu/{name}.pid").stdout.strip()
        self.lab.host(host).run(*renice_argv(pid, nice))

    def stop(self, name):
        """Destroy guest NAME wherever it is, and forget its definition."""
        found = False
        for row in self.list():
            if row["name"] != name:
                continue
            found = True
            host = self.lab.host(row["host"])
            if row["state"] != "shut off":
                destroyed = host.virsh("destroy", name, check=False)
                # It may have ended by itself since it was listed.
                if destroyed.returncode != 0 and self.where(name) == row["host"]:
                    raise LabError(f"guest '{name}' on {row['host']}: {destroyed.stderr.strip()}")
            # A transient domain is gone with its process.
            host.virsh("undefine", name, check=False)
        if not found:
            raise LabError(f"no host of lab {self.lab.name} has a guest '{name}'")
