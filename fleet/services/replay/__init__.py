"""Recorded traffic once more, in virtual time, through another policy or another fleet."""
