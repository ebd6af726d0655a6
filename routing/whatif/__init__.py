"""A model of a fleet in virtual time: simulated Ollama nodes, a gateway's view of them, and the real dispatcher."""
