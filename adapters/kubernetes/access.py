"""How an API server is reached: from inside its cluster, or by a kubeconfig of the agent's own operator.

A kubeconfig may name commands that are run and files that are read when it is loaded. So only one that the operator
of this agent has named is ever loaded, never one that came over the network.
"""

import asyncio
import time
from typing import Any, Final, Protocol

import structlog
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config
from yaml import YAMLError

from federation.domain.errors import Invalid, Unavailable

USER_AGENT: Final = "federation-agent"
_LOAD_SECONDS: Final = 30.0
_RENEW_SECONDS: Final = 10.0
_log = structlog.get_logger(__name__)


class Access(Protocol):
    """Opens a client, and renews its credentials when they are no longer taken."""

    async def open(self) -> ApiClient: ...

    async def renew(self, client: ApiClient) -> bool:
        """Whether the client has other credentials now."""


class InCluster:
    """The ServiceAccount of the pod that this runs in; its token is read again as it is rotated."""

    async def open(self) -> ApiClient:
        """A client of the cluster around."""
        configuration = _fresh()
        try:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except ConfigException as error:
            raise Invalid(f"not inside a cluster: {error}") from error
        return client_of(configuration)

    async def renew(self, client: ApiClient) -> bool:
        """The token file is read every minute anyway."""
        return False


class Kubeconfig:
    """A context of a kubeconfig file; empty texts stand for kubectl's own defaults."""

    def __init__(self, path: str = "", context: str = "") -> None:
        self._path = path
        self._context = context
        self._renewed = 0.0

    async def open(self) -> ApiClient:
        """A client of the context's cluster."""
        return client_of(await self._load())

    async def renew(self, client: ApiClient) -> bool:
        """Run the context's credentials again, at most every few seconds."""
        now = time.monotonic()
        if self._renewed and now - self._renewed < _RENEW_SECONDS:
            return False
        self._renewed = now
        before = dict(client.configuration.api_key)
        try:
            client.configuration.api_key = (await self._load()).api_key
        except Invalid as error:
            # A command that fails now may work again later: the server's refusal stands until then.
            _log.warning("the kubeconfig's credentials cannot be renewed", error=str(error)[:300])
            return False
        return bool(client.configuration.api_key != before)

    async def _load(self) -> Any:
        configuration = _fresh()
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                await load_kube_config(
                    config_file=self._path or None,
                    context=self._context or None,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except TimeoutError as error:
            raise Unavailable(f"the kubeconfig's credentials did not come within {_LOAD_SECONDS:g} s") from error
        except (ConfigException, YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Invalid(f"the kubeconfig cannot be used: {error}") from error
        return configuration


def client_of(configuration: Any) -> ApiClient:
    """A client that follows no redirect."""
    client = ApiClient(configuration=configuration)
    client.user_agent = USER_AGENT
    client.rest_client.pool_manager = _WithoutRedirects(client.rest_client.pool_manager)  # type: ignore[assignment]
    return client


class _WithoutRedirects:
    """kubernetes_asyncio's session, which would send the token wherever a redirect points."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, **arguments: Any) -> Any:
        return await self._session.request(**arguments, allow_redirects=False)

    async def close(self) -> None:
        await self._session.close()


def _fresh() -> Any:
    """A configuration of its own: kubernetes_asyncio's constructor copies one that all share."""
    return type.__call__(Configuration)
