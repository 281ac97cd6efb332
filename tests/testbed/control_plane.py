"""The processes of one member cluster, with the flags that make them small, quick and strict."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.testbed.build import HERE, KubernetesPrograms
from tests.testbed.processes import Process, free_port, listens

START_TIMEOUT_SECONDS: Final = 60
# Without the disruption controller an eviction under a PodDisruptionBudget is refused for ever.
CONTROLLERS: Final = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "job-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "resourcequota-controller",
    "node-lifecycle-controller",
    "disruption-controller",
    "taint-eviction-controller",
    "serviceaccount-controller",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a member keeps its files, and the port of its API server."""

    folder: Path
    port: int
    server_pem: Path
    token_file: Path
    admin_kubeconfig: Path


class ControlPlane:
    """etcd, the API server and what works on it."""

    def __init__(self, programs: KubernetesPrograms, layout: Layout, answers: Callable[[str], bool]) -> None:
        etcd_port, peer_port = free_port(), free_port()
        self._etcd_port = etcd_port
        self._answers = answers
        self._layout = layout
        self.etcd = self._process("etcd", programs.etcd, etcd_flags(layout, etcd_port, peer_port))
        self.apiserver = self._process("kube-apiserver", programs.apiserver, apiserver_flags(layout, etcd_port))
        self.controller_manager = self._process(
            "kube-controller-manager", programs.controller_manager, controller_manager_flags(layout)
        )
        self.scheduler = self._process("kube-scheduler", programs.scheduler, scheduler_flags(layout))
        self.kwok = self._process("kwok", programs.kwok, kwok_flags(layout))

    @property
    def _workers(self) -> tuple[Process, ...]:
        return self.controller_manager, self.scheduler, self.kwok

    def start(self) -> None:
        """Start all, and wait until the controllers have done their first work."""
        self.etcd.start()
        self.etcd.wait_until(lambda: listens(self._etcd_port), START_TIMEOUT_SECONDS)
        self.start_api()
        for worker in self._workers:
            worker.start()
        first_work = "/api/v1/namespaces/default/serviceaccounts/default"
        self.controller_manager.wait_until(lambda: self._answers(first_work), START_TIMEOUT_SECONDS)

    def start_api(self) -> None:
        """Start the API server and wait until it is ready."""
        self.apiserver.start()
        self.apiserver.wait_until(lambda: self._answers("/readyz"), START_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """Stop all in good order, etcd last."""
        for worker in self._workers:
            worker.stop(grace_seconds=3)
        self.apiserver.stop(grace_seconds=5)
        self.etcd.stop()

    def kill(self) -> None:
        """End all now."""
        for process in (*self._workers, self.apiserver, self.etcd):
            process.kill()

    def logs(self) -> str:
        """The tail of every log."""
        return "\n".join(f"--- {p.name}\n{p.tail()}" for p in (self.etcd, self.apiserver, *self._workers))

    def _process(self, name: str, program: Path, flags: list[str]) -> Process:
        return Process(name, [program, *flags], self._layout.folder / f"{name}.log")


def etcd_flags(layout: Layout, port: int, peer_port: int) -> list[str]:
    """One etcd that trusts the disk."""
    peer = f"http://127.0.0.1:{peer_port}"
    return [
        f"--data-dir={layout.folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{port}",
        f"--advertise-client-urls=http://127.0.0.1:{port}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver_flags(layout: Layout, etcd_port: int) -> list[str]:
    """An API server with RBAC and two tokens; pods need no ServiceAccount token."""
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--secure-port={layout.port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        # The address of the API server is a loopback one, which no Service may have as an endpoint.
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={layout.server_pem}",
        f"--tls-private-key-file={layout.server_pem}",
        f"--service-account-key-file={layout.server_pem}",
        f"--service-account-signing-key-file={layout.server_pem}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--token-auth-file={layout.token_file}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--disable-admission-plugins=ServiceAccount",
    ]


def controller_manager_flags(layout: Layout) -> list[str]:
    """The controllers that the agent's work meets, without the pace of a client that must be polite."""
    return [
        f"--kubeconfig={layout.admin_kubeconfig}",
        f"--controllers={','.join(CONTROLLERS)}",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def scheduler_flags(layout: Layout) -> list[str]:
    """The scheduler of Kubernetes as it is."""
    quick = ["--kube-api-qps=200", "--kube-api-burst=400"]
    return [f"--kubeconfig={layout.admin_kubeconfig}", "--leader-elect=false", "--secure-port=0", *quick]


def kwok_flags(layout: Layout) -> list[str]:
    """kwok as the kubelet of every node, with the stages of the test bed."""
    return [
        f"--kubeconfig={layout.admin_kubeconfig}",
        f"--config={HERE / 'kubernetes' / 'stages.yaml'}",
        "--manage-all-nodes=true",
        "--node-lease-duration-seconds=40",
    ]
