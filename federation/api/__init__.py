"""The REST API: wire types, routes, problems, and the OpenAPI document made from them."""
