"""Reads: the queries of admin, REST, commands and tasks."""
