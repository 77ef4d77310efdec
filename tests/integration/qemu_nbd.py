# SPDX-License-Identifier: Apache-2.0
"""qemu-nbd at a UNIX socket, for tests that kill its clients."""
import os
import select
import signal
import subprocess


class QemuNbd:
    """Serves a new file of `size` zeros, work/image, to any number of clients, one after another too."""

    def __init__(self, work, size):
        self.image, socket, pid_file = f"{work}/image", f"{work}/nbd.sock", f"{work}/nbd.pid"
        self.url = f"nbd+unix:///?socket={socket}"
        with open(self.image, "wb") as f:
            f.truncate(size)
        # --fork: it returns once clients can come.
        subprocess.run(["qemu-nbd", "--fork", "--pid-file", pid_file, "--persistent", "--shared=0", "-f", "raw",
                        "-k", socket, self.image], check=True, timeout=20)
        with open(pid_file, encoding="ascii") as f:
            self.pidfd = os.pidfd_open(int(f.read()))

    def stop(self):
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        select.select([self.pidfd], [], [])
        os.close(self.pidfd)
