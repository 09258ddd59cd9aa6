"""Owns org.freedesktop.secrets on the bus of argv[1], but does not help.

argv[2] "silent": it answers nothing.  "prompt": it is locked, with one item, and nobody completes
its prompt, as on a desktop whose user is away.  "dismiss": the same, but the user says no at once,
with a result of the type that KeePassXC sends (and libsecret does not expect).
"""

from __future__ import annotations

import sys
from typing import Any

from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

ITEM = "/org/freedesktop/secrets/collection/login/1"
PROMPT = "/org/freedesktop/secrets/prompt/p1"
ANSWERS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "GetAll": ("a{sv}", ({},)),
    "OpenSession": ("vo", (("s", ""), "/org/freedesktop/secrets/session/s1")),
    "ReadAlias": ("o", ("/org/freedesktop/secrets/collection/login",)),
    "Get": ("v", (("b", True),)),
    "SearchItems": ("aoao", ([], [ITEM])),
    "Unlock": ("aoo", ([], PROMPT)),
    "Prompt": ("", ()),
    "Dismiss": ("", ()),
}


def main() -> None:
    connection = open_dbus_connection(bus=sys.argv[1])
    connection.send_and_get_reply(message_bus.RequestName("org.freedesktop.secrets"))
    while True:
        message: Message = connection.receive()
        if sys.argv[2] == "silent" or message.header.message_type is not MessageType.method_call:
            continue
        member = message.header.fields[HeaderFields.member]
        body = message.body
        if member == "OpenSession" and body[0] != "plain":
            connection.send(new_error(message, "org.freedesktop.DBus.Error.NotSupported"))
            continue
        if member not in ANSWERS:
            continue
        signature, answer = ANSWERS[member]
        connection.send(new_method_return(message, signature or None, answer))
        if member == ("Prompt" if sys.argv[2] == "dismiss" else "Dismiss"):
            emitter = DBusAddress(PROMPT, interface="org.freedesktop.Secret.Prompt")
            connection.send(new_signal(emitter, "Completed", "bv", (True, ("s", ""))))


main()
