# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two libvirt hosts, a client and a switch on one machine.

Everything runs in namespaces; the machine itself is left as it was.
`Lab` is the way in for tests, the demonstration and the benchmarks.
"""

from .laboratory import Lab
from .util import LabError

__all__ = ["Lab", "LabError"]
