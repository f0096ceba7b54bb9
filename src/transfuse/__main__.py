"""`python -m transfuse`, and the installed command."""

import os
import sys


def main() -> None:
    """Run the command line. An interruption while it is imported prints one line, as a later one does."""
    try:
        from transfuse.cli import main as run
    except KeyboardInterrupt:
        print("transfuse: interrupted", file=sys.stderr, flush=True)
        os._exit(130)  # after an interruption of code in a string, Python would end with the signal instead
    run()


if __name__ == "__main__":
    main()
