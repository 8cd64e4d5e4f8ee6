"""The errors that mean something to the user: the input is wrong, or the work cannot go on."""


class InputError(ValueError):
    """Bad input. The message is one line that names the field and what is allowed; the exit code is 2."""


class Stopped(Exception):
    """The work ended before its end with what was done kept. The message is one line; the exit code is 3."""
