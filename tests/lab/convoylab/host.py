# SPDX-License-Identifier: LGPL-2.1-or-later
"""One libvirt host: mount, UTS, PID and network namespaces with a libvirtd.

/etc and /var are overlays, /run and /dev are tmpfs of the host's own, so nothing
it writes reaches the machine. /dev/kvm is there only where KVM truly works, so that
libvirt does not offer what no guest boots with. The first process of the PID namespace holds it all;
killing it is pulling the host's power plug.
"""

import pathlib
import shutil
import signal
import socket
import subprocess
import uuid

from . import image, network
from .util import BUILD, IMAGE_DIR, LAB_DIR, LabError, locked, read_json, run, wait_until, write_json

MODES = ("none", "full", "hook-only")
PID_DIR = "/run/virt-convoy-lab"
LIBVIRTD_PID = f"{PID_DIR}/libvirtd.pid"
LIBVIRTD_SOCKET = "/run/libvirt/libvirt-sock"
DAEMON_PID = f"{PID_DIR}/virt-convoyd.pid"
DAEMON_SOCKET = "/run/virt-convoy/socket"
HOOK = "/etc/libvirt/hooks/qemu.d/virt-convoy"

SETUP = LAB_DIR / "convoylab" / "host-setup.sh"
PRIVATE = ("etc/libvirt", "etc/virt-convoy", "var/lib/libvirt", "var/log/libvirt",
           "var/cache/libvirt", "var/lib/virt-convoy", "var/log/virt-convoy")

LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
host_uuid = "{uuid}"
log_level = 3
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
dynamic_ownership = 0
remember_owner = 0
stdio_handler = "file"
"""


class Host:
    """A lab host by its name, host-a or host-b. Holds no state of its own."""

    def __init__(self, lab, name):
        self.lab = lab
        self.name = name
        self.namespace = network.namespace(lab.name, name)
        self.directory = lab.directory / name

    # The host itself

    def create(self):
        for private in PRIVATE:
            (self.directory / f"{private}.private").mkdir(parents=True)
        for overlay in ("etc", "var"):
            (self.directory / overlay).mkdir(exist_ok=True)
            (self.directory / f"{overlay}.work").mkdir()
        (self.directory / "dev").mkdir()
        (self.path("/var/log/libvirt") / "qemu").mkdir()
        self.write_configuration()
        (self.directory / "etc" / "hosts").write_text(self.lab.hosts_file(), encoding="ascii")
        saved = IMAGE_DIR / "capabilities"
        # Another lab may be about to save its own.
        with locked("capabilities"):
            if saved.is_dir():
                # libvirt checks for itself whether the cached answers still hold.
                shutil.copytree(saved, self.path("/var/cache/libvirt") / "qemu",
                                dirs_exist_ok=True)
        subprocess.Popen(
            network.in_namespace(self.namespace, "setsid", "-f", "unshare", "--mount", "--uts",
                                 "--pid", "--fork", "--kill-child", "--mount-proc",
                                 "sh", SETUP, self.directory, self.name,
                                 "kvm" if image.accelerator() == "kvm" else ""),
            cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=open(self.directory / "setup.log", "wb")).wait()
        try:
            wait_until(f"set-up of {self.name}", (self.directory / "ready").exists, timeout=10)
        except LabError as error:
            raise LabError(f"{error}: {self.log('setup.log')}") from error

    def write_configuration(self):
        etc = self.path("/etc/libvirt")
        (etc / "hooks" / "qemu.d").mkdir(parents=True)
        identity = uuid.uuid5(uuid.NAMESPACE_DNS, self.namespace)
        (etc / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(uuid=identity), encoding="ascii")
        (etc / "qemu.conf").write_text(QEMU_CONF, encoding="ascii")

    def path(self, inside):
        """Where a file of the host's private folders lies on the machine."""
        for private in PRIVATE:
            if inside == f"/{private}" or inside.startswith(f"/{private}/"):
                rest = inside[len(private) + 1:].lstrip("/")
                return self.directory / f"{private}.private" / rest
        raise LabError(f"{inside} is not in a private folder of {self.name}")

    def log(self, name):
        path = self.directory / name
        return path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""

    def holder(self):
        """PID of the host's first process; None when the host is not up."""
        if not network.namespace_exists(self.namespace):
            return None
        for pid in network.pids(self.namespace):
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            except (FileNotFoundError, ProcessLookupError):
                continue
            for line in status.splitlines():
                if line.startswith("NSpid:") and line.split()[2:] == ["1"]:
                    return pid
        return None

    def argv(self, *argv):
        """Argument vector that runs ARGV inside this host."""
        cached = self.lab.holders.get(self.name)
        if not cached or not pathlib.Path(f"/proc/{cached}").exists():
            cached = self.holder()
            if not cached:
                raise LabError(f"{self.name} of lab {self.lab.name} is not up")
            self.lab.holders[self.name] = cached
        return ["nsenter", "--target", str(cached), "--mount", "--uts", "--net", "--pid", "--",
                *map(str, argv)]

    def run(self, *argv, **options):
        return run(self.argv(*argv), **options)

    def virsh(self, *argv, **options):
        return self.run("virsh", "-c", "qemu:///system", *argv, **options)

    def network_snapshot(self, taps=False):
        return network.snapshot(self.namespace, taps)

    # Services

    def service_pid(self, pid_file):
        """PID inside the host, None when that service does not run."""
        answer = self.run("cat", pid_file, check=False)
        if answer.returncode != 0 or not answer.stdout.strip().isdigit():
            return None
        pid = int(answer.stdout)
        return pid if self.run("kill", "-0", pid, check=False).returncode == 0 else None

    def service_stop(self, pid_file, number=signal.SIGTERM):
        """Send a signal and wait for the end; False when it did not run."""
        pid = self.service_pid(pid_file)
        if pid is None:
            return False
        self.run("kill", f"-{int(number)}", pid, check=False)
        wait_until(f"end of process {pid} on {self.name}",
                   lambda: self.run("kill", "-0", pid, check=False).returncode != 0, timeout=30)
        return True

    def service_start(self, pid_file, log, argv, environment=()):
        """Start ARGV in the background; its PID goes to PID_FILE."""
        self.run("setsid", "-f", "sh", "-c",
                 'echo $$ > "$1"; log=$2; shift 2; exec env "$@" > "$log" 2>&1 < /dev/null',
                 "service", pid_file, log, *environment, *argv)

    def connectable(self, path):
        """Whether somebody listens on the unix socket PATH of this host."""
        holder = self.lab.holders.get(self.name) or self.holder()
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(f"/proc/{holder}/root{path}")
            except OSError:
                return False
        return True

    def wait_socket(self, path, pid_file, log, what):
        def state():
            if self.connectable(path):
                return "listening"
            return None if self.service_pid(pid_file) else "ended"
        wait_until(f"{what} on {self.name}", lambda: self.service_pid(pid_file), timeout=10)
        if wait_until(f"{what} on {self.name}", state, timeout=60) == "ended":
            raise LabError(f"{what} on {self.name} ended: {self.log_tail(log)}")

    def log_tail(self, path, lines=8):
        return "\n".join(self.path(path).read_text(errors="replace").splitlines()[-lines:])

    def libvirtd_start(self, preload=None, environment=()):
        preloaded = [f"LD_PRELOAD={preload}"] if preload else []
        log = "/var/log/libvirt/libvirtd.out"
        self.service_start(LIBVIRTD_PID, log, ["libvirtd", "--listen"], [*environment, *preloaded])
        self.wait_socket(LIBVIRTD_SOCKET, LIBVIRTD_PID, log, "libvirtd")

    def libvirtd_stop(self, number=signal.SIGTERM):
        return self.service_stop(LIBVIRTD_PID, number)

    def daemon_start(self, environment=()):
        log = "/var/log/virt-convoy/virt-convoyd.out"
        self.service_start(DAEMON_PID, log, [
            component("virt-convoyd"), "--config", "/etc/virt-convoy/virt-convoy.conf",
            "--socket", DAEMON_SOCKET, "--state-dir", "/run/virt-convoy",
            "--log-file", "/var/log/virt-convoy/virt-convoyd.log"], environment)
        self.wait_socket(DAEMON_SOCKET, DAEMON_PID, log, "virt-convoyd")

    def daemon_stop(self, number=signal.SIGTERM):
        return self.service_stop(DAEMON_PID, number)

    def write_daemon_configuration(self, extra=None):
        """GKeyFile of the daemon; EXTRA is {section: {key: value}}."""
        sections = {"network": {"uplink": "eth0", "link-rate": f"{self.lab.rate}Mbit/s"}}
        for section, values in (extra or {}).items():
            sections.setdefault(section, {}).update(values)
        text = ""
        for section, values in sections.items():
            text += f"[{section}]\n" + "".join(f"{k}={v}\n" for k, v in values.items()) + "\n"
        self.path("/etc/virt-convoy/virt-convoy.conf").write_text(text, encoding="utf-8")

    def set_mode(self, mode, daemon=True, config=None):
        """Restart this host's services in MODE; guests go on running."""
        if mode not in MODES:
            raise LabError(f"mode '{mode}': one of {', '.join(MODES)}")
        plugin = component("virt-convoy-libvirtd.so") if mode == "full" else None
        hook = component("virt-convoy-hook") if mode != "none" else None
        self.libvirtd_stop()
        self.daemon_stop()
        target = self.path(HOOK)
        target.unlink(missing_ok=True)
        if hook:
            shutil.copy2(hook, target)
            target.chmod(0o755)
        self.write_daemon_configuration(config)
        self.run("mkdir", "-p", "/run/virt-convoy")
        # libvirtd first: the daemon's connection to it then succeeds at once.
        self.libvirtd_start(plugin)
        if mode != "none" and daemon:
            self.daemon_start()
        write_json(self.directory / "mode.json", {"mode": mode, "daemon": daemon})

    def mode(self):
        return read_json(self.directory / "mode.json", {"mode": "none", "daemon": True})

    def save_capabilities(self):
        """Keep libvirt's answers from probing QEMU for the next lab."""
        cache = self.path("/var/cache/libvirt") / "qemu" / "capabilities"
        if not cache.is_dir() or not any(cache.iterdir()):
            return
        target = IMAGE_DIR / "capabilities" / "capabilities"
        with locked("capabilities"):
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(cache, target)


def component(name):
    path = BUILD / name
    if not path.exists():
        raise LabError(f"{path} is missing: build it first, or use mode none")
    return str(path)
