"""Verbs: one use case and one transaction each; their arguments are ports."""
