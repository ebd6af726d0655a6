"""The batch lane: jobs, the steps that work them off, and what came of them."""
