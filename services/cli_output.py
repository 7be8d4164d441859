"""Standard output whose reader may go early, as ``head`` does.

That is no error, and must not look like what an exit status of a command means. So it ends as
programs end that the signal PIPE kills (git, kubectl): without a word, and with 141 in the shell.
The signal itself stays ignored: it would also kill at a socket whose other end is gone.
"""

import io
import os
import sys

READER_GONE = 128 + 13


class _Output(io.FileIO):
    """A file descriptor at which a broken pipe ends the program, cleaning up on the way."""

    def write(self, data: "bytes | bytearray | memoryview") -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except BrokenPipeError:
            # What is still buffered would be tried, and complained about, once more at the end.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            raise SystemExit(READER_GONE) from None


def let_readers_go() -> None:
    """Replaces standard output by one that knows what a reader that is gone means."""
    before = sys.stdout
    before.flush()
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(before.fileno(), "wb", closefd=False)),
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=before.isatty(),
    )


def ended(end: SystemExit) -> SystemExit:
    """The end of the program once everything is written: a failure stays the one that it is."""
    try:
        sys.stdout.flush()
    except SystemExit as gone:
        return end if end.code else gone
    return end
