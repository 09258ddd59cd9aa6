"""The references of our errors: what ``MSX-nn`` means, why it happens, and what to do.

This is the only table of them.  Messages end with the reference, ``python -m msal_extensions
explain MSX-nn`` shows the entry, and docs/errors.md has the same words.  A number never changes its
meaning, because people search for it.

This module imports nothing of ours: ``explain`` also works where nothing else does.
"""

from __future__ import annotations

from typing import NamedTuple


class Reference(NamedTuple):
    """One entry of the table."""

    code: str  # "MSX-07"
    title: str  # what is wrong, in a few words
    cause: str
    remedy: str
    page: str  # of the documentation, for more; "" where there is none

    def __str__(self) -> str:
        return self.code

    def after(self, words: str) -> str:
        """The message of an error whose class has no reference, such as a ValueError."""
        return f"{words} [{self.code}]"

    def saying(self, remedy: str) -> Reference:
        """The same reference, with a remedy that knows more than the table."""
        return self._replace(remedy=remedy)

    def because(self, cause: str) -> Reference:
        """The same reference, with a cause that knows more than the table.  Messages say it."""
        return self._replace(cause=cause)


#: All entries by their code, in the order of the numbers.
REFERENCES: dict[str, Reference] = {}


def _add(number: int, title: str, cause: str, remedy: str, page: str = "") -> Reference:
    code = f"MSX-{number:02}"
    assert code not in REFERENCES
    REFERENCES[code] = Reference(code, title, cause, remedy, page)
    return REFERENCES[code]


# ---- programs and platforms ----

ARGUMENT = _add(
    1,
    "A program uses this package in a wrong way",
    "The program that uses this package passed a value that has no meaning there, called a method"
    " that its object does not have, or used an object in a way that the documentation excludes."
    " The message says which one.",
    "If the program is yours, correct it. If not, report the message to its makers.",
)
PLATFORM = _add(
    2,
    "This operating system does not have that store",
    "The data protection of Windows (DPAPI) and the keychain of macOS exist on those systems only."
    " build_encrypted_persistence() knows these two, and Linux.",
    "Use an EncryptedFilePersistence: it works on every system.",
)
UNEXPECTED = _add(
    3,
    "The operating system refused, for a rare reason",
    "A call of the system failed in a way for which this package has no advice. The message has the"
    " words of the system and the name of the call.",
    "Mend what these words name. If they do not help, report the whole message to us.",
)

# ---- the keyrings of the operating systems ----

KEYRING_MISSING = _add(
    4,
    "There is no keyring",
    "The Secret Service cannot be reached: libsecret is not installed, this session has no D-Bus,"
    " no keyring program runs or it has just ended, or a sandbox keeps it from this program."
    " Servers and containers have none, as a rule.",
    "On a server, set MSAL_EXTENSIONS_WITHOUT_KEYRING=encrypted_file. On a desktop, install and"
    " start gnome-keyring, KWallet or KeePassXC.",
    "docs/headless.md",
)
KEYRING_NO_COLLECTION = _add(
    5,
    "The keyring has no such collection",
    "A keyring program runs, but nobody has made a default keyring (KWallet: a wallet) yet, or the"
    " program names a collection that is not there.",
    "Make a keyring with the keyring program of your desktop (Passwords and Keys, KWalletManager,"
    " KeePassXC).",
    "docs/keyrings.md",
)
KEYRING_FAILED = _add(
    6,
    "The keyring failed",
    "The Secret Service answered with an error of its own. The message has its words.",
    "Restart the Secret Service: log out and in again.",
    "docs/keyrings.md",
)
KEYRING_LOCKED = _add(
    7,
    "The keyring is locked",
    "The keyring is locked, or it does not let this program in, and nobody said yes: a person"
    " closed the dialog, or there is no desktop on which the keyring could ask. Nothing is lost.",
    "Unlock the keyring on the desktop, or allow this program to use it; then try again.",
    "docs/keyrings.md",
)
KEYRING_SILENT = _add(
    8,
    "The keyring did not answer in time",
    "The Secret Service hangs, or it waits for a person: a dialog may be open on another screen.",
    "See whether the keyring waits for your password or your permission, and answer. If it does"
    " not, restart the Secret Service: log out and in again.",
    "docs/keyrings.md",
)
KEYRING_AFTER_FORK = _add(
    9,
    "The keyring cannot be used after a fork",
    "A process used the keyring, and then made this one by fork. The libraries of the keyring have"
    " threads, and a child made by fork has none of them.",
    'Start the process anew: with subprocess, or with multiprocessing.set_start_method("spawn").',
    "docs/keyrings.md",
)
KEYCHAIN_FAILED = _add(
    10,
    "The keychain of macOS failed",
    "The keychain answered with an error. The message has its number (OSStatus) and its words.",
    "Try again. If it fails always, look the number up at https://www.osstatus.com.",
    "docs/keychain.md",
)
KEYCHAIN_DENIED = _add(
    11,
    "The keychain is locked, or the answer was no",
    "The keychain is locked and macOS can ask nobody; a person or macOS refused this program; or"
    " the file of the keychain cannot be written.",
    "Run security unlock-keychain in the same session, and answer Always Allow when macOS asks.",
    "docs/keychain.md",
)
KEYCHAIN_SILENT = _add(
    12,
    "The keychain did not answer in time",
    "macOS asks a person for a password or a permission, and nobody answered.",
    "See whether macOS asks for your password or your permission, answer, and try again.",
    "docs/keychain.md",
)
KEYCHAIN_MISSING = _add(
    13,
    "There is no keychain in this session",
    "This account has no default keychain, its file is missing or damaged, or the session has no"
    " keychain, as before a login and in some daemons.",
    "Run the program in the session of a user that has logged in at the screen.",
    "docs/keychain.md",
)
DPAPI_CANNOT_ENCRYPT = _add(
    14,
    "Windows could not encrypt",
    "The data protection of Windows (DPAPI) has no key in this session: a service without a loaded"
    " profile, a scheduled task without a password, a session over WinRM, or over SSH with a key.",
    "Log on with the password, or load the profile of the user; then try again.",
)
DPAPI_CANNOT_DECRYPT = _add(
    15,
    "Windows could not decrypt",
    "Another user or another machine encrypted the file, an administrator has reset the password"
    " (WinError -2146893813), this session has no key (see MSX-14), or the file is damaged or not"
    " encrypted at all.",
    "Run the program as the user that saved the file. If that does not help, remove the file and"
    " sign in again.",
)

# ---- locations and files ----

NOT_STORED = _add(
    20,
    "Nothing is stored there",
    "Nobody has signed in yet, somebody has signed out, or the program looks at another place.",
    "Sign in.",
)
PLAIN_TEXT = _add(
    21,
    "The tokens are in plain text",
    "The file is not encrypted. Each program of this user, the administrator, and each backup of"
    " the file has the tokens, and can use the accounts.",
    "Move them: python -m msal_extensions migrate FROM TO.",
    "docs/headless.md",
)
NO_HOME = _add(
    22,
    "There is no home directory",
    "The path begins with ~, and this user has no home directory.",
    "Set the environment variable HOME (on Windows USERPROFILE), or give a path without ~.",
)
DIRECTORY_MISSING = _add(
    23,
    "The directory is missing",
    "The directory of the file does not exist, or its drive, or the working directory of the"
    " program; or a symbolic link at the location leads nowhere.",
    "Make the directory, or choose another location.",
)
NAME_TAKEN = _add(
    24,
    "The name cannot be used",
    "Something else has the name: a directory, a link, a pipe or a device where the file belongs,"
    " or a file where a directory belongs. Or the name is too long, or the system allows no such"
    " name.",
    "Remove what has that name, or choose another location.",
)
DENIED = _add(
    25,
    "The permissions forbid it",
    "This user may not read or write the file or its directory. Besides permissions that may be an"
    " attribute of the file, a sandbox, or a security program.",
    "Check the permissions of the file and of its directory.",
)
READ_ONLY = _add(
    26,
    "The file system is read-only",
    "The disk is mounted read-only, by intention or after a fault.",
    "Choose a location on a file system that you may write to.",
)
NOT_TRUSTED = _add(
    27,
    "Another user's link or file is in the way",
    "A symbolic link or a file of another user is at the location, in a place where that user"
    " could have put it to get your tokens. It was neither followed nor used.",
    "Remove it, or choose a location in a directory that only you may write to.",
    "SECURITY.md",
)
DISK_FULL = _add(
    28,
    "The disk is full",
    "No space is left on the disk, or your quota is used up.",
    "Free some space on that disk.",
)
DISK_FAILS = _add(
    29,
    "The disk fails",
    "The disk, or the server of a network file system, reported a fault.",
    "See whether that disk is healthy.",
)
TOO_LARGE = _add(
    30,
    "The file is too large",
    "The file is larger than any token cache (256 MiB), so it is none; or this process may not"
    " write such a large file (ulimit -f).",
    "Give the path of another file, or raise the limit.",
)
TOO_MANY_OPEN = _add(
    31,
    "There are too many open files or threads, or too little memory",
    "The program, the user or the machine has reached a limit.",
    "End some programs, or raise the limit (ulimit -n, ulimit -u).",
)
INTERRUPTED = _add(
    32,
    "Signals kept coming",
    "A hundred signals, one after the other, interrupted an operation.",
    "Try again.",
)
SERVER_SILENT = _add(
    33,
    "The server of the file system did not answer",
    "The file is on a network file system, and its server did not answer in time.",
    "See whether the server answers; then try again.",
)
OPEN_TO_OTHERS = _add(
    34,
    "Other users may get at the file",
    "The permissions of the file or of its directory let other users read or replace it.",
    "Run: chmod go-rwx FILE, and chmod go-w DIRECTORY.",
    "SECURITY.md",
)
COPIES_LEFT = _add(
    35,
    "Copies with tokens were left behind",
    "Files beside the cache hold tokens: a damaged content that was put aside, a file whose key"
    " was lost, or what a killed program left.",
    "Remove them when you do not need them as evidence.",
)
CLOCK = _add(
    36,
    "The time of a file is in the future",
    "The clock of this machine was wrong when the file was saved, or is wrong now. A program that"
    " has a wrong time takes tokens for valid that have expired, or the other way round.",
    "Set the clock: timedatectl set-ntp true.",
)

# ---- what is stored ----

DAMAGED = _add(
    40,
    "The stored content is damaged",
    "What is stored is no text that was saved: another program wrote it, or the disk damaged it.",
    "Remove it (python -m msal_extensions clear PLACE), and sign in again.",
)
CACHE_DAMAGED = _add(
    41,
    "The token cache is damaged",
    "What is stored is text, but no token cache. Programs without a lock, and programs that were"
    " killed while they wrote the file in place, leave such content.",
    'Remove it and sign in again; or let PersistedTokenCache(..., on_unreadable="quarantine") put'
    " it aside.",
)
TORN = _add(
    42,
    "A save failed half-way",
    "The file had to be written in place, because it is a mount point or its directory is"
    " read-only, and the write failed. What was stored before is damaged now.",
    "Mend the cause, then save again; or delete the file, and sign in again.",
)
NOT_KEPT = _add(
    43,
    "The store returns something else than was saved",
    "A save ended without an error, and a load just after it returned another content. The disk,"
    " the keyring, or a program that changes what is stored does not work as it should.",
    "Choose another location, on another disk, or another kind of store.",
)

# ---- the keys of encrypted files ----

KEY_UNAVAILABLE = _add(
    50,
    "There is no key",
    "The machine offers no source of keys, or the source gives none: no kernel keyring (as in most"
    " containers) or a full one, a key file or a credential that is not mounted or has no key in"
    " it, a command that fails.",
    "Give the program a key file: MSAL_EXTENSIONS_KEY_FILE=/path/to/key; openssl rand -base64 32"
    " makes one.",
    "docs/headless.md",
)
KEY_FILE_NOT_TRUSTED = _add(
    51,
    "Other users may read or change the key file",
    "The permissions let other users at the key file. A user that reads the key can decrypt, and a"
    " user that changes it can plant a known key. So it was not used.",
    "Run chmod 600 for it, and chown to the user of this program.",
    "docs/headless.md",
)
KEY_LOST_AT_REBOOT = _add(
    52,
    "The key went with a reboot",
    "The kernel kept the key in memory, and the machine was started anew since. The key is gone.",
    "Remove the file and sign in again. A key file or a credential of systemd survives a reboot.",
    "docs/headless.md",
)
KEY_EXPIRED = _add(
    53,
    "The kernel has removed the key",
    "The kernel keeps a key for three days without use, as a rule. The key is gone.",
    "Remove the file and sign in again. A key file or a credential of systemd does not expire.",
    "docs/headless.md",
)
KEY_IN_OTHER_NAMESPACE = _add(
    54,
    "The key is outside this container",
    "The kernel keeps the key in another user namespace.",
    "Run the program where the file was saved; or remove the file and sign in again.",
    "docs/headless.md",
)
KEY_WRONG = _add(
    55,
    "This is not the key of the file",
    "The file was encrypted with another key, by another user, or under another name; or somebody"
    " has removed the key.",
    "Give the key that it was encrypted with, or restore it. If it is lost, remove the file and"
    " sign in again.",
    "docs/encrypted-file.md",
)
ENCRYPTED_DAMAGED = _add(
    56,
    "The encrypted file is damaged, or somebody has changed it",
    "The key is the right one, but the content is not what was saved.",
    "Restore a backup; or remove the file and sign in again.",
    "docs/encrypted-file.md",
)
ENCRYPTED_UNKNOWN = _add(
    57,
    "A newer version has made the encrypted file",
    "The file has a format that this version does not know. It was not changed.",
    "Install the newer version of this package.",
    "docs/encrypted-file.md",
)
NOT_ENCRYPTED = _add(
    58,
    "Something else is in the place of the encrypted file",
    "The file has plain text, or belongs to another program. It was kept.",
    "Move it away. If it is a token cache, do: python -m msal_extensions migrate FROM TO.",
    "docs/encrypted-file.md",
)
KEY_BESIDE = _add(
    59,
    "The key lies beside the encrypted file",
    "A copy of the directory has both the file and its key, so the encryption protects nothing.",
    "Keep the key in another directory, one that is in no backup of this one.",
    "docs/headless.md",
)

# ---- the lock ----

LOCK_BUSY = _add(
    60,
    "Somebody else holds the lock",
    "Another program, or another part of this one, works on the cache, and did not end within the"
    " timeout. The message names it, if it left its name.",
    "Try again. If it always fails, see what that program waits for.",
)
LOCK_LOST = _add(
    61,
    "The lock was lost",
    "Somebody removed the lock file while this program held the lock, so another program may have"
    " saved at the same time.",
    "Do it again. Let nobody remove lock files: they go by themselves.",
)
LOCK_ORDER = _add(
    62,
    "The program asked for locks in a wrong order",
    "Two parts of the program, or two programs, could have waited for each other for ever. So the"
    " lock was refused at once.",
    "Correct the program as the message says.",
    "docs/asyncio.md",
)
LOCK_NOT_HELD = _add(
    63,
    "The lock is not held",
    "The program released a lock that it does not hold, or that its parent process holds.",
    "Correct the program: release a lock once, in the process that acquired it.",
)
LOCK_FILE = _add(
    64,
    "The lock file cannot be made",
    "The lock file, beside the cache as a rule, could not be made or opened. The message has the"
    " words of the system.",
    "Choose another lock_location, in a directory on a local disk that you may write to.",
)
STORE_CHANGED = _add(
    65,
    "Somebody else saved at the same moment",
    "Another program changed the content between our read and our save, and did so at each try."
    " This save stored nothing.",
    "Do it again. If it always fails, see which program saves all the time.",
)
LOCK_LEFT = _add(
    66,
    "A lock file was left behind",
    "A program was killed while it held the lock. The next program takes the file over.",
    "Nothing has to be done.",
)
LOCK_REENTERED = _add(
    67,
    "This thread has the lock already",
    "A part of the program asks for a lock that the same thread holds or waits for: inside a with,"
    " in a signal handler, or in a finalizer. It would wait for itself, so the lock was refused at"
    " once.",
    "Correct the program: take the lock once, or make the outer one with reentrant=True.",
)

# ---- the installation ----

NATIVE_MISSING = _add(
    70,
    "The native library cannot be loaded",
    "The file _msalex of this package is missing, or is for another Python, processor or system;"
    " or cffi is missing.",
    "Install the package again: pip install --force-reinstall --no-deps"
    ' "msal-extensions==1.3.1+native1".',
    "docs/install.md",
)
OVERWRITTEN = _add(
    71,
    "Other files are in the place of ours",
    "Another distribution of msal-extensions, as a rule the pure-Python one, was installed over"
    " this one; or somebody has changed or removed files of it.",
    "Install the package again: pip install --force-reinstall --no-deps"
    ' "msal-extensions==1.3.1+native1".',
    "docs/install.md",
)
OTHER_MSAL = _add(
    72,
    "The version of MSAL does not fit",
    "This package needs msal>=1.29,<2 and finds another one, or none.",
    'Install one that fits: pip install "msal>=1.29,<2".',
    "docs/install.md",
)
NO_CRYPTOGRAPHY = _add(
    73,
    "The package cryptography is missing or does not work",
    "Encrypted files need it, and so does MSAL.",
    "Install it: pip install --force-reinstall cryptography.",
    "docs/install.md",
)
SETTING = _add(
    74,
    "A setting has a value without a meaning",
    "An environment variable that begins with MSAL_EXTENSIONS_ has a value that this package does"
    " not know, or a name that it does not know.",
    "Correct or unset the variable that the message names.",
    "docs/headless.md",
)

# ---- the command ----

NOT_CONFIRMED = _add(
    80,
    "Nobody has confirmed it",
    "The command removes something, and asks before. There is no terminal to ask on, or the answer"
    " was no. Nothing was changed.",
    "Answer yes, or give --yes.",
)
TARGET_IN_USE = _add(
    81,
    "There are other tokens already where they should go",
    "The place to migrate to is not empty, and has not the same content. Nothing was changed.",
    "Clear one of the two places: python -m msal_extensions clear PLACE.",
)
BAD_PLACE = _add(
    82,
    "There is no such place",
    "The command knows az, identity, identity:NAME, a path, and a kind and a path, such as"
    " encrypted:PATH.",
    "See: python -m msal_extensions --help.",
)
UNKNOWN_REFERENCE = _add(
    83,
    "There is no such reference",
    "References are MSX-01 and so on.",
    "List them all: python -m msal_extensions explain.",
)
NO_CACHE = _add(
    84,
    "There is no token cache in that file",
    "The file has none of the marks of a token cache, or belongs to a place of another kind. So the"
    " command did not remove it.",
    "Check the path. If you are sure, remove the file yourself.",
)
OTHER_KIND = _add(
    85,
    "The command does not work on a place of that kind",
    "Only encrypted files have a key that rekey can change. A keyring, Windows and a plain file"
    " have none.",
    "Give the path of an encrypted file: encrypted:PATH.",
    "docs/encrypted-file.md",
)
SAME_PLACE = _add(
    86,
    "The two places are one",
    "What would be removed from the first place is what was saved in the second one: they share a"
    " file, perhaps through a link, or an item of a keyring. Nothing was changed.",
    "Give another place; or go by way of a third one, in two steps.",
)
