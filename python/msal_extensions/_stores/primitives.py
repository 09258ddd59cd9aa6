"""The cryptographic primitives of an encrypted file, all of them from the package cryptography.

That package takes 25 ms to import, so ``envelope.py`` imports this module at the first use.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag as InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA512, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: It may be constant, because each save has a new salt, and so a key of its own.
NONCE = bytes(12)


def hkdf(secret: bytes, salt: bytes | None, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-512."""
    return HKDF(SHA512(), length, salt, info).derive(secret)


def sha256(data: bytes) -> bytes:
    digest = Hash(SHA256())
    digest.update(data)
    return digest.finalize()


def aes_gcm(secret: bytes, tag: bytes | None = None) -> Cipher[GCM]:
    """AES-256-GCM with the nonce 0.

    :param tag: Of the ciphertext that is to be decrypted.
    """
    return Cipher(AES(secret), GCM(NONCE, tag))
