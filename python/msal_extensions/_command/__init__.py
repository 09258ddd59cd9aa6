"""The parts of ``python -m msal_extensions``; see ``__main__.py``."""
