"""Conformance: worked examples from case files, run against the planner and told line by line."""
