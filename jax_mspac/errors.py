"""The one exception type for mistakes that the user can fix."""


class UserError(Exception):
    """A mistake in the user's input. Its text names what is wrong, what was expected and what to do.

    The entry point prints it without a stack trace and exits with status 1.
    """
