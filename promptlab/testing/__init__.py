"""For tests of programs, the users' own too: scripted replies, a guard against the network, a server of them."""

from promptlab.backends.script import Script, replay
from promptlab.testing.batch_jobs import Jobs
from promptlab.testing.clock import run_in_virtual_time
from promptlab.testing.enforcing import Enforcing
from promptlab.testing.faults import Fault
from promptlab.testing.limits import RateLimits
from promptlab.testing.network import no_network
from promptlab.testing.server import FakeServer

__all__ = [
    "Enforcing",
    "FakeServer",
    "Fault",
    "Jobs",
    "RateLimits",
    "Script",
    "no_network",
    "replay",
    "run_in_virtual_time",
]
