"""The error that is the user's to mend."""


class UserError(Exception):
    """Bad input or configuration: one line that names the thing, its value and the remedy.

    The command line prints it without a traceback and ends with exit status 2.
    """
