#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every kind of migration with virt-convoy on both ends, one, none. TAP, root.

The guest's metadata allows post-copy alone, so the table below says exactly
when it must be used: wherever both ends can agree on it, and nowhere else.
QEMU's monitor, not virt-convoy, tells what happened.
"""

import json
import sys

from support.stage import OTHER, main, old_api_python
from support.witness import POST_COPY, PRE_COPY

GUEST = "web"
METADATA = ('<convoy:domain xmlns:convoy="urn:virt-convoy:domain:1">'
            '<convoy:technique allow="post-copy"/></convoy:domain>')
# kind: flags of virsh migrate; None: the API of before typed parameters
KINDS = {
    "direct": ("--live",),
    "p2p": ("--live", "--p2p"),
    "tunnelled": ("--live", "--p2p", "--tunnelled"),
    "old API": None,
    "non-live": (),
}
BOTH, SOURCE, DESTINATION = "on both ends", "on the source only", "on the destination only"
POST_COPY_IN = {(BOTH, "direct"), (BOTH, "p2p"), (BOTH, "old API"), (SOURCE, "p2p")}


def check_one(stage, setting, kind, source):
    tap, flags = stage.tap, KINDS[kind]
    title = f"{kind}, virt-convoy {setting}"
    if flags is None and old_api_python() is None:
        tap.skip(title, "no python3-libvirt")
        return source
    outcome = stage.migrate(GUEST, source, flags)
    tap.note(f"{title}: {outcome.seconds:.1f} s, {outcome.technique}, passes "
             f"{outcome.source.passes}, requests {outcome.source.requests}")
    if not tap.ok(outcome.returncode == 0, f"{title}: succeeds", outcome.describe()):
        source = stage.lab.guests.where(GUEST) or source
        stage.alive(GUEST, source, f"{title}: the guest goes on")
        return source
    wanted = POST_COPY if (setting, kind) in POST_COPY_IN else PRE_COPY
    tap.equal(outcome.technique, wanted, f"{title}: QEMU did {wanted}", outcome.describe())
    if wanted == POST_COPY:
        limits = outcome.source.parameters
        tap.ok(min(limits.get("max-bandwidth", [0])) > 0
               and min(limits.get("max-postcopy-bandwidth", [0])) > 0,
               f"{title}: both phases are limited", limits)
    tap.ok(stage.never_both(outcome), f"{title}: multifd and post-copy never together",
           outcome.describe())
    tap.equal(outcome.source.stopped_first, kind == "non-live",
              f"{title}: paused only if asked for", outcome.describe())
    stage.alive(GUEST, OTHER[source], f"{title}: the guest goes on")
    stage.clean_xml(GUEST, OTHER[source], f"{title}: nothing of ours is left in the XML")
    return OTHER[source]


# Settings of both hosts: what virt-convoy's own check says of daemon, plugin and hook.
CHECKED = {
    BOTH: ("ok", "ok", "ok"),
    "on neither end": ("failed", "note", "failed"),
    "in hook-only mode": ("ok", "note", "ok"),
    "with the daemons stopped": ("failed", "ok", "ok"),
}


def check_place(stage, setting):
    """The command that tells an operator whether everything is in place."""
    answer = stage.command("host-a", "check", "--json", check=False)
    found = {row["check"]: row["level"] for row in json.loads(answer.stdout)}
    stage.tap.equal(tuple(found.get(what) for what in ("daemon", "plugin", "hook")),
                    CHECKED[setting], f"virt-convoy check, virt-convoy {setting}", answer.stdout)
    stage.tap.equal(answer.returncode, int("failed" in found.values()),
                    f"virt-convoy check, virt-convoy {setting}: its exit status", answer.stdout)


def check(stage):
    stage.lab.guests.start(GUEST, memory=144, fill=24, working_set=8, dirty_rate=1,
                           metadata=METADATA)
    source = "host-a"
    for setting, mode, daemon in ((BOTH, "full", True), ("on neither end", "none", True),
                                  ("in hook-only mode", "hook-only", True),
                                  ("with the daemons stopped", "full", False)):
        stage.set_modes(mode, mode, daemon=daemon)
        check_place(stage, setting)
        for kind in KINDS:
            source = check_one(stage, setting, kind, source)
    modes = {source: "full", OTHER[source]: "none"}
    stage.set_modes(modes["host-a"], modes["host-b"])
    equipped = source
    for kind in KINDS:
        for _ in range(2):      # there and back
            setting = SOURCE if source == equipped else DESTINATION
            source = check_one(stage, setting, kind, source)


if __name__ == "__main__":
    sys.exit(main("matrix", check))
