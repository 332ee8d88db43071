"""The weights of a complete model directory, every byte checked against its manifest while they are used.

The files are hashed beside whatever is done with them; what came of that counts only once both have ended well.
"""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.manifest import Manifest, read_manifest, verify
from rhapsode.weights.shards import Weights
from rhapsode.weights.strangers import pickles, refuse_adapter, refuse_pickle


@contextlib.contextmanager
def proven(directory: Path) -> Iterator[Weights]:
    """The weights, open for reading; let go of what was made of them if this does not end well.

    Raises:
        RhapsodeError: the directory is incomplete, holds an adapter, or pickles that its manifest does not know.
        VerificationMismatch: a file has changed since it was written.
    """
    refuse_adapter(directory)
    known = read_manifest(directory).files
    if unknown := [name for name in pickles(directory) if name not in known]:
        raise refuse_pickle(directory, unknown[0])
    try:
        with Weights(directory) as weights:
            proof = _prove(directory)  # begun with the files open: what is hashed is what is read
            yield weights
            proof.result()
            weights.check_in_place()
    except VerificationMismatch:
        raise
    except RhapsodeError:
        verify(directory)  # that a file has changed says more than what came of it
        raise


def _prove(directory: Path) -> Future[Manifest]:
    """Verify beside other work. Nobody waits for the thread when the program is interrupted."""
    proof: Future[Manifest] = Future()

    def run() -> None:
        try:
            proof.set_result(verify(directory))
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            proof.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return proof
