"""Errors whose text is meant for the person who asked for a kernel.

Everything that can go wrong with a launch is raised as one of these, from
wherever it happens; handlers, and only handlers, turn them into HTTP answers.
"""

from __future__ import annotations


class ElyraError(Exception):
    """Base of the errors that Elyra raises on purpose.

    Attributes
    ----------
    status : int
        HTTP status that a handler answers with.
    reason : str
        One line for the ``reason`` of that answer; the text of the error is its message.
    """

    status = 500
    reason = "Kernel error"


class InvalidRequestError(ElyraError):
    """The client asked for something that no kernel can be started with."""

    status = 400
    reason = "Invalid request"


class KernelIdInUseError(InvalidRequestError):
    """The client chose the id of a kernel that exists."""

    status = 409
    reason = "Kernel id in use"


class TooManyKernelsError(ElyraError):
    """The server runs as many kernels as it may."""

    status = 403
    reason = "Resource Limit"


class ServerEndingError(ElyraError):
    """The server is on its way to its own end."""

    status = 503
    reason = "Server is ending"


class UserNotAuthorizedError(ElyraError):
    """The user of the launch may not use this kernelspec."""

    status = 403
    reason = "User not authorized"


class NoSuchKernelSpecError(ElyraError):
    """There is no kernelspec of that name."""

    status = 404
    reason = "No such kernelspec"


class KernelDeadError(ElyraError):
    """The kernel ended, and is only listed for its reason."""

    status = 409
    reason = "Kernel is dead"


class NoSuchSessionError(ElyraError):
    """There is no session of that id."""

    status = 404
    reason = "No such session"


class LaunchError(ElyraError):
    """A kernel could not be started; the text is the cause."""

    reason = "Kernel launch failed"


class LaunchTimeoutError(LaunchError):
    """A kernel was not ready within its launch limit."""

    reason = "Kernel launch timed out"


class KernelSpecError(LaunchError):
    """A kernelspec cannot be used as it is written."""

    reason = "Invalid kernelspec"


class LinkError(ElyraError):
    """A launcher cannot be reached now, or refused what it was asked."""

    reason = "Launcher not reachable"


class LinkSilentError(LinkError):
    """A launcher did not answer in time, though there is a connection to it."""
