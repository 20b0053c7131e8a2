#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the user chose stays as he chose it; nothing of ours stays behind. TAP, root.

QEMU's monitor on both ends tells which capabilities and limits were in force.
"""

import os
import sys

from support.stage import LIBVIRTD_PID, OTHER, LabError, component, main
from support.witness import HYBRID, POST_COPY, PRE_COPY

GUEST, STORE = "web", "store"
MIB = 1 << 20
QEMU_REFUSES_BOTH = 8002000             # multifd with post-copy; the one before loses the VM
UNLIMITED = str((2**63 - 1) >> 20)      # MiB/s, libvirt's largest
DIRECT, P2P = ("--live",), ("--live", "--p2p")


def names(stage, host):
    return stage.host(host).virsh("list", "--all", "--name").stdout.split()


def inside(stage, host, pid, file):
    return stage.host(host).run("cat", f"/proc/{pid}/{file}").stdout.replace("\0", "\n")


def check_loading(stage, host):
    """Loaded into libvirtd by LD_PRELOAD, and not inherited by QEMU."""
    tap = stage.tap
    plugin = os.path.basename(component("virt-convoy-libvirtd.so"))
    pid = stage.host(host).service_pid(LIBVIRTD_PID)
    tap.ok(plugin in inside(stage, host, pid, "maps")
           and f"LD_PRELOAD={component(plugin)}" in inside(stage, host, pid, "environ"),
           f"libvirtd of {host} has the plugin by LD_PRELOAD")
    qemu = stage.host(host).run("cat", f"/run/libvirt/qemu/{GUEST}.pid").stdout.strip()
    environment, maps = (inside(stage, host, qemu, file) for file in ("environ", "maps"))
    tap.ok("LD_PRELOAD" not in environment and "virt-convoy" not in environment
           and "PATH=" in environment, f"QEMU on {host} does not inherit LD_PRELOAD", environment)
    tap.ok("virt-convoy" not in maps and "qemu-system" in maps,
           f"QEMU on {host} has no part of virt-convoy")


def done(stage, title, outcome, source, guest=GUEST, both_by_user=False):
    """What holds after every migration; returns where the guest is."""
    tap = stage.tap
    tap.note(f"{title}: {outcome.seconds:.1f} s, {outcome.technique}")
    good = tap.ok(outcome.returncode == 0, f"{title}: succeeds", outcome.describe())
    if not both_by_user:
        tap.ok(stage.never_both(outcome), f"{title}: multifd and post-copy never together",
               outcome.describe())
    where = OTHER[source] if good else stage.lab.guests.where(guest) or source
    stage.alive(guest, where, f"{title}: the guest goes on")
    stage.clean_xml(guest, where, f"{title}: nothing of ours is left in the XML")
    return where


def check_persistence(stage, source):
    tap = stage.tap
    stage.command(source, "set", GUEST, "--technique", "post-copy")
    for flags in (P2P, DIRECT):
        title = f"{flags[-1]} --persistent --undefinesource"
        with stage.migrating(GUEST, source, (*flags, "--persistent",
                                             "--undefinesource")) as running:
            if flags == P2P:
                try:
                    running.wait_for("the offer in the incoming XML", lambda: "live" in
                                     stage.transient_elements(GUEST, OTHER[source]))
                    seen = True
                except LabError as error:
                    seen = tap.note(error)
                tap.ok(seen, f"{title}: the offer is there while it runs")
        before, source = source, done(stage, title, running.outcome, source)
        tap.equal(running.outcome.technique, POST_COPY, f"{title}: in post-copy",
                  running.outcome.describe())
        tap.ok(GUEST not in names(stage, before), f"{title}: undefined on the source")
        information = stage.host(source).virsh("dominfo", GUEST).stdout
        tap.ok("Persistent:     yes" in information, f"{title}: persistent on the destination",
               information)
        xml = stage.host(source).virsh("dumpxml", GUEST, "--inactive").stdout
        tap.ok("urn:virt-convoy:domain:1" in xml, f"{title}: the user's metadata is kept")
    return source


def check_storage(stage):
    tap, source = stage.tap, "host-a"
    stage.lab.guests.start(STORE, memory=136, fill=0, working_set=0, disk=16)
    content = os.urandom(16 * MIB)
    path = f"/var/lib/libvirt/images/{STORE}.raw"
    stage.host(source).path(path).write_bytes(content)
    for flags in (DIRECT, P2P):
        title = f"{flags[-1]} --copy-storage-all"
        stage.host(OTHER[source]).path(path).write_bytes(bytes(16 * MIB))
        outcome = stage.migrate(STORE, source, (*flags, "--copy-storage-all"))
        source = done(stage, title, outcome, source, STORE)
        tap.ok(stage.host(source).path(path).read_bytes() == content,
               f"{title}: the disk arrived whole")
        # What the call was given by virt-convoy is not somebody else's choice.
        told = [entry["text"] for entry in stage.explain(OTHER[source], STORE).get("log", [])
                if entry["event"] == "limit-kept"]
        tap.equal(told, [], f"{title}: no limit of ours is taken for another's")
    stage.host(OTHER[source]).path(path).unlink()
    outcome = stage.migrate(STORE, source, (*DIRECT, "--copy-storage-all", "--bandwidth", "8"))
    tap.note(f"--copy-storage-all, no file at the destination: exit {outcome.returncode} "
             f"{outcome.stderr}")
    source = OTHER[source] if outcome.returncode == 0 else source
    stage.alive(STORE, source, "--copy-storage-all, no file at the destination: the guest goes on")
    stage.lab.guests.stop(STORE)


def capability(outcome, *names):
    """All at once: (at the source, at the destination)"""
    return outcome.source.ever_on(*names), outcome.destination.ever_on(*names)


def check_bandwidth(stage, source, flags, title):
    """--bandwidth stays, by what was set and by what QEMU answers in the middle."""
    tap, limit = stage.tap, 12 * MIB
    answers = []

    def sample():
        text = stage.host(source).virsh("qemu-monitor-command", GUEST,
                                        '{"execute":"query-migrate-parameters"}',
                                        check=False).stdout
        if '"max-bandwidth":' in text:
            answers.append(int(text.split('"max-bandwidth":')[1].split(",")[0]))
        return len(answers) >= 4
    with stage.migrating(GUEST, source, (*flags, "--bandwidth", "12")) as running:
        running.wait_active()
        running.wait_for("four answers of query-migrate-parameters", sample)
    where = done(stage, title, running.outcome, source)
    tap.equal(set(answers), {limit}, f"{title}: kept all the time, says QEMU")
    tap.equal(set(running.outcome.source.parameters.get("max-bandwidth", [])), {limit},
              f"{title}: nothing else was ever set")
    # Post-copy would otherwise send as fast as it can.
    tap.equal(running.outcome.technique, POST_COPY, f"{title}: in post-copy",
              running.outcome.describe())
    tap.ok(0 < max(running.outcome.source.parameters.get("max-postcopy-bandwidth", [0])) <= limit,
           f"{title}: post-copy is held to it too", running.outcome.source.parameters)
    return where


def check_standing_limit(stage, source):
    """`virsh migrate-setspeed` before the command counts as --bandwidth with it."""
    tap, limit = stage.tap, 12 * MIB
    for flags in (DIRECT, P2P):
        title = f"{flags[-1]} after migrate-setspeed"
        stage.host(source).virsh("migrate-setspeed", GUEST, "12")
        outcome = stage.migrate(GUEST, source, flags)
        source = done(stage, title, outcome, source)
        tap.equal(set(outcome.source.parameters.get("max-bandwidth", [])), {limit},
                  f"{title}: nothing else was ever set")
        # It stays with the definition that the guest left behind.
        left = stage.host(OTHER[source])
        if GUEST in names(stage, left.name):
            left.virsh("migrate-setspeed", GUEST, UNLIMITED)
    return source


def check_paused(stage, source):
    """A guest that its user has paused arrives as it was, though post-copy would be chosen."""
    tap = stage.tap
    stage.command(source, "set", GUEST, "--technique", "post-copy")
    for flags in (DIRECT, P2P):
        title = f"{flags[-1]}, a paused guest"
        stage.host(source).virsh("suspend", GUEST)
        outcome = stage.migrate(GUEST, source, flags)
        where = OTHER[source] if outcome.returncode == 0 else source
        state = stage.host(where).virsh("domstate", GUEST, check=False).stdout.strip()
        tap.equal(state, "paused", f"{title}: stays paused", outcome.describe())
        stage.host(where).virsh("resume", GUEST)
        source = done(stage, title, outcome, source)
        tap.equal(capability(outcome, "postcopy-ram"), (False, False), f"{title}: no post-copy",
                  outcome.describe())
    return source


def check_post_copy_by_user(stage, source):
    tap = stage.tap
    stage.command(source, "set", GUEST, "--technique", "pre-copy")
    title = "--postcopy against the metadata"
    outcome = stage.migrate(GUEST, source, (*DIRECT, "--postcopy"))
    source = done(stage, title, outcome, source)
    tap.equal(capability(outcome, "postcopy-ram"), (True, True), f"{title}: kept at both ends",
              outcome.describe())
    for flags in (DIRECT, P2P):
        title = f"{flags[-1]} --postcopy --postcopy-after-precopy --postcopy-bandwidth"
        # Held to what it dirties, so that pre-copy cannot end before virsh asks for post-copy.
        outcome = stage.migrate(GUEST, source, (*flags, "--postcopy", "--postcopy-after-precopy",
                                                "--bandwidth", "12", "--postcopy-bandwidth", "20"))
        source = done(stage, title, outcome, source)
        tap.equal(outcome.technique, HYBRID, f"{title}: when the user says, not before",
                  outcome.describe())
        tap.equal(set(outcome.source.parameters.get("max-postcopy-bandwidth", [])), {20 * MIB},
                  f"{title}: the limit is kept")
    return source


def check_parallel(stage, source):
    tap = stage.tap
    stage.command(source, "set", GUEST, "--technique", "none")
    for flags in (DIRECT, P2P):
        title = f"{flags[-1]} --parallel by the user"
        outcome = stage.migrate(GUEST, source, (*flags, "--parallel", "--parallel-connections",
                                                "3"))
        source = done(stage, title, outcome, source)
        tap.equal(capability(outcome, "multifd"), (True, True), f"{title}: at both ends",
                  outcome.describe())
        # After its end libvirt puts QEMU's default back.
        tap.equal([end.parameters.get("multifd-channels", [None])[0]
                   for end in (outcome.source, outcome.destination)], [3, 3],
                  f"{title}: his number of connections")
        tap.equal(capability(outcome, "postcopy-ram"), (False, False), f"{title}: no post-copy",
                  outcome.describe())
    return source


def check_both(stage, source, mode=""):
    """The user's --postcopy and --parallel stay, but QEMU before 10.1 would lose the VM."""
    tap, version = stage.tap, stage.status(source)["qemu_version"]
    if version >= QEMU_REFUSES_BOTH:
        tap.skip("--postcopy --parallel by the user", f"QEMU {version} refuses both or can do both")
        return source
    stage.command(source, "set", GUEST, "--technique", "post-copy")
    for flags in (DIRECT, P2P):
        title = f"{mode}{flags[-1]} --postcopy --parallel by the user"
        outcome = stage.migrate(GUEST, source, (*flags, "--postcopy", "--parallel"))
        record = stage.explain(source, GUEST)
        source = done(stage, title, outcome, source, both_by_user=True)
        tap.equal(capability(outcome, "multifd", "postcopy-ram"), (True, True),
                  f"{title}: both kept", outcome.describe())
        tap.equal((outcome.technique, outcome.source.commands.count("migrate-start-postcopy")),
                  (PRE_COPY, 0), f"{title}: post-copy is not started", outcome.describe())
        tap.ok("with parallel connections it needs QEMU 10.1" in record.get("reason", ""),
               f"{title}: explain says why", record)
    return source


def check_hook_only(stage, source):
    """Nobody tells the daemon the flags: it finds them itself."""
    stage.set_modes("hook-only", "hook-only")
    stage.command(source, "set", GUEST, "--technique", "post-copy")
    for flags in (DIRECT, P2P):
        title = f"hook only, {flags[-1]} --postcopy by the user"
        outcome = stage.migrate(GUEST, source, (*flags, "--postcopy"))
        source = done(stage, title, outcome, source)
        stage.tap.equal(outcome.technique, POST_COPY, f"{title}: post-copy is started",
                        outcome.describe())
    return check_both(stage, source, "hook only, ")


def check_parallel_added(stage, source):
    """Where virt-convoy itself adds it. The daemons are configured for it."""
    tap = stage.tap
    stage.set_modes("full", "full", config={"policy": {"parallel-connections": "2"}})
    stage.command(source, "set", GUEST, "--technique", "pre-copy")
    for flags in (DIRECT, P2P):
        title = f"{flags[-1]}, parallel by virt-convoy"
        outcome = stage.migrate(GUEST, source, flags)
        source = done(stage, title, outcome, source)
        tap.equal(capability(outcome, "multifd"), (True, True), f"{title}: at both ends",
                  outcome.describe())
        tap.equal(capability(outcome, "postcopy-ram"), (False, False), f"{title}: no post-copy",
                  outcome.describe())
    stage.command(source, "set", GUEST, "--technique", "none")
    title = "parallel configured, --postcopy by the user"
    outcome = stage.migrate(GUEST, source, (*DIRECT, "--postcopy"))
    source = done(stage, title, outcome, source)
    tap.equal(capability(outcome, "postcopy-ram"), (True, True), f"{title}: post-copy kept",
              outcome.describe())
    return source


def check_one_end(stage, source):
    """The other end has no virt-convoy: the user's options go through."""
    tap = stage.tap
    equipped = source
    stage.set_modes(*("full" if host == equipped else "none" for host in ("host-a", "host-b")))
    for flags in (DIRECT, P2P):
        for _ in range(2):      # there and back
            end = "source" if source == equipped else "destination"
            title = f"{flags[-1]} --postcopy --bandwidth, virt-convoy on the {end} only"
            outcome = stage.migrate(GUEST, source, (*flags, "--persistent", "--undefinesource",
                                                    "--postcopy", "--bandwidth", "40"))
            came_from, source = source, done(stage, title, outcome, source)
            tap.equal(capability(outcome, "postcopy-ram"), (True, True), f"{title}: kept",
                      outcome.describe())
            tap.equal(set(outcome.source.parameters.get("max-bandwidth", [])), {40 * MIB},
                      f"{title}: the limit is kept")
            tap.ok(GUEST not in names(stage, came_from), f"{title}: undefined on its source")
    return source


def check(stage):
    stage.set_modes("full", "full")
    stage.lab.guests.start(GUEST, memory=160, fill=40, working_set=40, dirty_rate=15,
                           persistent=True)
    source = "host-a"
    check_loading(stage, source)
    source = check_persistence(stage, source)
    check_loading(stage, source)
    check_storage(stage)
    source = check_bandwidth(stage, source, DIRECT, "--bandwidth")
    check_loading(stage, source)
    source = check_bandwidth(stage, source, P2P, "--p2p --bandwidth")
    source = check_standing_limit(stage, source)
    source = check_paused(stage, source)
    source = check_post_copy_by_user(stage, source)
    source = check_parallel(stage, source)
    source = check_both(stage, source)
    source = check_parallel_added(stage, source)
    source = check_hook_only(stage, source)
    check_one_end(stage, source)


if __name__ == "__main__":
    sys.exit(main("options", check))
