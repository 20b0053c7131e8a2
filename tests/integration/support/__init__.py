# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests with real libvirtd and QEMU share: TAP, witnesses, a lab each."""
