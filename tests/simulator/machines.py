"""The machines of a world."""

from simulator.client_machine import ClientMachine
from simulator.host import Host
from simulator.machine import Machine

__all__ = ["ClientMachine", "Host", "Machine"]
