"""The test bed: real Kafka, PostgreSQL and Kubernetes member clusters on this machine, without containers.

`build` fetches and builds the programs once, into a cache outside the tree; `kafka`, `postgres` and `member` start and
stop them on loopback addresses; `processes` owns what they share. `tests/conftest.py` offers them as fixtures.
"""
