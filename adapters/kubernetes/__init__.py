"""A member cluster seen and written through its API server."""
