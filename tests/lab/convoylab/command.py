# SPDX-License-Identifier: LGPL-2.1-or-later
"""The `lab` command: arguments in, one call of the library, text out."""

import argparse
import json
import os
import sys

from .guest import GuestOptions
from .host import MODES
from .laboratory import DEFAULT_RATE, Lab
from .network import NAMESPACES
from .util import LabError
from .workload import KINDS


def show(value):
    print(json.dumps(value, indent=2))
    return 0


def cmd_up(lab, args):
    lab.up(rate=args.rate, mode=args.mode, client_rate=args.client_rate)
    return 0


def cmd_down(lab, args):
    del args
    lab.down()
    return 0


def cmd_status(lab, args):
    del args
    status = lab.status()
    show(status)
    return 0 if status["up"] else 3


def cmd_exec(lab, args):
    words = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    argv = lab.node_argv(args.node, *words)
    os.chdir("/")
    os.execvp(argv[0], argv)


def cmd_shell(lab, args):
    argv = lab.node_argv(args.node, os.environ.get("SHELL", "/bin/bash"))
    os.chdir("/")
    os.execvp(argv[0], argv)


def cmd_mode(lab, args):
    lab.host(args.host).set_mode(args.mode, daemon=not args.no_daemon)
    return 0


def cmd_vm_start(lab, args):
    options = {key: getattr(args, key) for key in vars(GuestOptions()) if hasattr(args, key)}
    return show(lab.guests.start(args.vm, host=args.host, **options))


def cmd_vm_stop(lab, args):
    lab.guests.stop(args.vm)
    return 0


def cmd_vm_list(lab, args):
    del args
    for row in lab.guests.list():
        print(f"{row['name']:20} {row['host']:8} {row['state']:10} {row['ip']} {row['mac']}")
    return 0


def cmd_migrate(lab, args):
    flags = args.flag or ["--live"]
    result = lab.migrations.migrate(args.vm, args.src, args.dst, flags, statistics=True)
    result["statistics"].pop("series")
    show(result)
    return result["returncode"]


def cmd_workload_start(lab, args):
    print(lab.workloads.start(args.kind, args.target, rate=args.rate, udp=args.udp,
                              streams=args.streams))
    return 0


def cmd_workload_stop(lab, args):
    return show(lab.workloads.stop_all() if args.id == "all" else lab.workloads.stop(args.id))


def cmd_workload_show(lab, args):
    for row in lab.workloads.rows(args.id):
        print(json.dumps(row))
    return 0


def parser():
    top = argparse.ArgumentParser(prog="lab", description="two libvirt hosts on one machine")
    # Accepted before and after the command; the later one must not reset the earlier one.
    top.add_argument("--name", default="lab", help="name of the lab (default: lab)")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default=argparse.SUPPRESS, help="name of the lab")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(into, name, function, text):
        sub = into.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(function=function)
        return sub

    sub = add(commands, "up", cmd_up, "build the lab")
    sub.add_argument("--rate", type=int, default=DEFAULT_RATE, help="link rate in Mbit/s")
    sub.add_argument("--client-rate", type=int, help="the client's link (default: 4 x RATE)")
    sub.add_argument("--mode", choices=MODES, default="none")
    add(commands, "down", cmd_down, "remove the lab")
    add(commands, "status", cmd_status, "what runs (JSON); exit 3 when the lab is down")
    sub = add(commands, "exec", cmd_exec, "run a command on a node")
    sub.add_argument("node", choices=NAMESPACES)
    sub.add_argument("argv", nargs=argparse.REMAINDER)
    sub = add(commands, "shell", cmd_shell, "a shell on a node")
    sub.add_argument("node", choices=NAMESPACES)
    sub = add(commands, "mode", cmd_mode, "restart a host's services in another mode")
    sub.add_argument("host")
    sub.add_argument("mode", choices=MODES)
    sub.add_argument("--no-daemon", action="store_true", help="leave virt-convoyd stopped")
    sub = add(commands, "migrate", cmd_migrate, "virsh migrate, with QEMU's own statistics")
    sub.add_argument("vm")
    sub.add_argument("--src", default="host-a")
    sub.add_argument("--dst", default="host-b")
    sub.add_argument("--flag", action="append", help="flag of virsh migrate (default --live)")

    vm = commands.add_parser("vm", help="guests").add_subparsers(required=True)
    sub = add(vm, "start", cmd_vm_start, "start a guest")
    sub.add_argument("vm")
    sub.add_argument("--host", default="host-a")
    for option, kind, text in (("memory", int, "MiB"), ("vcpus", int, "number"),
                               ("dirty-rate", int, "MiB/s"), ("working-set", int, "MiB"),
                               ("fill", int, "MiB of data that does not compress"),
                               ("disk", int, "MiB"), ("sla-lower", float, "Mbit/s"),
                               ("sla-upper", float, "Mbit/s"), ("max-downtime", int, "ms")):
        sub.add_argument(f"--{option}", type=kind, help=text, default=argparse.SUPPRESS)
    sub.add_argument("--priority", choices=["high", "medium", "low"], default=argparse.SUPPRESS)
    sub.add_argument("--persistent", action="store_true", default=argparse.SUPPRESS)
    add(vm, "stop", cmd_vm_stop, "destroy a guest").add_argument("vm")
    add(vm, "list", cmd_vm_list, "list the guests of both hosts")

    workload = commands.add_parser("workload", help="traffic").add_subparsers(required=True)
    sub = add(workload, "start", cmd_workload_start, "start traffic; prints its id")
    sub.add_argument("kind", choices=KINDS)
    sub.add_argument("target", metavar="VM")
    sub.add_argument("--rate", type=float, help="Mbit/s; memcached: requests/s")
    sub.add_argument("--udp", action="store_true")
    sub.add_argument("--streams", type=int, default=1, help="connections (iperf)")
    add(workload, "stop", cmd_workload_stop, "stop traffic, print its summary").add_argument(
        "id", help="id, or all")
    add(workload, "show", cmd_workload_show, "the rows recorded so far").add_argument("id")
    return top


def main(argv=None):
    args = parser().parse_args(argv)
    try:
        return args.function(Lab(args.name), args)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
