"""Interactive embeddings, where a team's policy says so: joined, split, and answered from a cache."""
