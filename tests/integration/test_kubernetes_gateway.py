"""The gateway on a real API server with RBAC: the contract of all gateways, and what only a real server can show."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.gateway_suite import GatewayContract
from tests.integration.kubernetes_world import LEASES, ORDERS, RealWorld, agent_token, write_kubeconfig
from tests.testbed.member import MemberCluster


@pytest.fixture
async def world(member: MemberCluster, tmp_path: Path) -> AsyncIterator[RealWorld]:
    token = await agent_token(member)
    for left in (LEASES, ORDERS):
        await member.request("DELETE", left)
    world = RealWorld(member, write_kubeconfig(member, tmp_path / "agent.kubeconfig", token))
    yield world
    answers = world.gateway.api.answers
    await world.gateway.close()
    assert answers[401] + answers[403] == 0, "the role that the agent ships with does not suffice"


class TestKubernetesGateway(GatewayContract):
    """Run with the role that the agent ships with; nothing may be forbidden."""
