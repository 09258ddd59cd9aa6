"""Text and bytes.  Programs save text; the stored bytes are UTF-8, whatever the locale.

Here and in the other modules a local variable that holds stored content is named ``secret``
wherever an exception can pass.  Tools that report the local variables of a traceback (Sentry is
one) leave out variables of that name.
"""

from __future__ import annotations

import json

from ._references import ARGUMENT
from .errors import PersistenceDamaged, with_remedy


class Verbatim(bytes):
    """Bytes that a program's own ``serialize()`` or ``load()`` returned in place of text.

    They are handed unchanged to the program's own ``save()`` or ``deserialize()``.
    """


def encode(secret: str) -> bytes:
    """The text as UTF-8.

    str.encode() is not enough: its exceptions contain the content.

    :raises TypeError: when the argument is no text.
    :raises UnicodeEncodeError: when the text has a lone surrogate, which UTF-8 cannot encode.
        The error's ``object`` is empty.
    """
    if not isinstance(secret, str):
        raise TypeError(ARGUMENT.after(f"content must be str, not {type(secret).__name__}"))
    try:
        return secret.encode("utf-8")
    except UnicodeEncodeError as error:
        position = error.start
    raise UnicodeEncodeError(
        "utf-8", "", position, position + 1, ARGUMENT.after("a lone surrogate is not text")
    )


def decode(secret: bytes, location: str | None = None) -> str:
    """The text that was stored in this location.

    :raises PersistenceDamaged: when the bytes are no UTF-8.  A program's own bytes may also be
        in the other encodings that json.loads() accepts.
    """
    verbatim = isinstance(secret, Verbatim)
    encoding = json.detect_encoding(secret) if verbatim else "utf-8"
    try:
        return secret.decode(encoding, "surrogatepass" if verbatim else "strict")
    except UnicodeDecodeError as error:
        position = error.start
    words = f"The content is not {encoding.upper()} text (byte {position} of {len(secret)})."
    words += " Another program wrote it, or it is damaged;"
    advice = "delete() it and sign in again."
    raise with_remedy(PersistenceDamaged, None, words, location, advice=advice)
