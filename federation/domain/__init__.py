"""What is known: immutable values and the arithmetic on them. Synchronous, no I/O, no clock."""
