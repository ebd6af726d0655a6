"""A simulated Ollama node: the HTTP API, the scheduler and the failures of a real one, without a GPU."""

from simulator.faults import Faults
from simulator.models import CATALOGUE, ModelSpec
from simulator.node import SimulatedNode
from simulator.profiles import PROFILES, Profile
from simulator.threads import node_in_thread

__all__ = ["CATALOGUE", "PROFILES", "Faults", "ModelSpec", "Profile", "SimulatedNode", "node_in_thread"]
