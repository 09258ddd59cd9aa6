"""The import path of 1.3.1 for the Windows Data Protection API."""

from ._stores.dpapi import DataProtectionScope, WindowsDataProtectionAgent

__all__ = ["DataProtectionScope", "WindowsDataProtectionAgent"]
