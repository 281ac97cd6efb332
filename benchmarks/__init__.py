"""How fast the program is, one module a bar: each measures a yardstick in the same run and prints one JSON object a line.

Machines are noisy, so the ratio to the yardstick (the bare library doing the same work) is what counts; rounds of the
two alternate and the median is told. `python -m benchmarks [NAME …]`, or `make bench BENCH=name`.
"""
