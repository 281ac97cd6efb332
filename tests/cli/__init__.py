"""The command line against a small server that speaks the documented JSON: whole outputs, exit statuses, requests sent."""
