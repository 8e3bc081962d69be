"""The base of the errors a user can mend."""


class LabError(RuntimeError):
    """Something the user can mend. The command line prints its message in one line, without a traceback."""
