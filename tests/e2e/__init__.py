"""The system from end to end: the real program as separate processes, on real Kafka, PostgreSQL and member clusters."""
