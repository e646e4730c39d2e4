"""HTTP to one address with a credential: no proxy and no redirect ever sees it."""

from __future__ import annotations

import urllib.request

from pydantic import SecretStr

from serving.settings import SettingsError


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow nothing: the credential is for one address."""


def open_direct() -> urllib.request.OpenerDirector:
    """Return an opener that asks the address that it is given, and no other."""
    return urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


def bearer(secret: SecretStr, where: str) -> dict[str, str]:
    """Return the header that presents a key or token; none for an empty one.

    Args:
        secret: Key or token; white space around it is dropped, as a file's last line has it.
        where: Setting that it comes from, for the message.

    Raises:
        SettingsError: It cannot stand in a header; the message does not show it.
    """
    text = secret.get_secret_value().strip()
    if not (text.isascii() and text.isprintable()):
        raise SettingsError(f"{where}: expected one line of printable ASCII; got other characters: correct it")
    return {"authorization": f"Bearer {text}"} if text else {}
