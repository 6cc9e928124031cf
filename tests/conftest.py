"""What all tests share: how services that run within them log."""

import structlog

# By default structlog paints each traceback, which took longer than most of the tests that provoke one.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)
