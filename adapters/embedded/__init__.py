"""The durable default of one process: a log in SQLite and simulated members."""
