"""A user's own training, which something ends: python users_program.py RUN HOW [--resume]."""

import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np

import hvax
from hvax.data import Examples
from hvax.training import feed

SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}


class Remote(np.ndarray):
    """Rows from somewhere far away; the connection is lost at a read."""

    reads = 0

    def __getitem__(self, which):
        Remote.reads += 1
        if HOW == "unreadable data" and Remote.reads == 15:
            raise OSError("the connection to the data was lost")
        return super().__getitem__(which)


def callback(event):
    if event.epoch == 3 and HOW == "error in a callback":
        raise RuntimeError("the user's plot failed")
    if event.epoch == 3 and HOW == "exit in a callback":
        sys.exit(7)
    if event.epoch == 3 and HOW in SIGNALS:
        os.kill(os.getpid(), SIGNALS[HOW])
    if event.epoch == 3 and HOW == "data cut short":
        os.truncate(DATA, 0)  # to read what is gone would be a SIGBUS
    return event.epoch == 3 and HOW == "callback"


def main(run):
    # Streamed from the host, a few batches at a time, as data are that do not fit.
    feed.RESIDENT_BYTES, feed._STREAMED_BYTES = 0, 5 * 10 * 4 * 4
    stored = np.load(DATA, mmap_mode="r")
    stored = stored if HOW == "data cut short" else np.asarray(stored).view(Remote)
    encoder, decoder = hvax.mlp((4,), 2, hidden=(8,), key=jax.random.key(0))
    fitted = hvax.fit(
        hvax.VAE(encoder, decoder),
        Examples(stored),
        epochs=6,
        batch_size=10,
        save_steps=4,
        callback=callback,
        run_dir=run,
        resume="--resume" in sys.argv,
        progress=False,
    )
    print(fitted.ended)


if __name__ == "__main__":
    HOW = sys.argv[2]
    DATA = Path(sys.argv[1]).with_name("data.npy")
    main(Path(sys.argv[1]))
