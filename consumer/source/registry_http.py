"""Requests to the schema registry: credentials, TLS, and every way to fail as a fault.

The standard library's client is enough: a schema is asked for once in a process's life. It verifies the server whatever
is configured, and a redirect is not followed, for it could carry the credentials to another host.
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from consumer.errors import Exit, Reject, Retry, Stop

TIMEOUT_SECONDS = 5.0
MAX_BYTES = 16 * 1024 * 1024  # no schema is larger; a server that sends for ever must not fill the memory
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class RegistryWait(Retry):
    """The registry does not answer, refuses access, or may yet learn an id: to be asked again."""


@dataclass(frozen=True)
class Access:
    """Where the registry is and how to be let in; `url` carries no credentials. No `ca_file`: the system's trust."""

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


class Http:
    """GET requests to one registry. Raises Stop when made, if a certificate or key cannot be read."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._headers = {"Accept": "application/json, */*"}
        if access.token:
            self._headers["Authorization"] = f"Bearer {access.token}"
        elif access.user:
            credentials = b64encode(f"{access.user}:{access.password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {credentials}"
        handlers: list[Any] = [_NoRedirect()]
        if urlsplit(access.url).hostname in _LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))  # needs no proxy, whatever the environment says
        if access.url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=_verifying(access)))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, url: str) -> tuple[int, bytes]:
        """Status 200 or 404, and the body. Raises RegistryWait for every other answer, Reject for an endless one."""
        request = urllib.request.Request(url, headers=self._headers)  # noqa: S310 (the scheme is checked by settings)
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as reply:
                status, body = reply.status, reply.read(MAX_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                status, body = error.code, error.read(MAX_BYTES + 1) if error.code == HTTPStatus.NOT_FOUND else b""
        except (OSError, HTTPException) as error:
            raise self._unreachable(error.reason if isinstance(error, urllib.error.URLError) else error) from None
        if status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
            raise self._refused(status)
        if len(body) > MAX_BYTES:
            raise Reject(
                f"The schema is larger than {MAX_BYTES >> 20} MiB.", stage="decode", error_type="schema_too_large"
            )
        return status, body

    def _unreachable(self, cause: object) -> RegistryWait:
        where = f"The schema registry at {self._access.url}"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return RegistryWait(
                f"{where} is not trusted ({cause.verify_message}).",
                "Its certificate does not lead to an authority that is known here.",
                "Set registry.ca_file to the certificate of the authority that signed it.",
            )
        return RegistryWait(
            f"{where} does not answer ({type(cause).__name__}).",
            "It has the schemas that records in Avro are written with.",
            "Start it, or set registry.url to where it is.",
        )

    def _refused(self, status: int) -> RegistryWait:
        where = f"The schema registry at {self._access.url}"
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return RegistryWait(
                f"{where} refuses access ({status}).",
                "The credentials are missing or not allowed to read schemas.",
                "Set registry.user and registry.password, or registry.token.",
            )
        return RegistryWait(
            f"{where} answers with status {status}.",
            "It is starting or in trouble, or something in between answers in its place.",
            "Look into its log, or correct registry.url.",
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Not followed: the status is then an error like any other."""


def _verifying(access: Access) -> ssl.SSLContext:
    """The default context, which demands a trusted certificate with the server's name."""
    try:
        context = ssl.create_default_context(cafile=access.ca_file)
        if access.certificate_file:
            # An empty passphrase, else a key that needs one would ask for it at the terminal.
            context.load_cert_chain(access.certificate_file, access.key_file, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise Stop(
            "A certificate or key for the schema registry cannot be read.",
            f"{type(error).__name__} in one of registry.ca_file, certificate_file, key_file.",
            "They must be PEM files that this account may read, the key without a passphrase.",
            exit_code=Exit.USAGE,
        ) from None
    return context
