#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Includes point down only: fails with file:line for each one that does not."""

import pathlib
import re
import sys

# Folder -> folders (or single headers) that it may include from.
LAYERS = {
    "plugin/common": {"common"},
    "plugin/decision": {"common/types.h", "decision"},
    "plugin/traffic": {"common", "traffic"},
    "plugin/shaping": {"common", "shaping"},
    "plugin/daemon": {"common", "decision", "traffic", "shaping", "daemon",
                      "daemon-interface.h"},
    # `replay` asks the decision functions themselves, with what the daemon wrote down.
    "plugin/cli": {"common", "shaping", "decision", "daemon/recording.h", "cli"},
    "plugin/libvirtd": {"common", "libvirtd"},
    "hook": {"common", "hook"},
}
# The pure layer knows arithmetic and text, nothing that could do I/O or read a clock.
PURE = {"plugin/decision": {"math.h", "float.h", "stddef.h", "stdbool.h", "stdint.h", "inttypes.h",
                            "limits.h", "stdio.h", "stdlib.h", "string.h", "stdarg.h"}}
# stdio.h is for snprintf only.
PURE_CALLS = re.compile(r"\b(printf|fprintf|fopen|time|clock_gettime|gettimeofday|getenv|malloc|"
                        r"calloc|realloc|rand|random)\s*\(")
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def allowed(header, targets):
    return header in targets or header.split("/")[0] in targets


def code_of(line):
    """The line without comments; a line inside a block comment starts with a star."""
    return "" if line.lstrip().startswith("*") else line.split("/*")[0]


def check(path, folder, targets):
    problems = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        include = INCLUDE.match(line)
        if include:
            quote, header = include.groups()
            if quote == '"' and not allowed(header, targets):
                problems.append(f"{path}:{number}: {folder} must not include {header}")
            if quote == "<" and folder in PURE and header not in PURE[folder]:
                problems.append(f"{path}:{number}: {folder} is pure: <{header}> has no place there")
        elif folder in PURE and PURE_CALLS.search(code_of(line)):
            problems.append(f"{path}:{number}: {folder} is pure: {line.strip()}")
    return problems


def main():
    problems = []
    files = 0
    for folder, targets in LAYERS.items():
        for path in sorted(pathlib.Path(folder).glob("*.[ch]")):
            files += 1
            problems += check(path, folder, targets)
    if not files:
        problems.append("no sources found: run from the top of the tree")
    print("\n".join(problems) if problems else f"layers: {files} files, includes point down only")
    return 1 if problems else 0


sys.exit(main())
