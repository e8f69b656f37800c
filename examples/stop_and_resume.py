"""Stop a training in the midst of an epoch, go on in another process, and end at the same bits.

The first process kills itself after some steps, as a machine that is switched off would end it.
Run: python examples/stop_and_resume.py
"""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from sklearn.datasets import load_digits

import fastbp

EPOCHS = 12


def train(checkpoint=None, die_after=None):
    """Train on the digits; return a digest of the parameters."""
    images, labels = load_digits(return_X_y=True)

    def die(network, epoch, entry):
        if epoch == die_after:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    network = fastbp.Network([64, 32, 10], seed=0)
    network.fit(
        *(images / 16, labels),
        epochs=EPOCHS,
        learning_rate=0.3,
        callback=die,
        checkpoint=checkpoint,
        checkpoint_every=None if checkpoint is None else 25,
        resume=checkpoint is not None,
    )
    return hashlib.sha256(network.parameters.tobytes()).hexdigest()[:16]


def main():
    """Train at once; then in two processes, of which the first is killed."""
    whole = train()
    print(f"without a stop: {whole}")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(Path(folder, "run.safetensors"))
        killed = subprocess.run([sys.executable, __file__, checkpoint, "5"], check=False)
        print(f"the first process ended with status {killed.returncode}")
        resumed = train(checkpoint)
    print(f"killed in epoch 5, and resumed: {resumed}")
    print("the same bits" if resumed == whole else "other bits")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(sys.argv[1], int(sys.argv[2]))
    else:
        main()
