# SPDX-License-Identifier: Apache-2.0
"""nginx on the server's side of a network, with a configuration of its own."""
import os
import socket

from .process import Failed, run, wait_until

CONFIG = """
{user}
worker_processes 1;
pid {folder}/nginx.pid;
daemon off;
events {{ worker_connections 1024; }}
http {{
  log_format each '$request_method $status $bytes_sent "$http_range"';
  access_log {folder}/access.log each;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  sendfile on; tcp_nopush on; keepalive_requests 1000000;
  server {{
    listen {host}:{port};
    root {root};
    autoindex on;
  }}
}}
"""


class Web:
    def __init__(self, room, network, root):
        self.network = network
        self.port = 80 if network.server_host != "127.0.0.1" else free_port()
        folder = room.make("nginx")
        self.log = os.path.join(folder, "access.log")
        config = os.path.join(folder, "nginx.conf")
        with open(config, "w", encoding="utf-8") as text:
            # Run by root, its worker would be somebody who may not look into a private folder.
            text.write(CONFIG.format(folder=folder, root=root, host=network.server_host,
                                     port=self.port, user="user root;" if not os.geteuid() else ""))
        error = os.path.join(folder, "error.log")
        self.process = room.start(network.server(["nginx", "-e", error, "-c", config]))
        wait_until(self.answers, 10, "nginx")

    def answers(self):
        if self.process.poll() is not None:
            with open(self.process.log, encoding="utf-8") as log:
                raise Failed(f"nginx ended: {log.read().strip()[-200:]}")
        probe = ["curl", "-s", "-o", "/dev/null", f"http://{self.network.server_host}:{self.port}/"]
        return run(self.network.server(probe), check=False).returncode == 0

    def url(self, name):
        return f"http://{self.network.reach(self.port)}/{name}"

    def requests(self):
        """Every finished request so far: (method, status, bytes sent, range)."""
        with open(self.log, encoding="utf-8") as log:
            rows = [line.split(" ", 3) for line in log]
        return [(r[0], int(r[1]), int(r[2]), r[3].strip().strip('"')) for r in rows]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
