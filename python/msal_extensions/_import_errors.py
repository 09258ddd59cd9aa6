"""Why this package cannot be imported: its library or MSAL is missing, or files are not ours.

``import msal_extensions`` itself succeeds all the same, so that ``python -m msal_extensions`` can
say what is wrong.  The names of the package raise what explained() makes.
"""

from __future__ import annotations

from . import _references as references
from ._references import Reference

_PACKAGE = __name__.rpartition(".")[0]


def reference_of(error: BaseException) -> Reference:
    """The reference of an error that came while a module of this package was imported."""
    missing = (error.name or "") if isinstance(error, ImportError) else _PACKAGE
    if missing == "_cffi_backend" or missing.startswith(f"{_PACKAGE}._msalex"):
        return references.NATIVE_MISSING
    if missing.partition(".")[0] == _PACKAGE:
        return references.OVERWRITTEN
    return references.OTHER_MSAL  # it is missing itself, or a package that it needs


def explained(error: Exception) -> ImportError:
    """The same error, with what to do about it."""
    reference = reference_of(error)
    words = (
        f"{_PACKAGE} cannot be used: {type(error).__name__}: {error}. {reference.remedy}"
        f" python -m {_PACKAGE} doctor says more. [{reference}]"
    )
    kind = ModuleNotFoundError if isinstance(error, ModuleNotFoundError) else ImportError
    found = error if isinstance(error, ImportError) else ImportError()
    return kind(words, name=found.name, path=found.path)
