"""Writes: each function is one thing that an operator or a task does."""
