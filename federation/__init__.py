"""Many Kubernetes clusters as one pool: this package decides, `adapters` touches the world."""
