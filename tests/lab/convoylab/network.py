# SPDX-License-Identifier: LGPL-2.1-or-later
"""Namespaces, links and the switch that emulates the link rate.

    host-a [eth0 - br0]---sw-a \\
    host-b [eth0 - br0]---sw-b  +-- switch [br0]
    client [eth0      ]---sw-c /

Down to a host, the switch port's tbf limits. Up from a host, the port's ingress
redirects to an ifb whose tbf limits. Two u32 filters in front of the catch-all
redirect the migration ports to the same ifb: their mirred actions count the
migration's bytes, which needs no other action or iptables in the kernel.
"""

import json
import os
import pathlib
import signal
import subprocess

from .util import LabError, STATE, locked, run, wait_until

# name: (switch port letter, IPv4, IPv6)
NODES = {
    "host-a": ("a", "10.77.0.1", "fd77::1"),
    "host-b": ("b", "10.77.0.2", "fd77::2"),
    "client": ("c", "10.77.0.3", "fd77::3"),
}
NAMESPACES = ("host-a", "host-b", "client", "switch")
PREFIX4, PREFIX6 = 24, 64
BRIDGE_MAC = "02:00:0a:4d:00:0"             # and the port's letter
MIGRATION_PORT, MIGRATION_PORT_MASK = 49152, 0xffc0
FRAME_BYTES, HEADER_BYTES = 1514, 66        # Ethernet; with IPv4 and TCP timestamps
ALLOWED = pathlib.Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
ALLOWED_SAVED = STATE / "tcp_allowed_congestion_control"


def namespace(lab, node):
    return f"{lab}-{node}"


def namespace_exists(name):
    return os.path.exists(f"/run/netns/{name}")


def in_namespace(name, *argv):
    """Argument vector that runs ARGV in the network namespace NAME."""
    return ["nsenter", f"--net=/run/netns/{name}", "--", *map(str, argv)]


def batch(name, tool, lines):
    """Feed LINES to `ip -batch -` or `tc -batch -` inside namespace NAME."""
    run(in_namespace(name, tool, "-batch", "-"), text_input="\n".join(lines) + "\n")


def tbf(rate_mbit):
    """A switch port's queue: 64 KiB burst and 10 ms, at least 64 KiB, of buffer."""
    limit = max(int(rate_mbit * 1e6 / 8 * 0.010), 65536) + 65536
    return f"tbf rate {rate_mbit}mbit burst 65536 limit {limit}"


def create(lab, rate_mbit, client_rate_mbit):
    for node in NAMESPACES:
        run(["ip", "netns", "add", namespace(lab, node)])
    allow_cubic()
    for node in NAMESPACES:
        name = namespace(lab, node)
        run(in_namespace(name, "sysctl", "-q", "-w",
                         "net.ipv4.tcp_congestion_control=cubic",
                         # What goes back to a client must not count as a migration.
                         f"net.ipv4.ip_local_port_range=32768 {MIGRATION_PORT - 1}",
                         "net.ipv6.conf.default.accept_dad=0",
                         "net.ipv6.conf.all.accept_dad=0"))
        run(in_namespace(name, "ip", "link", "set", "lo", "up"))
    switch = namespace(lab, "switch")
    batch(switch, "ip", ["link add br0 type bridge stp_state 0 forward_delay 0",
                         "link set br0 up"])
    for node, (letter, ip4, ip6) in NODES.items():
        create_port(lab, node, letter,
                    client_rate_mbit if node == "client" else rate_mbit)
        device = "eth0"
        if node != "client":
            device = "br0"
            # A bridge without an address of its own takes the lowest of its ports'. A guest's
            # tap has the same on both hosts, and a host sends nothing to its own address.
            batch(namespace(lab, node), "ip",
                  [f"link add br0 address {BRIDGE_MAC}{letter} type bridge stp_state 0"
                   " forward_delay 0",
                   "link set eth0 master br0"])
        batch(namespace(lab, node), "ip",
              [f"link set {device} up", "link set eth0 up",
               f"address add {ip4}/{PREFIX4} dev {device}",
               f"address add {ip6}/{PREFIX6} dev {device}"])


def create_port(lab, node, letter, rate_mbit):
    switch, port, ifb = namespace(lab, "switch"), f"sw-{letter}", f"ifb-{letter}"
    batch(switch, "ip", [
        f"link add {port} type veth peer name eth0 netns {namespace(lab, node)}",
        f"link add {ifb} type ifb",
        f"link set {port} master br0 up",
        f"link set {ifb} up"])
    redirect = f"action mirred egress redirect index {{}} dev {ifb}"
    base = 100 * (ord(letter) - ord("a") + 1)
    ports = f"{MIGRATION_PORT} {MIGRATION_PORT_MASK:#x}"
    batch(switch, "tc", [
        f"qdisc add dev {port} root {tbf(rate_mbit)}",
        f"qdisc add dev {ifb} root {tbf(rate_mbit)}",
        f"qdisc add dev {port} ingress",
        f"filter add dev {port} parent ffff: protocol ip prio 10 u32 match ip protocol 6 0xff"
        f" match ip dport {ports} {redirect.format(base + 1)}",
        f"filter add dev {port} parent ffff: protocol ipv6 prio 11 u32 match ip6 protocol 6 0xff"
        f" match ip6 dport {ports} {redirect.format(base + 2)}",
        f"filter add dev {port} parent ffff: protocol all prio 20 u32 match u32 0 0"
        f" {redirect.format(base + 9)}"])


def set_rate(lab, node, rate_mbit):
    """Change the emulated rate of one node's link, both directions."""
    letter = NODES[node][0]
    batch(namespace(lab, "switch"), "tc",
          [f"qdisc change dev {device}-{letter} root {tbf(rate_mbit)}"
           for device in ("sw", "ifb")])


def switch_bytes(lab):
    """What the switch counted so far: ({device: bytes}, {node: bytes to migration ports}).

    The first are what each tbf let pass, as on a wire: the devices' own counters leave out
    headers of segments cut later. The second are by sending node. Both are read by one
    command, so that a difference of the two is one of the same moment.
    """
    text = run(in_namespace(namespace(lab, "switch"), "tc", "-s", "-j", "-batch", "-"),
               text_input="qdisc show\nactions list action mirred\n").stdout
    qdiscs, actions = json_documents(text)
    return ({qdisc["dev"]: qdisc["bytes"] for qdisc in qdiscs if qdisc["kind"] == "tbf"},
            migration_bytes(actions))


def json_documents(text):
    """The values in TEXT, one after the other."""
    decoder, documents, text = json.JSONDecoder(), [], text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        documents.append(value)
        text = text[end:].lstrip()
    return documents


def migration_bytes(blocks):
    """Bytes sent to migration ports, as on a wire, by sending node.

    The action sees segments that are not yet cut to packets: it counts the packets,
    but the headers of each lump only once.
    """
    totals = {node: 0 for node in NODES}
    for block in blocks:
        for action in block.get("actions", []):
            index, count = action["index"], action["stats"]
            for node, (letter, _, _) in NODES.items():
                base = 100 * (ord(letter) - ord("a") + 1)
                if index in (base + 1, base + 2):
                    totals[node] += max(count["bytes"],
                                        min(count["bytes"] + HEADER_BYTES * count["packets"],
                                            FRAME_BYTES * count["packets"]))
    return totals


def cut_bytes(seen, packets):
    """SEEN bytes of TCP in PACKETS not yet cut to frames, as a wire carries them.

    Acknowledgements among them count as what was cut: rather less than too much.
    """
    frames = (seen - HEADER_BYTES * packets) // (FRAME_BYTES - HEADER_BYTES)
    return seen + HEADER_BYTES * max(frames - packets, 0)


def device_bytes(pid):
    """{device: (received bytes, sent bytes)} in the namespace of process PID, as on a wire."""
    counters = {}
    text = pathlib.Path(f"/proc/{pid}/net/dev").read_text(encoding="ascii")
    for line in text.splitlines()[2:]:
        name, values = line.split(":", 1)
        fields = values.split()
        counters[name.strip()] = tuple(cut_bytes(int(fields[first]), int(fields[first + 1]))
                                       for first in (0, 8))
    return counters


def snapshot(name, taps=False):
    """What tc and ip configured in namespace NAME, as stable text.

    No statistics, addresses or timers. VM taps (vnetN) are left out unless TAPS.
    """
    links = json.loads(run(in_namespace(name, "ip", "-j", "-d", "link")).stdout)
    lines = []
    for link in sorted(links, key=lambda item: item["ifname"]):
        device = link["ifname"]
        if device.startswith("vnet") and not taps:
            continue
        info = link.get("linkinfo", {})
        lines.append(f"link {device} mtu {link['mtu']} kind {info.get('info_kind')} "
                     f"master {link.get('master')} qdisc {link.get('qdisc')} "
                     f"state {link.get('operstate')} txqlen {link.get('txqlen')} "
                     f"flags {','.join(sorted(link['flags']))}")
        for what in (["qdisc"], ["class"], ["filter"], ["filter", "ingress"]):
            argv = ["tc", what[0], "show", "dev", device, *what[1:]]
            # Devices without an ingress qdisc answer "filter ... ingress" with an error.
            answer = run(in_namespace(name, *argv), check=len(what) == 1)
            lines += [f"{device}: {line.rstrip()}" for line in answer.stdout.splitlines()]
    return "\n".join(lines) + "\n"


def hold(lab, node):
    """Keep a process in the namespace, so that its counters are readable."""
    with subprocess.Popen(in_namespace(namespace(lab, node), "setsid", "-f", "sleep", "infinity"),
                          cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as starter:
        starter.wait()
    return wait_until(f"process in {node}", lambda: pids(namespace(lab, node)))[0]


def pids(name):
    return [int(word) for word in run(["ip", "netns", "pids", name]).stdout.split()]


def destroy(lab):
    """Kill what runs in the lab's namespaces and delete them. May be repeated."""
    names = [namespace(lab, node) for node in NAMESPACES
             if namespace_exists(namespace(lab, node))]
    for name in names:
        def emptied(name=name):
            left = pids(name)
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            return not left
        wait_until(f"end of the processes in {name}", emptied, timeout=20)
    for name in names:
        run(["ip", "netns", "delete", name])


def allow_cubic():
    """Namespaces may use only what the first one allows everybody."""
    with locked("congestion"):
        allowed = ALLOWED.read_text(encoding="ascii").split()
        if "cubic" in allowed:
            return
        available = pathlib.Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
        if "cubic" not in available.read_text(encoding="ascii").split():
            raise LabError("this kernel has no cubic congestion control")
        ALLOWED_SAVED.write_text(" ".join(allowed) + "\n", encoding="ascii")
        ALLOWED.write_text(" ".join(allowed + ["cubic"]) + "\n", encoding="ascii")


def restore_congestion_control(other_labs):
    """Put the allowed list back once no lab is left."""
    with locked("congestion"):
        if ALLOWED_SAVED.exists() and not other_labs():
            ALLOWED.write_text(ALLOWED_SAVED.read_text(encoding="ascii"), encoding="ascii")
            ALLOWED_SAVED.unlink()
