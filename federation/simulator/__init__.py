"""The seeded simulator: the real services and workers on twins of the world, in virtual time and one process.

Nothing here is part of what runs in production. A seed and a commit give one history, whatever goes wrong in it.
"""
