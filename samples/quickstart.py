"""Get a token with MSAL, keep it on disk, and find it again in a second process.

    python samples/quickstart.py [--location FILE]

It uses CLIENT_ID, CLIENT_SECRET and AUTHORITY from the environment. When none of them is set, it
starts a provider of its own on loopback (local_identity_provider.py), with a cache that it removes
at the end. It never prints a token, only the beginning of its SHA-256.

The part to copy into your program is acquire_token().

Exit status: 0 when the second process found the token; 1 with one sentence that says what to do; 2
for a wrong command line; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from msal_extensions.persistence import BasePersistence
    from samples.local_identity_provider import LocalIdentityProvider

VARIABLES = ("CLIENT_ID", "CLIENT_SECRET", "AUTHORITY")
SCOPES = ["https://graph.microsoft.com/.default"]
SOURCES = {"identity_provider": "the identity provider", "cache": "the cache"}
SET_AUTHORITY = "set AUTHORITY to https://login.microsoftonline.com/<tenant id or domain>."
REFUSALS = {
    "AADSTS90002": f"The tenant in AUTHORITY does not exist (AADSTS90002): {SET_AUTHORITY}",
    "AADSTS700016": "The tenant has no application CLIENT_ID (AADSTS700016): set CLIENT_ID to the "
    "application (client) ID that the registration shows, or AUTHORITY to its tenant.",
    "AADSTS7000215": "The provider does not accept CLIENT_SECRET (AADSTS7000215): set it to the "
    "value, not the ID, of a secret of the application CLIENT_ID.",
}


class UserError(Exception):
    """One sentence: what went wrong and what to do about it."""


def acquire_token(persistence: BasePersistence) -> tuple[str, str]:
    """Acquire a token; return where it came from, in MSAL's word, and a fingerprint."""
    import msal
    from requests.exceptions import RequestException

    from msal_extensions import PersistenceUnavailable

    authority = os.environ["AUTHORITY"]
    try:
        app = msal.ConfidentialClientApplication(
            os.environ["CLIENT_ID"],
            client_credential=os.environ["CLIENT_SECRET"],
            authority=authority,
            token_cache=persistence,  # this line keeps the tokens on disk
            # MSAL asks Microsoft about hosts that it does not know; Microsoft knows no loopback
            # host.
            instance_discovery=False if is_loopback(authority) else None,
            timeout=30,
        )
    except (ValueError, OSError, msal.exceptions.MsalError) as error:
        raise network_problem(error) from error
    try:
        result = app.acquire_token_for_client(SCOPES)
    except (RequestException, msal.exceptions.MsalError) as error:
        raise network_problem(error) from error
    except PersistenceUnavailable as error:
        raise no_encryption(error) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise storage_problem(persistence.get_location(), error) from error
    if "access_token" not in result:
        raise refusal(f"{result.get('error')}: {result.get('error_description')}")
    fingerprint = hashlib.sha256(result["access_token"].encode()).hexdigest()[:12]
    return result["token_source"], fingerprint


def choose_persistence(location: str) -> BasePersistence:
    """The keyring of this system; an encrypted file where there is none, as on a server."""
    from msal_extensions import PersistenceUnavailable, build_encrypted_persistence

    try:
        return build_encrypted_persistence(location, without_keyring="encrypted_file")
    except PersistenceUnavailable as error:
        raise no_encryption(error) from error
    except (OSError, ValueError) as error:
        raise storage_problem(location, error) from error


def description(persistence: BasePersistence) -> list[str]:
    """Where the tokens are, why there, and what their encryption is worth."""
    from msal_extensions import EncryptedFilePersistence

    if isinstance(persistence, EncryptedFilePersistence):
        return [f"Persistence: {persistence.choice}", f"Encrypted: {persistence.protection.value}"]
    name, where = type(persistence).__name__, persistence.get_location()
    return [f"Persistence: {name} at {where}.", "Encrypted: by this system for its user."]


def is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in ("localhost", "127.0.0.1")


def reason(error: BaseException) -> str:
    """The first sentence of an error's text; a remedy may follow it."""
    text = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return re.split(r"\.\s|\.?$", " ".join(text.split()), maxsplit=1)[0]


def storage_problem(location: str, error: BaseException) -> UserError:
    return UserError(
        f"Tokens cannot be kept at {location} ({reason(error)}): "
        "name a file with --location that you may read and write."
    )


def no_encryption(error: BaseException) -> UserError:
    return UserError(
        f"Tokens cannot be encrypted here ({reason(error)}): "
        "docs/headless.md says how to give this machine a key."
    )


def network_problem(error: BaseException) -> UserError:
    """The sentence for an error that MSAL raises when it cannot talk to the provider."""
    from requests.exceptions import RequestException, SSLError

    host = urlsplit(os.environ["AUTHORITY"]).hostname
    if isinstance(error, SSLError):
        return UserError(
            f"The certificate of {host} is not trusted: set REQUESTS_CA_BUNDLE to a "
            "PEM file with the certificate of its signer."
        )
    if isinstance(error, OSError) and not isinstance(error, RequestException):
        return UserError(f"TLS cannot start ({reason(error)}): correct REQUESTS_CA_BUNDLE.")
    if not isinstance(error, ValueError):
        return UserError(
            f"The provider at {host} does not answer ({type(error).__name__}): "
            "check AUTHORITY, the network and the proxy settings."
        )
    if "AADSTS" in str(error.__context__):  # only there MSAL keeps the provider's own words
        return refusal(str(error.__context__))
    return UserError(f"AUTHORITY is not the address of a tenant: {SET_AUTHORITY}")


def refusal(text: str) -> UserError:
    """The sentence for an error response of the provider."""
    for code in re.findall(r"AADSTS\d+", text):
        if code in REFUSALS:
            return UserError(REFUSALS[code])
    said = text.partition(" Trace ID:")[0].splitlines()[0].rstrip(".")
    said = said.replace(os.environ["CLIENT_SECRET"], "***")  # a provider may repeat the request
    return UserError(f"The provider refused ({said}): correct the application's registration.")


def second_process(location: str) -> int:
    """The work of --second-process: it gets the location and the variables, but not the token."""
    source, fingerprint = acquire_token(choose_persistence(location))
    print(json.dumps({"pid": os.getpid(), "source": source, "fingerprint": fingerprint}))
    return 0


def first_process(
    persistence: BasePersistence, location: str, provider: LocalIdentityProvider | None
) -> int:
    source, fingerprint = acquire_token(persistence)
    say("First process", os.getpid(), source, fingerprint)
    child = subprocess.run(  # noqa: S603  (this very script)
        [sys.executable, __file__, "--second-process", location],
        stdout=subprocess.PIPE,
        check=False,
    )
    if child.returncode:  # the child has printed the reason
        return child.returncode if child.returncode > 0 else 128 - child.returncode
    found = json.loads(child.stdout)
    say("Second process", **found)
    if (found["source"], found["fingerprint"]) != ("cache", fingerprint):
        raise UserError(
            f"The second process did not find this token at {persistence.get_location()}: check "
            "that nothing else removes it and that tokens live longer than 5 minutes."
        )
    print("It is the same token.")
    if provider is not None:
        requests = provider.token_requests.total()
        print(f"The provider counted {requests} token request{'s' * (requests != 1)}.")
        if requests != 1:
            raise UserError("One request should have been enough: please report this.")
    return 0


def say(who: str, pid: int, source: str, fingerprint: str) -> None:
    print(f"{who} ({pid}): token {fingerprint} from {SOURCES.get(source, source)}.", flush=True)


def default_location() -> str:
    local = os.environ.get("LOCALAPPDATA") if os.name == "nt" else None
    state = local or os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return str(Path(state) / "msal-extensions-quickstart" / "token_cache.bin")


def run(location: str | None) -> int:
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if 0 < len(missing) < len(VARIABLES):
        raise UserError(
            f"Of {', '.join(VARIABLES)} not set: {', '.join(missing)}; "
            "set all of them, or none to use a provider on loopback."
        )
    with contextlib.ExitStack() as at_end:
        provider = None
        if missing:
            # The module's name for a script beside it; type checkers know it as samples.*
            from local_identity_provider import (  # type: ignore[import-not-found]
                LocalIdentityProvider,
            )

            provider = at_end.enter_context(LocalIdentityProvider())
            os.environ.update(
                CLIENT_ID=provider.client_id,
                CLIENT_SECRET=provider.client_secret,
                AUTHORITY=provider.authority,
                REQUESTS_CA_BUNDLE=provider.certificate,
            )
            print(f"Provider: {provider.authority}, started for this demonstration.")
        temporary = bool(missing) and location is None
        if temporary:
            directory = at_end.enter_context(tempfile.TemporaryDirectory())
            location = str(Path(directory) / "token_cache.bin")
        location = location or default_location()
        persistence = choose_persistence(location)
        if temporary:
            at_end.callback(persistence.delete)  # the cache may be in a keyring
        for line in description(persistence):
            print(line, flush=True)
        return first_process(persistence, location, provider)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--location", metavar="FILE", help="where to keep the token cache")
    parser.add_argument("--second-process", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    bypass = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if bypass != "*":  # a proxy cannot reach the loopback interface of this computer
        bypass = ",".join(filter(None, [bypass, "localhost", "127.0.0.1"]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = bypass
    try:
        if options.second_process:
            return second_process(options.second_process)
        return run(options.location)
    except ImportError as error:
        problem = f"{reason(error)}: run `python -m pip install {Path(__file__).parents[1]}`."
    except UserError as error:
        problem = str(error)
    except OSError as error:
        problem = (
            f"The demonstration cannot run here ({reason(error)}): set TMPDIR to a "
            f"directory you may write, or set {', '.join(VARIABLES)}."
        )
    except KeyboardInterrupt:
        return 130
    print(f"quickstart: {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
