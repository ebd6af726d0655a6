"""What the worker runs, by schedule; each task is a few lines around a service."""
