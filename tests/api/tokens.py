"""An issuer of tokens: keys of each kind, the set that it publishes, and tokens that say what a test wants."""

import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from federation.api.parts import ApiSettings, AuthSettings

ISSUER = "https://issuer.example"
AUDIENCE = "federation"


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@dataclass(slots=True)
class Issuer:
    """Its keys by id, each with the algorithm that it signs with."""

    keys: dict[str, tuple[str, Any]] = field(
        default_factory=lambda: {
            "rsa": ("RS256", rsa_key()),
            "ec": ("ES256", ec.generate_private_key(ec.SECP256R1())),
            "ed": ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
        }
    )

    def key_set(self) -> bytes:
        """What it publishes."""
        return msgspec.json.encode({"keys": [self._published(kid) for kid in self.keys]})

    def _published(self, kid: str) -> dict[str, Any]:
        algorithm, private = self.keys[kid]
        kind: Any = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}[algorithm]
        return {**kind.to_jwk(private.public_key(), as_dict=True), "kid": kid, "use": "sig"}

    def token(self, kid: str = "ed", **claims: Any) -> str:
        """A token that is good, but for what *claims* say; None leaves a claim out."""
        algorithm, private = self.keys[kid]
        return jwt.encode(good_claims(**claims), private, algorithm, headers={"kid": kid})

    def bearer(self, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(**claims)}"}

    def settings(self, folder: Path, **more: Any) -> ApiSettings:
        """Settings that take its tokens."""
        path = folder / "keys.json"
        path.write_bytes(self.key_set())
        return ApiSettings(auth=AuthSettings(issuer=ISSUER, audience=AUDIENCE, jwks=str(path)), **more)


def good_claims(**claims: Any) -> dict[str, Any]:
    now = int(time.time())
    base = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 600, "sub": "ann", "role": "member", "team": "shop"}
    return {name: value for name, value in {**base, **claims}.items() if value is not None}
