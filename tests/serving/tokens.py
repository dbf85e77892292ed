"""An issuer of tokens for tests: keys, a JWK Set, and tokens that are valid unless a test says otherwise."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://login.example", "nextmove"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
SIGNERS: dict[str, tuple[str, Any]] = {"rsa": ("RS256", RSA_KEY), "ec": ("ES256", EC_KEY), "ed": ("EdDSA", ED_KEY)}


def jwks(*kids: str) -> bytes:
    """The public keys of these signers, of all when none is named."""
    published = {
        "rsa": RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True),
        "ec": ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True),
        "ed": OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True),
    }
    return json.dumps({"keys": [{"kid": kid, **published[kid]} for kid in kids or published]}).encode()


def token(signer: str = "rsa", *, key: Any = None, algorithm: str | None = None, kid: Any = ..., **claims: Any) -> str:
    """A token of `ann`, who may decide; a claim that is None is left out."""
    its_algorithm, its_key = SIGNERS[signer]
    now = datetime.now(UTC)
    said = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann",
        "scope": "openid decide",
        "iat": now - timedelta(hours=2),
        "exp": now + timedelta(hours=1),
    } | claims
    return jwt.encode(
        {name: value for name, value in said.items() if value is not None},
        its_key if key is None else key,
        algorithm=algorithm or its_algorithm,
        headers={} if kid is None else {"kid": signer if kid is ... else kid},
    )
