"""Every error that turnout raises on purpose, in one tree.

TurnoutError
├── InvalidInput              the caller's value is not allowed: field, value, what is allowed
│   ├── UnknownModel          the named model is not served here
│   ├── PayloadTooLarge       the body exceeds a limit
│   └── InvalidConfig         a configuration file or setting is wrong
├── Refused                   the request is sound but is not served now
│   ├── Overloaded            no path can meet the deadline and the caller asked not to wait
│   └── BudgetExhausted       the model's or the caller's budget is spent
├── ReleaseError              a release cannot be used
│   ├── PointerMissing        nothing has been released under this name yet
│   └── ReleaseTampered       a file does not match its sha256
├── EndpointError             the GPU endpoint did not give a usable answer
│   ├── EndpointUnprepared    this sandbox has no client for it yet, and no time to make one
│   ├── EndpointAsleep        it has no capacity (scaled to zero, or still starting)
│   ├── EndpointThrottled     it refuses work for now
│   ├── EndpointTimeout       it did not answer inside the deadline
│   ├── EndpointFailed        it answered with an error
│   └── EndpointGarbage       it answered with something that is not an answer
├── BuildError                a build step failed for a reason that the user can mend
└── LocalCloudError           the laptop cloud cannot start or go on
"""

from __future__ import annotations


class TurnoutError(Exception):
    """Base of all errors raised on purpose; its text is fit to show to a user."""


class InvalidInput(TurnoutError):
    """Raised when a value given by the caller is not allowed."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        shown = repr(value)
        if len(shown) > 120:
            shown = shown[:117] + "..."
        super().__init__(f"{field}: {shown} is not allowed; allowed: {allowed}")


class UnknownModel(InvalidInput):
    """Raised when the request names a model that is not served here."""


class PayloadTooLarge(InvalidInput):
    """Raised when a body is larger than the path can carry."""


class InvalidConfig(InvalidInput):
    """Raised when turnout.toml, an option or an environment variable is wrong."""


class Refused(TurnoutError):
    """Raised when a sound request is not served now; `retry_after_s` says when to come back."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class Overloaded(Refused):
    """Raised when no path can meet the deadline and the caller chose `on_miss = refuse`."""


class BudgetExhausted(Refused):
    """Raised when the budget of the model or of the caller is spent for this window."""


class ReleaseError(TurnoutError):
    """Raised when a release cannot be loaded."""


class PointerMissing(ReleaseError):
    """Raised when no release has been published for the model."""


class ReleaseTampered(ReleaseError):
    """Raised when a file of a release does not have the sha256 that the manifest states."""


class EndpointError(TurnoutError):
    """Raised when the GPU endpoint gives no usable answer."""


class EndpointUnprepared(EndpointError):
    """Raised when the sandbox has no client for it yet and the deadline leaves no time to make one."""


class EndpointAsleep(EndpointError):
    """Raised when the endpoint has no capacity: scaled to zero or still starting."""


class EndpointThrottled(EndpointError):
    """Raised when the endpoint refuses work; `retry_after_s` is its own estimate, if it gave one."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class EndpointTimeout(EndpointError):
    """Raised when the endpoint did not answer inside the time left."""


class EndpointFailed(EndpointError):
    """Raised when the endpoint or its container answered with an error."""


class EndpointGarbage(EndpointError):
    """Raised when the endpoint's answer is not a valid inference response."""


class BuildError(TurnoutError):
    """Raised when a build step cannot go on; the message says what to change."""


class LocalCloudError(TurnoutError):
    """Raised when the laptop cloud cannot start, or a part of it has died."""
