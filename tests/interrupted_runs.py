"""Runs that are interrupted once they have kept so many results."""

import pytest

from transfuse.alignment import match_store
from transfuse.base.cache import Store


class Interrupter:
    """Counts what is done, and stops a run once so much has been kept."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.kept, self.stop = 0, 10**9
        keep = Store.keep

        def counted(store: Store, name: str, tensors: object, facts: object = None) -> None:
            keep(store, name, tensors, facts)  # type: ignore[arg-type]
            if store.folder is not None:
                self.tick()

        patch.setattr(Store, "keep", counted)
        patch.setattr(match_store, "MIN_INTERVAL", 0.0)
        patch.setattr(match_store, "INTERVAL_FACTOR", 0.0)
        patch.setattr("os.fsync", lambda descriptor: None)  # hundreds of entries; no power is cut here

    def tick(self) -> None:
        """Count one thing that is kept, and stop the run if it is the last."""
        self.kept += 1
        if self.kept == self.stop:
            raise KeyboardInterrupt
