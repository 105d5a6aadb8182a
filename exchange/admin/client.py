"""The other end of the admin interface: asks it something, and tells mistakes in one line. For ``exchange admin``.

HTTP by the standard library, with TLS for an https address; what an address answers is told in
:mod:`exchange.admin.app`. The token is sent to the address that was named and to no other: through no proxy, and after
no redirect."""

import json
import ssl
import urllib.error
import urllib.request
from email.message import Message
from http.client import HTTPException
from typing import IO, Any, Final
from urllib.parse import quote, urlsplit

from exchange.errors import UserError

TIMEOUT_SECONDS: Final = 10.0
_ANSWER_BYTES_MAX: Final = 1 << 26


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


class AdminClient:
    """Asks the admin interface at ``url``, such as ``http://127.0.0.1:9010``, with a token.

    Over https the server must have a certificate that ``trusted`` (:mod:`exchange.tls`) vouches for; None: whom the
    machine trusts.

    Raises:
        UserError: the URL is none of HTTP.
    """

    def __init__(
        self,
        url: str,
        token: str,
        timeout_seconds: float = TIMEOUT_SECONDS,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise UserError(f"--url {url}: must be like http://127.0.0.1:9010")
        self._url: Final = url.rstrip("/")
        self._token: Final = token
        self._timeout_seconds: Final = timeout_seconds
        self._opener: Final = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), _NoRedirects, urllib.request.HTTPSHandler(context=trusted)
        )

    def get(self, *path: str) -> Any:
        """The document at an address, given by its parts. Raises UserError, as all three."""
        return self._ask("GET", path, None)

    def post(self, *path: str, **body: object) -> Any:
        """Have something done."""
        return self._ask("POST", path, body)

    def put(self, *path: str, **body: object) -> Any:
        """Have something changed."""
        return self._ask("PUT", path, body)

    def _ask(self, method: str, path: tuple[str, ...], body: dict[str, object] | None) -> Any:
        url = "/".join([self._url, *(quote(part, safe="") for part in path)])
        request = urllib.request.Request(url, method=method)
        request.add_header("Authorization", f"Bearer {self._token}")
        if body is not None:
            request.data = json.dumps(body).encode()
        try:
            with self._opener.open(request, timeout=self._timeout_seconds) as response:
                return json.loads(response.read(_ANSWER_BYTES_MAX))
        except urllib.error.HTTPError as error:
            raise UserError(_told(error)) from error
        except (urllib.error.URLError, HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise UserError(
                    f"{self._url}: its certificate is not trusted ({reason.verify_message});"
                    " --ca FILE names whom to trust"
                ) from error
            raise UserError(
                f"no admin interface at {self._url} ({reason}); does 'exchange serve' run, with admin.kind = http?"
            ) from error
        except ValueError as error:
            raise UserError(f"{url} answered with something else than JSON; is it an exchange?") from error


def _told(error: urllib.error.HTTPError) -> str:
    """What an answer with an error says, in a line."""
    try:
        told = json.loads(error.read(_ANSWER_BYTES_MAX))["error"]
        value = "" if told["value"] is None else f" = {told['value']!r}"
        return f"{told['field']}{value}: {told['allowed']}"
    except (ValueError, KeyError, TypeError):
        return f"the admin interface answered {error.code} {error.reason}"
