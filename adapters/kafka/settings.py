"""How to reach Kafka, and the limits of what is done there."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """*bootstrap* is `host:port,…`. Topics that are missing are made with *partitions* (those of one cluster with one)."""

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    partitions: int = 8
    replication_factor: int = -1
    retention_seconds: int = 7 * 86_400
    start_seconds: float = 30.0
    append_seconds: float = 10.0
    session_seconds: float = 10.0
    stall_seconds: float = 20.0
    hint_seconds: float = 1.0
    linger_milliseconds: int = 1
    # What aiokafka may hold of each partition: with a topic for each of 1,000 clusters that is 512 MiB at most.
    fetch_bytes: int = 512 * 1024

    def client(self) -> dict[str, Any]:
        """What producer, consumer and administration have in common. Reads the certificates."""
        return {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": self.security_protocol,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": self.sasl_password,
            "ssl_context": self._ssl_context() if self.security_protocol in ("SSL", "SASL_SSL") else None,
            "request_timeout_ms": int(self.append_seconds * 1000),
            # aiokafka's own five minutes is how long a new topic or a moved leader would go unseen.
            "metadata_max_age_ms": 5000,
        }

    def _ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context
