"""The loops of the roles, and the supervisor that owns them."""
