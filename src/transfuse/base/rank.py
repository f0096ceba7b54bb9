"""Which process of a run this is, before the processes know each other. No heavy imports."""

import os


def is_first_process() -> bool:
    """Return whether this process writes and prints: it was started alone, or as the first by torchrun or accelerate.

    Once the processes are connected, `distributed.process_group().first` tells the same.
    """
    return os.environ.get("RANK", "0") == "0"
