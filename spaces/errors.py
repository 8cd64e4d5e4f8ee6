"""The one error that means: the user's input is wrong."""


class InputError(ValueError):
    """Bad input. The message is one line that names the field and what is allowed; the exit code is 2."""
