"""The import path of 1.3.1 for the macOS keychain."""

from ._stores.keychain import Keychain
from .errors import KeychainError

__all__ = ["Keychain", "KeychainError"]
