"""TLS for the web servers of the exchange and their clients: files in, contexts out, mistakes in one line.

A server has a certificate (with the chain behind it, if there is one) and its private key, both PEM. A client checks
both that somebody it trusts vouches for the certificate, and that the certificate is for the name that was called; it
trusts those whom the machine trusts, or those in a file. There is no way to turn that off: whoever has a certificate
that nobody vouches for names the certificate itself as the one to trust.

A page that runs beside its exchange trusts exactly the exchange's certificate, for whatever name it is
(:func:`pinned_context`): it was told the file by the exchange, and the address is this machine's.

Rules: TLS 1.2 or newer. A key that others can read is used, with a warning; a key behind a passphrase is refused,
because a server that starts by itself cannot be asked."""

import logging
import ssl
import stat
from pathlib import Path
from typing import Final

from exchange.errors import UserError
from exchange.logs import log_event

_END: Final = "-----END CERTIFICATE-----"


def server_context(certificate: str, key: str, keys: tuple[str, str]) -> ssl.SSLContext | None:
    """What a server needs to speak TLS; None if neither file is named.

    Args:
        certificate: path of the certificate; "" for none.
        key: path of its private key; "" for none.
        keys: what the two are called, where they were named.

    Raises:
        UserError: only one is named, one cannot be read or is none, or they do not belong together.
    """
    if not certificate and not key:
        return None
    for name, value, other in ((keys[0], certificate, keys[1]), (keys[1], key, keys[0])):
        if not value:
            raise UserError(f"{name} = '': must name a file, as {other} does; TLS needs both")
        _check_readable(name, value)
    if Path(key).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        log_event("key readable by others", level=logging.WARNING, file=key, remedy=f"chmod 600 {key}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, _no_passphrase)
    except _HasPassphrase as error:
        raise UserError(
            f"{keys[1]} = {key!r}: it is behind a passphrase; must be a key without one"
        ) from error
    except (ssl.SSLError, OSError) as error:
        raise UserError(_told(error, certificate, key, keys)) from error
    return context


def client_context(trusted: str, name: str) -> ssl.SSLContext:
    """What a client needs to trust a server.

    Args:
        trusted: path of the certificates that it trusts; "": those that the machine trusts.
        name: what the path is called, where it was named.

    Raises:
        UserError: the file cannot be read, or has no certificate.
    """
    if trusted:
        _check_readable(name, trusted)
    try:
        context = ssl.create_default_context(cafile=trusted or None)
    except (ssl.SSLError, OSError) as error:
        raise UserError(f"{name} = {trusted!r}: must be a file with certificates (PEM)") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def pinned_context(certificate: str, name: str) -> ssl.SSLContext:
    """What a client needs to trust the first certificate of a file and no other, whatever name it is for.

    Raises:
        UserError: as :func:`client_context`.
    """
    _check_readable(name, certificate)
    text = Path(certificate).read_text("ascii", "replace")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=text[: text.index(_END) + len(_END)] + "\n")
    except (ssl.SSLError, ValueError) as error:
        raise UserError(f"{name} = {certificate!r}: must be a certificate (PEM)") from error
    return context


class _HasPassphrase(Exception):
    """A key asks for one."""


def _no_passphrase() -> str:
    raise _HasPassphrase


def _check_readable(name: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise UserError(f"{name} = {path!r}: cannot be read: {error.strerror}") from error


def _told(error: OSError, certificate: str, key: str, keys: tuple[str, str]) -> str:
    """Which of the two files is wrong: OpenSSL does not say, so each is looked at."""
    if "KEY_VALUES_MISMATCH" in str(error):
        return f"{keys[1]} = {key!r}: is not the key of the certificate {certificate}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except (ssl.SSLError, OSError):
        return f"{keys[0]} = {certificate!r}: must be a certificate (PEM)"
    return f"{keys[1]} = {key!r}: must be the certificate's private key (PEM)"
