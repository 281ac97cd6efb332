"""The world: one package for each thing that federation talks to."""
