"""A member cluster seen and written through its API server: raw bytes in, partial structs, every wait limited."""
