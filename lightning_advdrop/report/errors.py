"""What can go wrong while a report is made."""


class ReportError(ValueError):
    """No report can be made; the message says what was looked for, what was found and what to do."""


class RunError(ReportError):
    """One run cannot be used; the message gives the reason, without the name of the run's folder."""
