"""Log in by Kerberos: the method ``gssapi-with-mic`` of RFC 4462, which paramiko has no more since version 5.

Tickets are the business of the system's Kerberos, called through the package ``gssapi``. What is left are five
messages; they reach us where paramiko's own handler of logins looks up who handles which message.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import paramiko
from paramiko.auth_handler import AuthHandler

from elyra_server.ssh.target import Target

METHOD = "gssapi-with-mic"
SERVICE = "ssh-connection"

TICKET_LIMIT = 3.0
"""Seconds for the KDC to answer; Kerberos itself would wait for half a minute."""

HURRIED_LIMIT = 0.5
"""The same, while an earlier login still waits: each of several hosts would else take its time."""

KERBEROS_5 = bytes.fromhex("06092a864886f712010202")
"""The mechanism's object identifier, as the messages have it."""

SERVICE_REQUEST, SERVICE_ACCEPT, USERAUTH_REQUEST = 5, 6, 50
RESPONSE, TOKEN, ERROR, ERROR_TOKEN, MIC = 60, 61, 64, 65, 66

# Codes of Kerberos's errors, from the first of its table.
FIRST_CODE = -1765328384 % 2**32
UNKNOWN_SERVICE, EXPIRED, SKEW, NO_CACHE = 7, 32, 37, 141
OTHER_KEY = (31, 35, 41, 44, 45)
NO_KDC = (154, 156)

GET_A_TICKET = "as this server's user: {kinit} (or set KRB5_CLIENT_KTNAME to a keytab for it)."
CHECK_KDC = "Check kdc in krb5.conf, that the KDC runs, and the network to it."
ADVICE = {
    UNKNOWN_SERVICE: "Add that principal and put its key into the keytab of the host; or, if the host has another name "
    "there, give it as HostName or GSSAPIServerIdentity in ~/.ssh/config.",
    EXPIRED: f"Get a new ticket, {GET_A_TICKET}",
    NO_CACHE: f"Get a ticket, {GET_A_TICKET}",
    SKEW: "Set the clocks of this server, of the host and of the KDC by NTP.",
    **dict.fromkeys(
        OTHER_KEY, "Write the keytab of the host anew (ktadd of kadmin), then get a new ticket here (kinit)."
    ),
    **dict.fromkeys(NO_KDC, CHECK_KDC),
}
OTHER_ADVICE = "KRB5_TRACE=/dev/stderr in this server's environment shows the details."


class KerberosError(Exception):
    """Why there is no login by Kerberos, and what to do.

    Attributes
    ----------
    lasting : bool
        Whether it is for the host to be mended, and not for this server.
    """

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        super().__init__(text)
        self.lasting = lasting


def log_in(transport: Any, target: Target) -> Any:
    """Log in by the ticket of this server's user; blocks.

    Returns
    -------
    list of str
        What the host wants to see beside the ticket, mostly nothing.

    Raises
    ------
    KerberosError
        If that is not possible.
    paramiko.SSHException
        If the host hung up or is silent.
    """
    ticket = Ticket(target)
    ticket.get(min(TICKET_LIMIT, max(transport.auth_timeout - 1.0, HURRIED_LIMIT)))
    transport.auth_handler = handler = Handler(transport, target, ticket)
    return handler.log_in()


class Ticket:
    """The ticket of this server's user for one host, and the context that it begins.

    Attributes
    ----------
    principal : str
        Whose it is, as soon as that is known.
    token : bytes
        What proves it to the host.
    context : gssapi.SecurityContext
        Goes on from there.
    """

    _waiting: threading.Thread | None = None

    def __init__(self, target: Target) -> None:
        try:
            import gssapi
        except ImportError as error:
            raise KerberosError(
                f"the package gssapi cannot be used ({error}). Install it where the server runs: "
                "pip install 'jupyter_elyra[server,kerberos]'."
            ) from error
        self.service = f"host@{target.gss_name}"
        self.principal = ""
        self.token = b""
        self.context: Any = None
        self._delegates = target.gss_delegates
        self._gssapi = gssapi
        self._error: KerberosError | None = None

    def get(self, limit: float) -> None:
        """Get it, from the cache or the KDC.

        A call of Kerberos cannot be given up. What comes too late is in the cache for the next login.
        """
        earlier = Ticket._waiting
        if earlier is not None and earlier.is_alive():
            limit = min(limit, HURRIED_LIMIT)
        thread = threading.Thread(target=self._get, name="elyra ticket", daemon=True)
        thread.start()
        thread.join(limit)
        if thread.is_alive():
            Ticket._waiting = thread
            whose = f" ({self.principal})" if self.principal else ""
            raise KerberosError(f"the KDC does not answer{whose}. {CHECK_KDC}")
        if self._error is not None:
            raise self._error

    def proceed(self, token: bytes) -> tuple[bytes, bool]:
        """Return the answer to a token of the host, empty when there is none to give, and whether both are content."""
        with self._explained():
            answer = self.context.step(token)
            return bytes(answer or b""), bool(self.context.complete)

    def sign(self, data: bytes) -> bytes:
        """Return a signature that only the ticket's owner can make."""
        needed = self._gssapi.RequirementFlag.integrity | self._gssapi.RequirementFlag.mutual_authentication
        with self._explained():
            if self.context.actual_flags & needed != needed:
                raise KerberosError("the host has not proven that it is the one of the ticket.", lasting=True)
            return bytes(self.context.get_signature(data))

    def explain(self, error: Exception) -> KerberosError:
        """Return what an error of Kerberos means."""
        errors = self._gssapi.exceptions
        if not isinstance(error, errors.GSSError):
            return KerberosError(f"{type(error).__name__}: {error}.")
        code, of_major = (error.min_code, False) if error.min_code else (error.maj_code, True)
        text = "; ".join(error.get_all_statuses(code, of_major))
        kind = code - FIRST_CODE
        if isinstance(error, (errors.ExpiredContextError, errors.ExpiredCredentialsError)):
            kind, text = EXPIRED, "Ticket expired"
        whose = f" ({self.principal})" if self.principal else ""
        cache = os.environ.get("KRB5CCNAME")
        kinit = " ".join(["kinit", *(["-c", cache] if cache else []), *([self.principal] if self.principal else [])])
        advice = ADVICE.get(kind, OTHER_ADVICE).replace("{kinit}", kinit)
        return KerberosError(f"{text}{whose}. {advice}", lasting=kind == UNKNOWN_SERVICE)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._gssapi.exceptions.GSSError as error:
            raise self.explain(error) from error

    def _get(self) -> None:
        gssapi = self._gssapi
        try:
            credentials = gssapi.Credentials(usage="initiate", mechs=[gssapi.MechType.kerberos])
            # Of an expired ticket it is not told.
            with contextlib.suppress(gssapi.exceptions.GSSError):
                self.principal = str(credentials.name)
            flags = gssapi.RequirementFlag.integrity | gssapi.RequirementFlag.mutual_authentication
            if self._delegates:
                flags |= gssapi.RequirementFlag.delegate_to_peer
            self.context = gssapi.SecurityContext(
                name=gssapi.Name(self.service, gssapi.NameType.hostbased_service),
                creds=credentials,
                mech=gssapi.MechType.kerberos,
                flags=flags,
                usage="initiate",
            )
            self.token = self.context.step()
        except Exception as error:  # noqa: BLE001 - it is told where the ticket is waited for
            self._error = self.explain(error)  # here, because Kerberos remembers the details by thread


class Handler(AuthHandler):
    """What paramiko does with the host's messages during this login; runs in its thread."""

    def __init__(self, transport: Any, target: Target, ticket: Ticket) -> None:
        super().__init__(transport)
        self.username = target.user
        self.auth_method = METHOD
        self.auth_event = threading.Event()
        self._target = target
        self._ticket = ticket
        self._session = transport.session_id
        self._problem: KerberosError | None = None
        self._refusal = (
            "it does not ask for the ticket. There is no key for its name in its keytab (/etc/krb5.keytab), or "
            f"{target.user} may not log in there at all."
        )

    def log_in(self) -> Any:
        """Ask for the login and wait for its end."""
        if not hasattr(AuthHandler, "_client_handler_table"):
            raise KerberosError(f"paramiko {paramiko.__version__} is too new for it. Install an older one (5 will do).")
        self._send(SERVICE_REQUEST, "ssh-userauth")
        try:
            return self.wait_for_response(self.auth_event)
        except paramiko.BadAuthenticationType as error:
            raise KerberosError(
                f"the host does not accept it, but {', '.join(sorted(error.allowed_types))}. It takes "
                "`GSSAPIAuthentication yes` in its sshd_config and a keytab.",
                lasting=True,
            ) from error
        except paramiko.AuthenticationException as error:
            if self._problem is not None:
                raise self._problem from error
            if not self.transport.is_active() or "timeout" in str(error).lower():
                raise
            raise KerberosError(f"the host refuses it: {self._refusal}", lasting=True) from error

    @property
    def _client_handler_table(self) -> dict[int, Any]:
        return {
            **super()._client_handler_table,
            SERVICE_ACCEPT: self._ask,
            RESPONSE: self._on_response,
            TOKEN: self._on_token,
            ERROR: self._on_error,
            ERROR_TOKEN: self._on_error_token,
        }

    def _ask(self, _: Any) -> None:
        self._send(USERAUTH_REQUEST, self._target.user, SERVICE, METHOD, 1, KERBEROS_5)

    def _on_response(self, message: Any) -> None:
        if message.get_string() != KERBEROS_5:
            self._fail(KerberosError("the host answers with another mechanism.", lasting=True))
            return
        self._refusal = (
            f"the ticket for {self._ticket.service} does not fit. The key in its keytab (/etc/krb5.keytab) may be an "
            "older one than the KDC has: write the keytab anew, and get a new ticket here (kinit)."
        )
        self._send(TOKEN, self._ticket.token)

    def _on_token(self, message: Any) -> None:
        try:
            answer, complete = self._ticket.proceed(message.get_string())
            if answer:
                self._send(TOKEN, answer)
            if not complete:
                return
            signed = paramiko.Message()
            signed.add_string(self._session)
            signed.add_bytes(_message(USERAUTH_REQUEST, self._target.user, SERVICE, METHOD).asbytes())
            signature = self._ticket.sign(signed.asbytes())
        except KerberosError as error:
            self._fail(error)
            return
        user = self._target.user
        self._refusal = (
            f"{self._ticket.principal or 'the principal'} may not log in as {user} there. Put the principal into "
            f"~{user}/.k5login on the host, or get a ticket of {user}."
        )
        self._send(MIC, signature)

    def _on_error(self, message: Any) -> None:
        message.get_int(), message.get_int()  # codes, whose meaning is in the text
        text = message.get_string().decode(errors="replace")
        self._problem = KerberosError(f"the host says: {text}", lasting=True)

    def _on_error_token(self, message: Any) -> None:
        # The host's refusal follows.
        try:
            self._ticket.proceed(message.get_string())
        except KerberosError as error:
            text = f"the host refuses the ticket for {self._ticket.service}: {error}"
            self._problem = KerberosError(text, lasting=True)

    def _fail(self, problem: KerberosError) -> None:
        """End the login from this side; the host sees the next method, or the end."""
        self._problem = problem
        self.auth_event.set()

    def _send(self, kind: int, *fields: str | bytes | int) -> None:
        self.transport.packetizer.send_message(_message(kind, *fields))


def _message(kind: int, *fields: str | bytes | int) -> Any:
    message = paramiko.Message()
    message.add_byte(bytes([kind]))
    for field in fields:
        if isinstance(field, int):
            message.add_int(field)
        else:
            message.add_string(field)
    return message
