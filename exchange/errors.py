"""The one exception that is the user's to mend.

Raise :class:`UserError` for a mistake in what a person gave us (a profile, a file, an option): its text names
the field, the value and what is allowed. The command line prints it on one line and exits with 2. Any other
exception is a fault of ours and keeps its traceback."""


class UserError(Exception):
    """A mistake in the input, told in one line."""
