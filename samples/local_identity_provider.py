"""An OpenID-Connect provider on loopback, shaped like Microsoft Entra v2.0.

Purpose: programs that use MSAL, and the tests of this package, can talk to a real provider
(sockets, TLS, signed tokens, rotating refresh tokens) without a tenant, DNS or the internet.

    with LocalIdentityProvider() as provider:
        app = msal.ConfidentialClientApplication(
            provider.client_id, client_credential=provider.client_secret,
            authority=provider.authority, verify=provider.certificate,
            instance_discovery=False)  # otherwise MSAL asks Microsoft whether it knows this host
        app.acquire_token_for_client(["https://graph.microsoft.com/.default"])

It speaks OpenID Connect Discovery 1.0; client credentials, RFC 6749 section 4.4; refresh tokens,
section 6, each good for one use; device authorization, RFC 8628.

Not promised: it has no passwords. Anybody that reaches the loopback interface and knows a device
code can sign in as any user, so it is for demonstrations and tests only. It has no
authorization-code grant, and takes client secrets in the body only, as MSAL sends them. It logs
nothing, because a request carries a secret, and its answer a token.
"""

from __future__ import annotations

import base64
import datetime
import hmac
import html
import http.server
import ipaddress
import json
import os
import re
import secrets
import signal
import socket
import socketserver
import ssl
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_GRANTS = {  # grant_type on the wire -> its name in token_requests
    "client_credentials": "client_credentials",
    "refresh_token": "refresh_token",
    "urn:ietf:params:oauth:grant-type:device_code": "device_code",
}
# AADSTS code -> HTTP status, error (RFC 6749 section 5.2, RFC 8628 section 3.5), Entra's words.
_ERRORS = {
    50173: (
        400,
        "invalid_grant",
        "The provided grant has expired due to it being revoked, a fresh auth token is needed.",
    ),
    70000: (400, "invalid_grant", "The provided value for the 'refresh_token' is not valid."),
    70003: (400, "unsupported_grant_type", "The app requested an unsupported grant type."),
    70016: (
        400,
        "authorization_pending",
        "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
    ),
    70019: (400, "invalid_grant", "The device code is not known or was used."),
    70020: (400, "expired_token", "The device code has expired."),
    90002: (
        400,
        "invalid_tenant",
        "Tenant '{}' not found. Check to make sure you have the correct "
        "tenant ID and are signing into the correct cloud. Check with your subscription "
        "administrator, this may happen if there are no active subscriptions for the tenant.",
    ),
    700016: (
        400,
        "unauthorized_client",
        "Application with identifier '{}' was not found in the directory '{}'.",
    ),
    900144: (404, "invalid_request", "There is nothing at this address."),
    1002012: (
        400,
        "invalid_scope",
        "The provided value for scope {} is not valid. Client "
        "credential flows must have a scope value with /.default suffixed to the resource "
        "identifier (application ID URI).",
    ),
    7000215: (
        401,
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent "
        "in the request is the client secret value, not the client secret ID, for a secret "
        "added to app '{}'.",
    ),
    7000218: (
        401,
        "invalid_client",
        "The request body must contain the following parameter: "
        "'client_assertion' or 'client_secret'.",
    ),
}
_USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628 section 6.1: no vowels, so no words
_DEVICE_CODE_LIFETIME = 900
_LARGEST_BODY = 64 * 1024


class _RefusedError(Exception):
    """A request that is answered with the error of this AADSTS code."""

    def __init__(self, code: int, *details: str) -> None:
        self.status, error, text = _ERRORS[code]
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
        ids = {"trace_id": str(uuid.uuid4()), "correlation_id": str(uuid.uuid4())}
        description = (
            f"AADSTS{code}: {text.format(*details)} Trace ID: {ids['trace_id']} "
            f"Correlation ID: {ids['correlation_id']} Timestamp: {now}"
        )
        self.body: dict[str, Any] = {
            "error": error,
            "error_description": description,
            "error_codes": [code],
            "timestamp": now,
            **ids,
        }


@dataclass
class _Grant:
    """A permission that a user gave to a client; username is None while a device code waits for
    approval."""

    client_id: str
    scope: str
    username: str | None = None
    user_code: str = ""
    expires_at: float = 0.0
    revoked: bool = False


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _write_secret(path: Path, content: bytes) -> None:
    """Create path for the owner alone from its first byte; it must not exist."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _self_signed(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate for localhost and the TLS context that serves it.

    It has every field that RFC 5280 asks of a CA, for clients that verify strictly. The key is on
    disk only while OpenSSL reads it, because OpenSSL reads keys from files only.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "local identity provider")])
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    unused = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (x509.KeyUsage(digital_signature=True, key_cert_sign=True, **unused), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([x509.DNSName("localhost"), loopback]), False),
        (key_id, False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), False),
    ]
    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - day, now + 7 * day
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    certificate = directory / "certificate.pem"
    certificate.write_bytes(
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    key_file = directory / "key.pem"
    _write_secret(
        key_file,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key_file)
    finally:
        key_file.unlink()
    return certificate, context


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # the default backlog, 5, is too short for 64 clients at once

    def __init__(self, provider: LocalIdentityProvider, context: ssl.SSLContext) -> None:
        self.provider = provider
        super().__init__(("127.0.0.1", 0), _Handler)
        # The handshake waits for the client, so each client's own thread does it.
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's looks up 127.0.0.1 in DNS
        self.server_name, self.server_port = "localhost", self.socket.getsockname()[1]

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that went away is no error
            super().handle_error(cast(socket.socket, request), client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # of an idle connection
    wbufsize = -1  # header and body leave together

    def setup(self) -> None:
        super().setup()
        cast(ssl.SSLSocket, self.connection).do_handshake()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: see the module's docstring."""

    def do_GET(self) -> None:
        self._respond({})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LARGEST_BODY:
            self.send_error(413)  # closes the connection as well
            return
        self._respond(dict(parse_qsl(self.rfile.read(int(length)).decode("ascii", "replace"))))

    def _respond(self, form: dict[str, str]) -> None:
        provider = cast(_Server, self.server).provider
        if provider.closing.is_set():  # a client kept this connection open
            self.close_connection = True
            return
        path, _, _ = self.path.partition("?")
        answer: dict[str, Any] | str
        try:
            status, answer = 200, provider.answer(f"{self.command} {path}", form)
        except _RefusedError as refused:
            status, answer = refused.status, refused.body
        kind, text = ("html", answer) if isinstance(answer, str) else ("json", json.dumps(answer))
        self.send_response(status)
        self.send_header("Content-Type", {"html": "text/html", "json": "application/json"}[kind])
        self.send_header("Content-Length", str(len(text.encode())))
        self.send_header("Cache-Control", "no-store")  # RFC 6749 section 5.1
        self.end_headers()
        self.wfile.write(text.encode())


class LocalIdentityProvider:
    """One tenant with one application; use it as a context manager.

    authority       give it to MSAL as authority=
    b2c_authority   the same under a path of Azure AD B2C's form, which MSAL takes on any host
                    without instance_discovery=False
    certificate     PEM file to trust: MSAL's verify=, or REQUESTS_CA_BUNDLE (which wins over it)
    response_delay  seconds before the token endpoint answers; may be changed at any time
    token_lifetime  of new access tokens, in seconds; MSAL uses one until 5 minutes before its end
    """

    def __init__(
        self,
        tenant: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        token_lifetime: int = 3600,
        response_delay: float = 0.0,
    ) -> None:
        self.tenant = tenant or str(uuid.uuid4())
        self.client_id = client_id or str(uuid.uuid4())
        self.client_secret = client_secret or secrets.token_urlsafe(30)
        self.token_lifetime, self.response_delay = token_lifetime, response_delay
        self._lock = threading.Lock()  # guards the next three attributes
        self._token_requests: Counter[str] = Counter()
        self._devices: dict[str, _Grant] = {}
        self._refresh_tokens: dict[str, _Grant] = {}
        self._signing_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._key_id = str(uuid.uuid4())
        self._directory = tempfile.TemporaryDirectory(prefix="local-identity-provider-")
        certificate, context = _self_signed(Path(self._directory.name))
        self.certificate = str(certificate)
        self._server = _Server(self, context)
        # A number, because a bare Debian 12 has no /etc/hosts that knows the name "localhost".
        self._origin = f"https://127.0.0.1:{self._server.server_port}"
        self.authority = f"{self._origin}/{self.tenant}"
        self.b2c_authority = f"{self.authority}/b2c_1_sign_in"
        self.closing = threading.Event()

    def __enter__(self) -> LocalIdentityProvider:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._directory.cleanup()

    @property
    def token_requests(self) -> Counter[str]:
        """The number of requests to the token endpoint, refused ones too, by kind:
        client_credentials, device_code, refresh_token, unsupported."""
        with self._lock:
            return self._token_requests.copy()

    def approve_device(self, user_code: str, username: str) -> None:
        """Act as the user: sign in as username and allow the device that shows user_code."""
        wanted = user_code.replace("-", "").strip().upper()
        with self._lock:
            for grant in self._devices.values():
                if grant.user_code == wanted and grant.expires_at > time.time():
                    grant.username = username
                    return
        raise LookupError("no device waits with this user code")

    def revoke_refresh_tokens(self) -> None:
        """End every sign-in: clients must ask their users again."""
        with self._lock:
            for grant in self._refresh_tokens.values():
                grant.revoked = True

    def answer(self, request: str, form: dict[str, str]) -> dict[str, Any] | str:
        """The document or page for a request "METHOD /path"; raises _RefusedError."""
        match = re.fullmatch(r"(GET|POST) (/([^/]+)(?:/b2c_[^/]+)?)/(.+)", request)
        if match is None:
            raise _RefusedError(900144)
        base = self._origin + match[2]
        if match[3].lower() != self.tenant.lower():
            raise _RefusedError(90002, match[3])
        match f"{match[1]} {match[4]}":
            case "GET v2.0/.well-known/openid-configuration":
                return self._metadata(base)
            case "GET discovery/v2.0/keys":
                return {"keys": [self._public_key()]}
            case "POST oauth2/v2.0/devicecode":
                return self._start_device(form, f"{base}/oauth2/deviceauth")
            case "GET oauth2/deviceauth" | "POST oauth2/deviceauth":
                return self._sign_in_page(form)
            case "POST oauth2/v2.0/token":
                return self._answer_token_request(form, f"{base}/v2.0")
        raise _RefusedError(900144)

    def _answer_token_request(self, form: dict[str, str], issuer: str) -> dict[str, Any]:
        with self._lock:
            self._token_requests[_GRANTS.get(form.get("grant_type", ""), "unsupported")] += 1
        try:
            return self._tokens(self._grant(form), issuer)
        finally:  # the answer is decided now and sent later, as over a slow network
            self.closing.wait(self.response_delay)

    def _metadata(self, base: str) -> dict[str, Any]:
        """OpenID Connect Discovery 1.0 section 3."""
        return {
            "issuer": f"{base}/v2.0",
            # Every provider must name one, and MSAL wants it, although this provider has no such
            # grant.
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def _public_key(self) -> dict[str, str]:
        """RFC 7517; e and n as RFC 7518 section 6.3.1 writes them."""
        numbers = self._signing_key.public_key().public_numbers()
        e, n = (
            _base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))
            for number in (numbers.e, numbers.n)
        )
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self._key_id, "e": e, "n": n}

    def _sign(self, claims: dict[str, Any]) -> str:
        """A JSON Web Token, RFC 7519."""
        header = {"typ": "JWT", "alg": "RS256", "kid": self._key_id}
        text = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = self._signing_key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_base64url(signature)}"

    def _check_client(self, form: dict[str, str], secret_needed: bool) -> None:
        client_id, secret = form.get("client_id", ""), form.get("client_secret")
        if client_id.lower() != self.client_id.lower():
            raise _RefusedError(700016, client_id, self.tenant)
        if secret is None and secret_needed:
            raise _RefusedError(7000218)
        if secret is not None and not hmac.compare_digest(
            secret.encode(), self.client_secret.encode()
        ):
            raise _RefusedError(7000215, self.client_id)

    def _start_device(self, form: dict[str, str], page: str) -> dict[str, Any]:
        """RFC 8628 sections 3.1 and 3.2."""
        self._check_client(form, secret_needed=False)
        device_code = secrets.token_urlsafe(48)
        user_code = "".join(secrets.choice(_USER_CODE_LETTERS) for _ in range(9))
        with self._lock:
            self._devices[device_code] = _Grant(
                form["client_id"],
                form.get("scope", ""),
                user_code=user_code,
                expires_at=time.time() + _DEVICE_CODE_LIFETIME,
            )
        message = f"To sign in, open {page} in a web browser and enter the code {user_code}."
        return {
            "user_code": user_code,
            "device_code": device_code,
            "verification_uri": page,
            "expires_in": _DEVICE_CODE_LIFETIME,
            "interval": 1,
            "message": message,
        }

    def _sign_in_page(self, form: dict[str, str]) -> str:
        """RFC 8628 section 3.3, the user's side."""
        said = "Enter the code that your device shows."
        if form:
            try:
                self.approve_device(form.get("user_code", ""), form.get("username", "somebody"))
                said = "Signed in: the device may go on."
            except LookupError as error:
                said = str(error)
        return (
            f"<!doctype html><title>Sign in</title><p>{html.escape(said)}</p>"
            "<form method=post><input name=user_code placeholder=Code>"
            "<input name=username placeholder=User><button>Allow</button></form>"
        )

    def _grant(self, form: dict[str, str]) -> _Grant:
        kind = _GRANTS.get(form.get("grant_type", ""))
        if kind is None:
            raise _RefusedError(70003)
        self._check_client(form, secret_needed=kind == "client_credentials")
        if kind == "device_code":
            return self._device_grant(form.get("device_code", ""))
        if kind == "refresh_token":
            grant = self._refresh_grant(form.get("refresh_token", ""))
            return replace(grant, scope=form.get("scope", grant.scope))
        if not form.get("scope", "").endswith("/.default"):
            raise _RefusedError(1002012, form.get("scope", ""))
        return _Grant(form["client_id"], form["scope"])

    def _device_grant(self, device_code: str) -> _Grant:
        """RFC 8628 sections 3.4 and 3.5; an approved code is good for one use."""
        with self._lock:
            grant = self._devices.get(device_code)
            if grant is None:
                raise _RefusedError(70019)
            if grant.expires_at <= time.time():
                raise _RefusedError(70020)
            if grant.username is None:
                raise _RefusedError(70016)
            return self._devices.pop(device_code)

    def _refresh_grant(self, refresh_token: str) -> _Grant:
        """RFC 6749 section 6, with rotation: a refresh token is good for one use."""
        with self._lock:
            grant = self._refresh_tokens.pop(refresh_token, None)
        if grant is None:
            raise _RefusedError(70000)
        if grant.revoked:
            raise _RefusedError(50173)
        return grant

    def _tokens(self, grant: _Grant, issuer: str) -> dict[str, Any]:
        """RFC 6749 section 5.1; for a user also a refresh token, id token and client_info."""
        now, lifetime, scopes = int(time.time()), self.token_lifetime, grant.scope.split()
        claims: dict[str, Any] = {
            "iss": issuer,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "tid": self.tenant,
            "ver": "2.0",
            "sub": grant.client_id,
        }
        result = {"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime}
        if grant.username is not None:
            user = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.tenant}/{grant.username.lower()}"))
            claims.update(
                sub=user, oid=user, name=grant.username, preferred_username=grant.username
            )
            client_info = json.dumps({"uid": user, "utid": self.tenant})
            result.update(scope=grant.scope, client_info=_base64url(client_info.encode()))
            if "openid" in scopes:
                result["id_token"] = self._sign({**claims, "aud": grant.client_id})
            if "offline_access" in scopes:
                refresh_token = result["refresh_token"] = secrets.token_urlsafe(96)
                with self._lock:
                    self._refresh_tokens[refresh_token] = grant
        result["access_token"] = self._sign(  # jti: two tokens of the same second differ
            {**claims, "aud": "api", "scp": grant.scope, "jti": str(uuid.uuid4())}
        )
        return result


def main() -> int:
    """Serve until Ctrl-C. Print how to use the provider, but of the secret only its file's name."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the directory is removed
    try:
        with LocalIdentityProvider() as provider:
            secret = Path(provider.certificate).with_name("client_secret")
            _write_secret(secret, provider.client_secret.encode())
            print(f"export AUTHORITY={provider.authority} CLIENT_ID={provider.client_id}")
            print(f"export CLIENT_SECRET=\"$(cat '{secret}')\"")
            print(f"export REQUESTS_CA_BUNDLE='{provider.certificate}'")
            print("# Serving until Ctrl-C; give these lines to another shell.", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
