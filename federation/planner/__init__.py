"""What to do: pure functions from a snapshot to a plan. Numpy and solvers are allowed, I/O is not."""
