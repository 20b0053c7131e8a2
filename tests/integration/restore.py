#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""After a migration, however it ends, both hosts' networks are as before. TAP, root.

Everything that ip and tc print of every device but the guests' taps is compared
byte for byte. Each case first sees the network changed in the middle: a test
that compares what never changed would prove nothing.
"""

import sys

from support.stage import OTHER, LabError, main, wait_until

GUEST = "web"
SIGKILL = 9
SLOWLY = ("--bandwidth", "8")   # MiB/s: a quarter of a minute
# Pre-copy alone, so that an end in the middle leaves the guest on the source.
METADATA = ('<convoy:domain xmlns:convoy="urn:virt-convoy:domain:1">'
            '<convoy:technique allow="{}"/></convoy:domain>')
FOREIGN = ("<domain type='qemu'><name>web</name><memory unit='MiB'>32</memory>"
           "<os><type arch='x86_64'>hvm</type></os></domain>")


def shaped(stage, host, before):
    return stage.network(host) != before[host]


def middle(stage, running, before, title):
    """Memory moves, and both hosts' networks are changed for it."""
    running.wait_active()
    try:
        running.wait_for("shaping on both hosts", lambda: all(
            shaped(stage, host, before) for host in before))
        done = True
    except LabError as error:
        stage.tap.note(error)
        done = False
    stage.tap.ok(done, f"{title}: both hosts are shaped in the middle")


def case(stage, before, title, source, act, flags=("--live",), succeeds=False):
    """ACT(running) happens in the middle; returns where the guest is then."""
    if act:                     # however long a busy machine takes to come to it
        flags = (*flags, *SLOWLY)
    with stage.migrating(GUEST, source, flags) as running:
        middle(stage, running, before, title)
        if act:
            act(running)
    outcome = running.outcome
    stage.tap.note(f"{title}: {outcome.seconds:.1f} s, exit {outcome.returncode}, "
                   f"{outcome.technique}")
    stage.tap.equal(outcome.returncode == 0, succeeds,
                    f"{title}: the migration {'succeeds' if succeeds else 'ends early'}",
                    outcome.describe())
    where = stage.lab.guests.where(GUEST)
    stage.alive(GUEST, OTHER[source] if succeeds else source, f"{title}: the guest goes on")
    return where or source


def ends_of_every_kind(stage, before):
    tap, source = stage.tap, "host-a"
    for title, flags in (("direct", ("--live",)), ("p2p", ("--live", "--p2p")),
                         ("tunnelled", ("--live", "--p2p", "--tunnelled"))):
        source = case(stage, before, title, source, None, flags, succeeds=True)
        stage.restored(before, f"{title}: as before after success")
    for title, flags in (("direct", ("--live",)), ("p2p", ("--live", "--p2p"))):
        title = f"{title}, aborted"
        source = case(stage, before, title, source,
                      lambda running: stage.host(running.source).virsh("domjobabort", GUEST),
                      flags)
        stage.restored(before, f"{title}: as before")
    for title, flags in (("direct", ("--live",)), ("p2p", ("--live", "--p2p"))):
        title = f"{title}, the incoming QEMU dies"

        def kill_incoming(running):
            host = stage.host(OTHER[running.source])
            host.run("kill", f"-{SIGKILL}",
                     host.run("cat", f"/run/libvirt/qemu/{GUEST}.pid").stdout.strip())
        source = case(stage, before, title, source, kill_incoming, flags)
        stage.restored(before, f"{title}: as before")

    other = stage.host(OTHER[source])
    path = other.path("/var/lib/libvirt") / "foreign.xml"
    path.write_text(FOREIGN, encoding="ascii")
    other.virsh("define", "/var/lib/libvirt/foreign.xml")
    outcome = stage.migrate(GUEST, source)
    tap.ok(outcome.returncode != 0 and "already" in outcome.stderr,
           "refused by Prepare: the migration fails as without virt-convoy", outcome.describe())
    other.virsh("undefine", GUEST)
    stage.restored(before, "refused by Prepare: as before")
    stage.alive(GUEST, source, "refused by Prepare: the guest goes on")
    return source


def daemons_killed(stage, before, source):
    tap = stage.tap

    def kill_and_start(running):
        stage.host(running.source).daemon_stop(SIGKILL)
        stage.host(running.source).daemon_start()
    source = case(stage, before, "source's daemon killed and started in the middle", source,
                  kill_and_start, succeeds=True)
    stage.restored(before, "source's daemon killed and started in the middle: as before")

    title = "destination's daemon killed in the middle"
    killed = OTHER[source]
    source = case(stage, before, title, source,
                  lambda running: stage.host(killed).daemon_stop(SIGKILL),
                  ("--live", "--p2p"), succeeds=True)
    tap.ok(shaped(stage, killed, before), f"{title}: nobody has restored it yet")
    stage.host(killed).daemon_start()
    stage.restored(before, f"{title}: as before once it is started again")

    title = "both daemons killed in the middle"

    def kill_both(_running):
        for host in before:
            stage.host(host).daemon_stop(SIGKILL)
    source = case(stage, before, title, source, kill_both, succeeds=True)
    tap.ok(all(shaped(stage, host, before) for host in before),
           f"{title}: nobody has restored it yet")
    for host in before:
        stage.command(host, "restore")
    stage.restored(before, f"{title}: as before after virt-convoy restore")
    for host in before:
        stage.host(host).daemon_start()

    title = "post-copy, both daemons killed in the middle of it"
    for host in before:
        stage.wait_status(host, "libvirt", lambda status: status["libvirt_connected"])
    stage.command(source, "set", GUEST, "--technique", "post-copy")
    with stage.migrating(GUEST, source, ("--live", "--p2p")) as running:
        running.wait_for("post-copy", lambda: "postcopy-active" in running.account().statuses)
        kill_both(running)
    tap.equal((running.outcome.returncode, running.outcome.technique), (0, "post-copy"),
              f"{title}: the migration succeeds", running.outcome.describe())
    stage.alive(GUEST, OTHER[source], f"{title}: the guest goes on")
    for host in before:
        stage.host(host).daemon_start()
    stage.restored(before, f"{title}: as before once they are started again")
    stage.clean_xml(GUEST, OTHER[source], f"{title}: nothing of ours is left in the XML")
    return OTHER[source]


def check(stage):
    stage.set_modes("full", "full")
    stage.lab.guests.start(GUEST, memory=144, fill=24, working_set=8, dirty_rate=1,
                           metadata=METADATA.format("pre-copy"))
    before = stage.networks()
    source = ends_of_every_kind(stage, before)
    source = daemons_killed(stage, before, source)

    stage.set_modes("hook-only", "hook-only")
    stage.command(source, "set", GUEST, "--technique", "pre-copy")
    source = case(stage, before, "hook-only", source, None, succeeds=True)
    stage.restored(before, "hook-only: as before after success")
    source = case(stage, before, "hook-only, aborted", source,
                  lambda running: stage.host(running.source).virsh("domjobabort", GUEST))
    stage.restored(before, "hook-only, aborted: as before")

    # What a daemon that stops in good order takes off.
    with stage.migrating(GUEST, source, ("--live", *SLOWLY)) as running:
        middle(stage, running, before, "daemons stopped in the middle")
        for host in before:
            stage.host(host).daemon_stop()
        wait_until("an end", lambda: not any(shaped(stage, host, before) for host in before),
                   timeout=5)
    stage.restored(before, "daemons stopped in the middle: as before")


if __name__ == "__main__":
    sys.exit(main("restore", check, rate=200))
