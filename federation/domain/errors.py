"""Errors by what the caller can do about them."""


class FederationError(Exception):
    """Any refusal that this program states on purpose; its text is meant for people."""


class Invalid(FederationError):
    """What was sent is wrong; sending it again will not help. *pointer* names the field where one is to blame."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class NotFound(FederationError):
    """It does not exist, or not for this caller: the two look alike on purpose."""


class Conflict(FederationError):
    """It changed in between, or stands in the way: read again, then decide anew."""


class StaleOffset(Conflict):
    """Another consumer has moved the position of this partition: what was folded here is thrown away."""


class IllegalTransition(FederationError):
    """A step that the lifecycle's table lacks: a bug in the core, a late event at the edge."""


class Unavailable(FederationError):
    """A part that is needed does not answer within its time limit."""
