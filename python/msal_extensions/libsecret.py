"""The import path of 1.3.1 for the Secret Service (``gi`` is not needed any more)."""

from ._stores.libsecret import LibSecretAgent, trial_run

__all__ = ["LibSecretAgent", "trial_run"]
