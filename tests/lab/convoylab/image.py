# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guests' kernel and initramfs, built once into build/lab/.

The kernel is the distribution's cloud kernel; nothing of it is installed.
"""

import os
import pathlib
import platform
import re
import shutil
import subprocess
import tempfile

from .util import IMAGE_DIR, LAB_DIR, LabError, locked, progress, read_json, run, write_json

META_PACKAGE = "linux-image-cloud-amd64"
MODULES = ("virtio_pci", "virtio_net", "virtio_blk")
PROGRAMS = ("/usr/bin/iperf3", "/usr/bin/memcached")
STATIC_PROGRAMS = ("dirty-pages", "echo-server")
EMULATOR = "/usr/bin/qemu-system-x86_64"
KERNEL = IMAGE_DIR / "vmlinuz"
INITRAMFS = IMAGE_DIR / "initramfs.cpio"
BOOT_TEST_SECONDS = 20


def ensure():
    """Build what is missing or older than its sources."""
    with locked("image"):
        IMAGE_DIR.mkdir(parents=True, exist_ok=True)
        if not KERNEL.exists():
            with progress("fetching the guest kernel"):
                fetch_kernel()
        sources = [*LAB_DIR.glob("guest/*"), pathlib.Path(__file__), KERNEL]
        newest = max(source.stat().st_mtime for source in sources)
        if not INITRAMFS.exists() or INITRAMFS.stat().st_mtime < newest:
            with progress("building the guest initramfs"):
                build_initramfs()


def fetch_kernel():
    depends = run(["apt-cache", "depends", META_PACKAGE]).stdout
    match = re.search(r"Depends: (linux-image-\S+)", depends)
    if not match:
        raise LabError(f"apt-cache knows no {META_PACKAGE}: run apt-get update")
    with tempfile.TemporaryDirectory(dir=IMAGE_DIR) as work:
        os.chmod(work, 0o755)
        # apt-get writes to the folder it runs in.
        done = subprocess.run(["apt-get", "download", "-q", match.group(1)], cwd=work,
                              capture_output=True, text=True, timeout=300, check=False)
        packages = list(pathlib.Path(work).glob("*.deb"))
        if done.returncode != 0 or not packages:
            raise LabError(f"apt-get download {match.group(1)}: {done.stderr.strip()}")
        run(["dpkg", "-x", packages[0], f"{work}/tree"])
        modules = IMAGE_DIR / "modules"
        shutil.rmtree(modules, ignore_errors=True)
        shutil.copytree(next(pathlib.Path(work).glob("tree/**/lib/modules/*")), modules)
        shutil.copy(next(pathlib.Path(work).glob("tree/boot/vmlinuz-*")), KERNEL)


def module_order():
    """Module files in loading order; built-in ones are left out."""
    files = {path.name[:-3].replace("-", "_"): path
             for path in (IMAGE_DIR / "modules").rglob("*.ko")}
    order = []

    def visit(name):
        path = files.get(name.replace("-", "_"))
        if path is None or path in order:
            return
        # .modinfo holds NUL-terminated key=value strings.
        match = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for dependency in (match.group(1).decode().split(",") if match else []):
            visit(dependency)
        order.append(path)

    for name in MODULES:
        visit(name)
    return order


def build_initramfs():
    with tempfile.TemporaryDirectory(dir=IMAGE_DIR) as work:
        root = pathlib.Path(work)
        for directory in ("bin", "modules", "etc", "usr"):
            (root / directory).mkdir()
        busybox = shutil.which("busybox")
        if not busybox:
            raise LabError("busybox (package busybox-static) is missing")
        shutil.copy2(busybox, root / "bin" / "busybox")
        shutil.copy2(LAB_DIR / "guest" / "init", root / "init")
        (root / "init").chmod(0o755)
        (root / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n", encoding="ascii")
        (root / "etc" / "group").write_text("root:x:0:\n", encoding="ascii")
        for name in STATIC_PROGRAMS:
            run(["gcc", "-std=gnu11", "-O2", "-static", "-Wall", "-Wextra", "-Werror",
                 "-o", root / "bin" / name, LAB_DIR / "guest" / f"{name}.c"])
        for program in PROGRAMS:
            shutil.copy2(program, root / "bin")
            for library in re.findall(r"(/\S+) \(0x", run(["ldd", program]).stdout):
                target = root / library.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(library, target)
        order = module_order()
        for module in order:
            shutil.copy2(module, root / "modules" / module.name)
        (root / "modules" / "order").write_text(
            "".join(f"{module.name}\n" for module in order), encoding="ascii")
        names = "".join(f"{path.relative_to(root)}\n" for path in sorted(root.rglob("*")))
        temporary = INITRAMFS.with_suffix(".new")
        with open(temporary, "wb") as output:
            subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=root,
                           input=names.encode(), stdout=output, check=True)
        temporary.rename(INITRAMFS)


def accelerator():
    """'kvm' when a guest truly boots with it, else 'qemu' (TCG)."""
    cache = IMAGE_DIR / "accelerator.json"
    machine = {"kernel": platform.release(), "cpu": cpu_model(),
               "device": os.path.exists("/dev/kvm")}
    known = read_json(cache)
    if known and known.get("machine") == machine:
        return known["type"]
    verdict = "qemu"
    if machine["device"]:
        with progress("trying to boot a guest with KVM"):
            verdict = "kvm" if boots_with_kvm() else "qemu"
    write_json(cache, {"machine": machine, "type": verdict})
    return verdict


def boots_with_kvm():
    argv = [EMULATOR, "-accel", "kvm", "-m", "256", "-display", "none", "-nodefaults",
            "-no-reboot", "-serial", "stdio", "-kernel", str(KERNEL), "-initrd", str(INITRAMFS),
            "-append", "console=ttyS0 panic=-1 no_timer_check vc.boot-test"]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, timeout=BOOT_TEST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return b"virt-convoy-lab: guest booted" in done.stdout


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown"
