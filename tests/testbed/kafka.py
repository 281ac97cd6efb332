"""A Kafka broker: one process, KRaft, on a loopback port that stays its own over restarts.

With `KafkaSecurity` clients come in by SASL_SSL with PLAIN passwords, and the broker refuses what no ACL allows.
"""

import base64
import os
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.testbed.build import KafkaPrograms, ensure_kafka
from tests.testbed.certificates import Certificates, make_certificates
from tests.testbed.processes import Process, free_port, remove_folder, temporary_folder

START_TIMEOUT_SECONDS: Final = 60
ADMIN: Final = "admin"
PASSWORD: Final = "secret"
STARTED: Final = b"Kafka Server started"


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSecurity:
    """Who may come in beside `admin`, who may do everything; all with the same password."""

    users: tuple[str, ...] = ()
    password: str = PASSWORD


class KafkaBroker:
    """A broker that keeps its data and its port until `close`."""

    def __init__(
        self,
        *,
        security: KafkaSecurity | None = None,
        auto_create_topics: bool = False,
        heap_megabytes: int = 256,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.security = security
        self.folder = temporary_folder("kafka")
        self._programs: KafkaPrograms = ensure_kafka()
        self._port, self._controller_port, self._internal_port = free_port(), free_port(), free_port()
        self._certificates = make_certificates(self.folder) if security else None
        self._heap = heap_megabytes
        self._write_settings({"auto.create.topics.enable": str(auto_create_topics).lower(), **(settings or {})})
        self._process = Process("kafka", self._java("kafka.Kafka", self._settings_file), self.folder / "kafka.log")
        self._format()

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self._port}"

    @property
    def ca(self) -> Path:
        """The authority that signed the certificate of a secured broker."""
        assert self._certificates is not None, "the broker has no security"
        return self._certificates.ca

    def start(self) -> None:
        """Start it on its data and wait until it serves."""
        before = self._process.log.stat().st_size if self._process.log.exists() else 0
        self._process.start()
        self._process.wait_until(lambda: STARTED in self._process.log.read_bytes()[before:], START_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """Stop it in good order; its data stays."""
        self._process.stop()

    def kill(self) -> None:
        """End it as a power cut would; its data stays as it was."""
        self._process.kill()

    def restart(self) -> None:
        """Stop it and start it on the same data and port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing is answered."""
        self._process.pause()

    def resume(self) -> None:
        """Go on after a pause."""
        self._process.resume()

    def close(self) -> None:
        """Stop it and forget its data."""
        self.kill()
        remove_folder(self.folder)

    def allow(self, user: str, operation: str, *, topic: str = "", group: str = "", prefixed: bool = False) -> None:
        """Let *user* do *operation* (Read, Write, Describe, All, …) on a topic or group, or on all with that prefix."""
        resource = ["--topic", topic] if topic else ["--group", group]
        pattern = ["--resource-pattern-type", "prefixed" if prefixed else "literal"]
        rule = ["--add", "--allow-principal", f"User:{user}", "--operation", operation, *resource, *pattern]
        internal = ["--bootstrap-server", f"127.0.0.1:{self._internal_port}"]
        self._run(self._java("org.apache.kafka.tools.AclCommand", *internal, *rule))

    @property
    def _settings_file(self) -> Path:
        return self.folder / "server.properties"

    def _java(self, main: str, *arguments: str | Path) -> list[str | Path]:
        options = [
            f"-Xmx{self._heap}m",
            f"-Xms{self._heap // 2}m",
            "-XX:+UseSerialGC",
            "-Xshare:auto",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
        ]
        return [self._programs.java, *options, "-cp", f"{self._programs.jars}{os.sep}*", main, *arguments]

    def _format(self) -> None:
        # An id that begins with a hyphen would be taken for an option.
        cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        self._run(self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", self._settings_file))

    def _run(self, command: list[str | Path]) -> None:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"{command[-2:]} failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")

    def _write_settings(self, extra: Mapping[str, str]) -> None:
        settings = {**self._server(), **self._listeners(), **LONE_BROKER, **extra}
        if self.security and self._certificates:
            settings |= secured(self.security, self._certificates)
        self._settings_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def _server(self) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "log.dirs": str(self.folder / "data"),
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
        }

    def _listeners(self) -> dict[str, str]:
        clients = "SASL_SSL" if self.security else "PLAINTEXT"
        served = f"CLIENT://127.0.0.1:{self._port},INTERNAL://127.0.0.1:{self._internal_port}"
        return {
            "listeners": f"{served},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": served,
            "listener.security.protocol.map": f"CLIENT:{clients},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        }


# A broker that is alone, and that tests wait for.
LONE_BROKER: Final = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # After a kill the broker may come back only when its former session has run out.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "1000",
    "log.message.timestamp.type": "LogAppendTime",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "num.partitions": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
}


def secured(security: KafkaSecurity, certificates: Certificates) -> dict[str, str]:
    """The settings of SASL_SSL with PLAIN on the clients' listener, and of ACLs that refuse by default."""
    users = " ".join(f'user_{user}="{security.password}"' for user in (ADMIN, *security.users))
    return {
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.client.plain.sasl.jaas.config": (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        ),
        "listener.name.client.ssl.keystore.type": "PEM",
        "listener.name.client.ssl.keystore.location": str(certificates.server),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The broker talks to itself, and the tests administer it, on the listeners that are not secured.
        "super.users": f"User:ANONYMOUS;User:{ADMIN}",
    }
