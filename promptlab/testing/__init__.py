"""For tests of programs, the users' own too: scripted replies, a guard against the network, a server of them."""

from promptlab.backends.script import Script, replay
from promptlab.testing.faults import Fault
from promptlab.testing.network import no_network
from promptlab.testing.server import FakeServer

__all__ = ["FakeServer", "Fault", "Script", "no_network", "replay"]
