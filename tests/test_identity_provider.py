"""The loopback provider of samples/ behaves as Microsoft Entra does."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import msal
import pytest
import requests

from samples.local_identity_provider import LocalIdentityProvider
from tests.support.capability import requires
from tests.support.provider import SAMPLES, SCOPES
from tests.support.provider import provider_fixture as provider_fixture

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


def post(
    provider: LocalIdentityProvider, path: str, tenant: str | None = None, **form: str
) -> requests.Response:
    base = provider.authority.replace(provider.tenant, tenant or provider.tenant)
    form.setdefault("client_id", provider.client_id)
    return requests.post(f"{base}/oauth2/v2.0/{path}", data=form, timeout=30)


def client_credentials(provider: LocalIdentityProvider, **form: str) -> requests.Response:
    form = {"client_secret": provider.client_secret, "scope": SCOPES[0], **form}
    return post(provider, "token", grant_type="client_credentials", **form)


def sign_in(provider: LocalIdentityProvider) -> dict[str, Any]:
    flow = post(provider, "devicecode", scope="openid profile offline_access User.Read").json()
    provider.approve_device(flow["user_code"], "ann@example.org")
    code = flow["device_code"]
    result = post(provider, "token", grant_type=DEVICE_CODE, device_code=code).json()
    assert isinstance(result, dict)
    return result


def refresh(provider: LocalIdentityProvider, token: str) -> requests.Response:
    return post(provider, "token", grant_type="refresh_token", refresh_token=token)


def assert_refused(answer: requests.Response, status: int, error: str, code: int) -> None:
    body = answer.json()
    assert (answer.status_code, body["error"], body["error_codes"]) == (status, error, [code])
    assert body["error_description"].startswith(f"AADSTS{code}: ")
    assert {"timestamp", "trace_id", "correlation_id"} <= body.keys()


def public_app(
    provider: LocalIdentityProvider, verify: str | bool = True
) -> msal.PublicClientApplication:
    return msal.PublicClientApplication(
        provider.client_id, authority=provider.authority, verify=verify, instance_discovery=False
    )


def msal_sign_in(
    provider: LocalIdentityProvider, app: msal.PublicClientApplication
) -> dict[str, Any]:
    flow = app.initiate_device_flow(["User.Read"])
    provider.approve_device(flow["user_code"], "ann@example.org")
    result = app.acquire_token_by_device_flow(flow)
    assert isinstance(result, dict)
    return result


def test_msal_gets_a_token_for_a_client_and_then_finds_it_in_its_cache(
    provider: LocalIdentityProvider,
) -> None:
    app = msal.ConfidentialClientApplication(
        provider.client_id,
        client_credential=provider.client_secret,
        authority=provider.authority,
        instance_discovery=False,
    )
    first, second = (app.acquire_token_for_client(SCOPES) for _ in range(2))
    assert (first["token_source"], second["token_source"]) == ("identity_provider", "cache")
    assert first["access_token"] == second["access_token"]
    assert provider.token_requests == {"client_credentials": 1}


def test_verify_alone_makes_msal_trust_it_where_no_variable_says_otherwise(
    provider: LocalIdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert public_app(provider, verify=provider.certificate).authority.tenant == provider.tenant
    with pytest.raises(requests.exceptions.SSLError):
        public_app(provider)


def test_msal_signs_a_user_in_by_device_code(provider: LocalIdentityProvider) -> None:
    app = public_app(provider)
    result = msal_sign_in(provider, app)
    assert result["id_token_claims"]["preferred_username"] == "ann@example.org"
    [account] = app.get_accounts()
    assert account["username"] == "ann@example.org"
    assert account["home_account_id"].endswith(f".{provider.tenant}")
    assert app.acquire_token_silent(["User.Read"], account)["token_source"] == "cache"


def test_msal_renews_an_expired_token_with_each_new_refresh_token(
    provider: LocalIdentityProvider,
) -> None:
    provider.token_lifetime = 60  # MSAL treats a token as expired 5 minutes before its end
    app = public_app(provider)
    msal_sign_in(provider, app)
    [account] = app.get_accounts()
    for renewals in (1, 2, 3):
        result = app.acquire_token_silent(["User.Read"], account)
        assert result["token_source"] == "identity_provider"
        assert provider.token_requests["refresh_token"] == renewals


def test_its_tokens_are_signed_by_the_key_it_publishes(provider: LocalIdentityProvider) -> None:
    result = sign_in(provider)
    document = f"{provider.authority}/v2.0/.well-known/openid-configuration"
    metadata = requests.get(document, timeout=30).json()
    [key] = requests.get(metadata["jwks_uri"], timeout=30).json()["keys"]
    for token, audience in (
        (result["id_token"], provider.client_id),
        (result["access_token"], "api"),
    ):
        assert jwt.get_unverified_header(token)["kid"] == key["kid"]
        claims = jwt.decode(
            token,
            jwt.PyJWK(key).key,
            algorithms=["RS256"],
            audience=audience,
            issuer=metadata["issuer"],
        )
        assert claims["tid"] == provider.tenant


def test_its_certificate_passes_strict_verification_for_both_names(
    provider: LocalIdentityProvider,
) -> None:
    context = ssl.create_default_context(cafile=provider.certificate)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default since Python 3.13
    port = urlsplit(provider.authority).port
    for name in ("localhost", "127.0.0.1"):
        with (
            socket.create_connection(("127.0.0.1", port or 0)) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            assert secure.version() in ("TLSv1.2", "TLSv1.3")


@requires("os.fork")
def test_no_private_key_lies_on_disk_and_nothing_does_afterwards() -> None:
    with LocalIdentityProvider() as provider:
        directory = Path(provider.certificate).parent
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert [file.name for file in directory.iterdir()] == ["certificate.pem"]
    assert not directory.exists()


def test_it_listens_on_one_loopback_address_only(provider: LocalIdentityProvider) -> None:
    port = urlsplit(provider.authority).port or 0
    with pytest.raises(ConnectionRefusedError):  # on this machine too, but at another address
        socket.create_connection(("127.0.0.2", port), 5)


@pytest.mark.parametrize("secret", ["", "wrong", "schlüssel"])
def test_a_wrong_secret_is_refused_as_entra_does(
    provider: LocalIdentityProvider, secret: str
) -> None:
    answer = client_credentials(provider, client_secret=secret)
    # An empty parameter counts as no parameter, RFC 6749 section 3.1
    assert_refused(answer, 401, "invalid_client", 7000215 if secret else 7000218)


def test_an_unknown_client_is_refused_as_entra_does(provider: LocalIdentityProvider) -> None:
    answer = client_credentials(provider, client_id="stranger")
    assert_refused(answer, 400, "unauthorized_client", 700016)


def test_a_scope_without_default_is_refused_as_entra_does(provider: LocalIdentityProvider) -> None:
    answer = client_credentials(provider, scope="User.Read")
    assert_refused(answer, 400, "invalid_scope", 1002012)


def test_an_unknown_tenant_is_refused_everywhere_as_entra_does(
    provider: LocalIdentityProvider,
) -> None:
    elsewhere = provider.authority.replace(provider.tenant, "nowhere")
    document = requests.get(f"{elsewhere}/v2.0/.well-known/openid-configuration", timeout=30)
    for answer in (
        document,
        post(provider, "token", tenant="nowhere"),
        post(provider, "devicecode", tenant="nowhere"),
    ):
        assert_refused(answer, 400, "invalid_tenant", 90002)
        said = answer.json()["error_description"]
        assert said.startswith("AADSTS90002: Tenant 'nowhere' not found.")
    assert not provider.token_requests


def test_nonsense_is_refused_and_the_connection_goes_on(provider: LocalIdentityProvider) -> None:
    with requests.Session() as session:
        for _ in range(2):
            assert session.get(f"{provider.authority}/nothing", timeout=30).status_code == 404
            assert session.post(f"{provider.authority}/nothing", timeout=30).status_code == 404
    answer = post(provider, "token", grant_type="password")
    assert_refused(answer, 400, "unsupported_grant_type", 70003)


def test_a_body_without_end_is_refused_before_it_is_read(provider: LocalIdentityProvider) -> None:
    # The answer may be lost when the provider closes the connection while the client still sends.
    with contextlib.suppress(requests.exceptions.ConnectionError):
        assert post(provider, "token", padding="x" * 1_000_000).status_code == 413
    assert client_credentials(provider).status_code == 200


def test_a_device_waits_until_its_user_approves_and_its_code_works_once(
    provider: LocalIdentityProvider,
) -> None:
    flow = post(provider, "devicecode", scope="openid").json()
    form = {"grant_type": DEVICE_CODE, "device_code": flow["device_code"]}
    for _ in range(2):
        assert_refused(post(provider, "token", **form), 400, "authorization_pending", 70016)
    with pytest.raises(LookupError):
        provider.approve_device("no such code", "ann@example.org")
    provider.approve_device(flow["user_code"].lower(), "ann@example.org")
    assert "access_token" in post(provider, "token", **form).json()
    assert_refused(post(provider, "token", **form), 400, "invalid_grant", 70019)
    assert provider.token_requests == {"device_code": 4}


def test_a_user_can_approve_a_device_on_the_sign_in_page(provider: LocalIdentityProvider) -> None:
    flow = post(provider, "devicecode", scope="openid").json()
    page = flow["verification_uri"]
    assert "<form method=post>" in requests.get(page, timeout=30).text
    wrong = {"user_code": "<b>", "username": "<b>"}
    assert "<b>" not in requests.post(page, data=wrong, timeout=30).text
    right = {"user_code": flow["user_code"], "username": "ann@example.org"}
    assert "Signed in" in requests.post(page, data=right, timeout=30).text
    answer = post(provider, "token", grant_type=DEVICE_CODE, device_code=flow["device_code"])
    assert answer.status_code == 200


def test_a_refresh_token_works_once_also_when_many_present_it_at_once(
    provider: LocalIdentityProvider,
) -> None:
    token = sign_in(provider)["refresh_token"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: refresh(provider, token), range(8)))
    [winner] = [answer for answer in answers if answer.status_code == 200]
    for answer in answers:
        if answer is not winner:
            assert_refused(answer, 400, "invalid_grant", 70000)
    assert refresh(provider, winner.json()["refresh_token"]).status_code == 200


def test_a_revoked_refresh_token_is_refused(provider: LocalIdentityProvider) -> None:
    token = sign_in(provider)["refresh_token"]
    provider.revoke_refresh_tokens()
    assert_refused(refresh(provider, token), 400, "invalid_grant", 50173)


def test_64_clients_are_served_side_by_side(provider: LocalIdentityProvider) -> None:
    provider.response_delay = 2.0
    barrier, clients = threading.Barrier(64), 64

    def client(_: int) -> str:
        barrier.wait()
        return str(client_credentials(provider).json()["access_token"])

    start = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        tokens = set(pool.map(client, range(clients)))
    assert len(tokens) == clients
    assert provider.token_requests == {"client_credentials": clients}
    assert 2.0 <= time.monotonic() - start < 20  # one request after the other would take 128 s


def test_once_closed_it_answers_nobody_also_on_connections_that_were_kept(tmp_path: Path) -> None:
    with requests.Session() as session:
        session.trust_env = False
        with LocalIdentityProvider() as provider:
            address = f"{provider.authority}/discovery/v2.0/keys"
            session.verify = str(shutil.copy(provider.certificate, tmp_path))
            session.get(address, timeout=30).raise_for_status()
        with pytest.raises(requests.exceptions.ConnectionError):
            session.get(address, timeout=30)


def test_64_clients_may_knock_before_the_first_is_let_in() -> None:
    provider = LocalIdentityProvider()
    port = urlsplit(provider.authority).port or 0
    with contextlib.ExitStack() as clients:
        for _ in range(64):  # with a full backlog a request waits for a second or more
            clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=0.9))
    with provider:
        pass


def test_a_client_that_never_speaks_holds_up_nobody(provider: LocalIdentityProvider) -> None:
    port = urlsplit(provider.authority).port or 0
    with socket.create_connection(("127.0.0.1", port)):
        time.sleep(0.1)
        assert client_credentials(provider).status_code == 200


def test_neither_requests_nor_broken_connections_are_logged(
    provider: LocalIdentityProvider, capfd: pytest.CaptureFixture[str]
) -> None:
    sign_in(provider)
    client_credentials(provider, client_secret="wrong")
    provider.response_delay = 0.3
    with pytest.raises(requests.exceptions.Timeout):
        requests.post(f"{provider.authority}/oauth2/v2.0/token", data={}, timeout=0.1)
    with socket.create_connection(("127.0.0.1", urlsplit(provider.authority).port or 0)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")  # without TLS
    time.sleep(0.5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@requires("os.fork")
def test_on_its_own_it_says_how_to_use_it_keeps_the_secret_in_a_file_and_leaves_nothing(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    server = subprocess.Popen(
        [sys.executable, SAMPLES / "local_identity_provider.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert server.stdout is not None
    try:
        said = "".join(
            iter(
                server.stdout.readline,
                "# Serving until Ctrl-C; give these lines to another shell.\n",
            )
        )
        script = f'{said}printf "%s\\n" "$AUTHORITY" "$CLIENT_ID" "$CLIENT_SECRET"'
        shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        authority, client_id, secret = shell.stdout.split()
        [file] = tmp_path.glob("*/client_secret")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        certificate = file.with_name("certificate.pem")
        assert secret not in said
        assert str(certificate) in said
        form = {
            "grant_type": "client_credentials",
            "scope": SCOPES[0],
            "client_id": client_id,
            "client_secret": secret,
        }
        with requests.Session() as session:
            session.trust_env = False  # otherwise REQUESTS_CA_BUNDLE would win over verify
            answer = session.post(
                f"{authority}/oauth2/v2.0/token", data=form, verify=str(certificate), timeout=30
            )
        assert answer.status_code == 200
        server.send_signal(number)
        assert server.communicate(timeout=30) == ("", "")
        assert server.returncode == status
        assert not list(tmp_path.iterdir())
    finally:
        server.kill()
        server.wait()
