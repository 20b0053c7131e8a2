# SPDX-License-Identifier: LGPL-2.1-or-later
"""What QEMU itself did in a migration, from its monitor on both ends.

libvirtd is configured to keep every message of the QEMU monitors (its own log
category, nothing of virt-convoy). So no status is missed between two polls,
and the destination is seen too, whose monitor libvirt lends to nobody while
the guest comes in.
"""

import dataclasses
import json
import re

QMP_LOG = "/var/log/libvirt/qmp.log"
MESSAGE = re.compile(
    r"^(?P<time>\S+ \S+): .*?QEMU_MONITOR_(?:(?P<send>SEND_MSG)|RECV_EVENT|RECV_REPLY): "
    r"mon=(?P<monitor>\S+) (?:msg|event|reply)=(?=\{)", re.MULTILINE)
PRE_COPY, POST_COPY, HYBRID = "pre-copy", "post-copy", "hybrid"


def record_monitors(host):
    """Makes libvirtd keep the monitors' messages from its next start on."""
    path = host.path("/etc/libvirt/libvirtd.conf")
    lines = [line for line in path.read_text(encoding="ascii").splitlines()
             if not line.startswith("log_")]
    lines += ['log_level = 3', 'log_filters = "2:qemu.qemu_monitor"',
              f'log_outputs = "3:file:/var/log/libvirt/libvirtd.log 2:file:{QMP_LOG}"']
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


@dataclasses.dataclass
class Account:
    """One end's monitor messages during one migration."""
    statuses: list          # of MIGRATION events, in order
    passes_before_post_copy: int
    passes: int
    capabilities: list      # every set of switched-on capabilities, in order
    parameters: dict        # name: values set by migrate-set-parameters, in order
    stopped_first: bool     # the vCPUs stopped before memory moved
    requests: int           # page faults served, by query-migrate
    iterations: int         # dirty-sync-count, by query-migrate
    commands: list

    def ever_on(self, *names):
        return any(set(names) <= on for on in self.capabilities)


def position(host):
    path = host.path(QMP_LOG)
    return path.stat().st_size if path.exists() else 0


def messages(host, begin):
    """(monitor, sent by libvirt, message) since the position BEGIN."""
    path = host.path(QMP_LOG)
    if not path.exists():
        return
    with open(path, "rb") as file:
        file.seek(begin)
        text = file.read().decode(errors="replace")
    decoder = json.JSONDecoder()
    for match in MESSAGE.finditer(text):
        try:
            message, _ = decoder.raw_decode(text, match.end())
        except ValueError:
            continue            # its end is not written yet
        yield match["monitor"], match["send"] is not None, message


def account(host, begin):
    result = Account([], 0, 0, [], {}, False, 0, 0, [])
    on = set()
    for _, sent, message in messages(host, begin):
        if sent:
            take_command(result, on, message)
        elif "event" in message:
            take_event(result, message)
        elif isinstance(message.get("return"), dict):
            ram = message["return"].get("ram") or {}
            result.requests = max(result.requests, ram.get("postcopy-requests", 0))
            result.iterations = max(result.iterations, ram.get("dirty-sync-count", 0))
    return result


def take_command(result, on, message):
    command = message.get("execute")
    arguments = message.get("arguments", {})
    result.commands.append(command)
    if command == "migrate-set-capabilities":
        for item in arguments["capabilities"]:
            (on.add if item["state"] else on.discard)(item["capability"])
        result.capabilities.append(frozenset(on))
    elif command == "migrate-set-parameters":
        for name, value in arguments.items():
            result.parameters.setdefault(name, []).append(value)


def take_event(result, message):
    data = message.get("data", {})
    if message["event"] == "MIGRATION":
        result.statuses.append(data["status"])
    elif message["event"] == "MIGRATION_PASS":
        result.passes += 1
        if "postcopy-active" not in result.statuses:
            result.passes_before_post_copy = result.passes
    elif message["event"] == "STOP" and "active" not in result.statuses:
        result.stopped_first = True


def technique(source):
    """What the source's QEMU did: pre-copy, post-copy or hybrid."""
    if "postcopy-active" not in source.statuses:
        return PRE_COPY
    return POST_COPY if source.passes_before_post_copy <= 1 else HYBRID


def describe(source, destination):
    return (f"source: {' '.join(source.statuses)}; passes {source.passes}, before post-copy "
            f"{source.passes_before_post_copy}; iterations {source.iterations}, requests "
            f"{source.requests}\ncapabilities: {list(map(sorted, source.capabilities))}\n"
            f"destination: {' '.join(destination.statuses)}; "
            f"{list(map(sorted, destination.capabilities))}")
