"""Text and bytes: what people save is text, what is stored is UTF-8, whatever the locale.

Locals that hold what is stored are named ``secret`` wherever an error can pass, here and in the
other modules: tools that print the locals of a traceback (Sentry is one) leave out that name.
"""

from __future__ import annotations

import json

from .errors import PersistenceDamaged


class Verbatim(bytes):
    """Bytes, and no text, of a program's own ``serialize()`` or ``load()``.

    They are for its own ``save()``, or its own ``deserialize()``, which know what they are.
    """


def encode(secret: str) -> bytes:
    """UTF-8.  The errors of str.encode() would carry the content along.

    :raises TypeError: when it is no text.
    :raises UnicodeEncodeError: when it has a lone surrogate, which no encoding has.  Its ``object``
        is empty, because that would be the content.
    """
    if not isinstance(secret, str):
        raise TypeError(f"content must be str, not {type(secret).__name__}")
    try:
        return secret.encode("utf-8")
    except UnicodeEncodeError as error:
        position = error.start
    raise UnicodeEncodeError("utf-8", "", position, position + 1, "a lone surrogate is not text")


def decode(secret: bytes, location: str | None = None) -> str:
    """Text that was stored in this location.

    :raises PersistenceDamaged: when it is no UTF-8; of bytes of a program's own, when they are in
        no encoding that json.loads() takes.
    """
    verbatim = isinstance(secret, Verbatim)
    encoding = json.detect_encoding(secret) if verbatim else "utf-8"
    try:
        return secret.decode(encoding, "surrogatepass" if verbatim else "strict")
    except UnicodeDecodeError as error:
        position = error.start
    raise PersistenceDamaged(
        None,
        f"The content is not {encoding.upper()} text (byte {position} of {len(secret)})."
        " Another program wrote it, or it is damaged; delete() it and sign in again.",
        location,
    )
