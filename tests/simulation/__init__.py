"""Seeds of the simulator, and the net that they are caught in."""
