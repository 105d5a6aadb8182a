"""TLS files that are right, and every way in which they are not, each told in one line."""

import logging
import socket
import ssl
import threading
from pathlib import Path

import pytest

from exchange.errors import UserError
from exchange.tls import client_context, pinned_context, server_context
from tests.certificates import Certificate, make_certificate

KEYS = ("admin.tls_certificate", "admin.tls_key")


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """Over a pair of sockets; raises what the client has to say against it."""
    here, there = socket.socketpair()

    def serve() -> None:
        with there:
            try:
                with server.wrap_socket(there, server_side=True) as secured:
                    secured.recv(1)
            except OSError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with here, client.wrap_socket(here, server_hostname=name) as secured:
            secured.sendall(b"x")
    finally:
        here.close()
        thread.join()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def context_of(made: Certificate) -> ssl.SSLContext:
    context = server_context(str(made.certificate), str(made.key), KEYS)
    assert context is not None
    return context


def test_a_client_trusts_whom_it_was_told_and_only_under_the_right_name(
    made: Certificate, tmp_path: Path
) -> None:
    server, other = context_of(made), make_certificate(tmp_path, "other")
    trusting = client_context(str(made.certificate), "--ca")
    shake_hands(server, trusting, "localhost")
    shake_hands(server, trusting, "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(server, trusting, "elsewhere.example")
    for stranger in (client_context("", "--ca"), client_context(str(other.certificate), "--ca")):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(server, stranger, "localhost")


def test_a_pinned_certificate_is_right_under_any_name_and_no_other_is(
    made: Certificate, tmp_path: Path
) -> None:
    other = make_certificate(tmp_path, "other")
    chain = tmp_path / "chain"
    chain.write_text(made.certificate.read_text() + other.certificate.read_text())
    pinned = pinned_context(str(chain), "--admin-pin")
    shake_hands(context_of(made), pinned, "elsewhere.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(context_of(other), pinned, "other")


def test_without_files_there_is_no_tls() -> None:
    assert server_context("", "", KEYS) is None


@pytest.mark.parametrize(
    ("certificate", "key", "told"),
    [
        ("{made}", "", "admin.tls_key = '': must name a file, as admin.tls_certificate does"),
        ("", "{key}", "admin.tls_certificate = '': must name a file, as admin.tls_key does"),
        ("nothing", "{key}", "admin.tls_certificate = 'nothing': cannot be read: No such file"),
        ("{made}", "nothing", "admin.tls_key = 'nothing': cannot be read: No such file"),
        ("{folder}", "{key}", "cannot be read: Is a directory"),
        ("{key}", "{key}", "must be a certificate"),
        ("{made}", "{made}", "must be the certificate's private key"),
        ("{junk}", "{key}", "must be a certificate"),
        ("{made}", "{junk}", "must be the certificate's private key"),
        ("{made}", "{other}", "is not the key of the certificate"),
        ("{made}", "{locked}", "behind a passphrase"),
    ],
)
def test_a_mistake_is_told_with_its_key(
    made: Certificate, tmp_path: Path, certificate: str, key: str, told: str
) -> None:
    junk = tmp_path / "junk"
    junk.write_text("-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n")
    junk.chmod(0o600)
    files = {
        "made": made.certificate,
        "key": made.key,
        "folder": tmp_path,
        "junk": junk,
        "other": make_certificate(tmp_path, "other").key,
        "locked": make_certificate(tmp_path, "locked", "pass phrase").key,
    }
    with pytest.raises(UserError) as error:
        server_context(certificate.format(**files), key.format(**files), KEYS)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [client_context, pinned_context])
def test_what_a_client_is_to_trust_must_be_a_certificate(make: object, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    for path, told in ((str(empty), "certificate"), (str(tmp_path / "nothing"), "cannot be read")):
        with pytest.raises(UserError, match=f"--ca = .*{told}"):
            make(path, "--ca")  # type: ignore[operator]


def test_a_key_that_others_can_read_is_warned_about(
    made: Certificate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    context_of(made)
    assert caplog.messages == []
    loose = tmp_path / "loose.key"
    loose.write_bytes(made.key.read_bytes())
    loose.chmod(0o644)
    context_of(Certificate(made.certificate, loose))
    assert caplog.messages == ["key readable by others"]
