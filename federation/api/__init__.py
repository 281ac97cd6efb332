"""The REST API: one table of routes, from which the server, the roles and the published OpenAPI document are made."""
