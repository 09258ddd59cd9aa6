"""Why this package cannot be imported: its library or MSAL is missing, or files are not ours.

``import msal_extensions`` itself succeeds all the same, so that ``python -m msal_extensions`` can
say what is wrong.  The names of the package raise what explained() makes.

Files of the pure-Python package among ours work as a rule, so they raise nothing:
tell_if_foreign() logs a warning.
"""

from __future__ import annotations

from types import ModuleType

from . import _references as references
from ._references import Reference

_PACKAGE = __name__.rpartition(".")[0]
#: A name that only ours has, of two modules with the same name.
_ONLY_OURS = {
    "persistence": "PersistenceUnavailable",
    "token_cache": "CacheChanges",
    "cache_lock": "__all__",
}


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


def tell_if_foreign(module: ModuleType) -> None:
    """Logs a warning if this module of the package is that of the pure-Python package.

    An error, or a warning that a program turns into one, would end programs that work.
    """
    name = module.__name__.rpartition(".")[2]
    if hasattr(module, _ONLY_OURS.get(name, "__name__")):
        return
    import logging

    logging.getLogger(_PACKAGE).warning(
        "%s.py of %s is the file of another package, and may lose tokens as that one does. %s"
        " python -m %s doctor says more. [%s]",
        *(name, _PACKAGE, references.OVERWRITTEN.remedy, _PACKAGE, references.OVERWRITTEN),
    )
