"""An imitated AWS for emulated machines, which play the instances that Ray launches.

moto, on the machine `cli`, answers EC2, IAM, S3 and STS, but starts no machine. So each of its instances is played by
the next emulated machine, which gets the instance's addresses and accepts its key for the user `ubuntu`.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from flexres_tune.datasets.arrays import ImageArrays
from flexres_tune.datasets.cache import DataPaths, write_entry

SERVER = Path(__file__).with_name("aws_server.py")
SETTINGS = {
    "AWS_ENDPOINT_URL": "http://10.77.0.1:5000",
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "only-for-the-tests",
    "AWS_DEFAULT_REGION": "us-west-2",
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
}
# What an image of EC2 has and an emulated machine lacks. There is no network from which apt-get could install.
SHIMS = {"sudo": 'exec env "$@"', "apt-get": 'echo "$@" >> ~/apt-get.calls'}


class ImitatedAws:
    """The server, and the machines that play its instances: `players` is {name of the machine: instance}."""

    def __init__(self, machines):
        self._machines = machines
        self._list = machines.lab / "instances.json"
        self._has_ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._free = ["n1", "n2", "n3"]
        self.players = {}

    def __enter__(self):
        lab = self._machines.lab
        shims = lab / "shims"
        shims.mkdir()
        for name, script in SHIMS.items():
            (shims / name).write_text(f"#!/bin/bash\n{script}\n")
            (shims / name).chmod(0o755)
        exports = "export " + " ".join(f"{name}={value}" for name, value in SETTINGS.items())
        for name in ("cli", *self._free):
            for file in (lab / name / "home/.bashrc", lab / name / "home/.profile"):
                file.write_text(f"{file.read_text()}{exports}\nexport PATH={shims}:$PATH\n")
        for name in self._free:
            self._furnish(name)
        self._machines.start("cli", f". ~/.bashrc; exec {sys.executable} {SERVER} {self._list} >~/moto.log 2>&1")
        self._machines.wait_for(self._list.exists, "imitated AWS")
        self._watcher.start()
        return self

    def __exit__(self, *exc_info):
        self._has_ended.set()
        self._watcher.join()

    def instances(self):
        return json.loads(self._list.read_text())

    def _furnish(self, name):
        """A user `ubuntu`, the virtual environment of the tests, and CIFAR-10 in the form that the first trial leaves."""
        lab, home = self._machines.lab, self._machines.lab / name / "home"
        (home / "venv").symlink_to(sys.prefix)
        users = Path("/etc/passwd").read_text() + "ubuntu:x:0:0::/root:/bin/bash\n"
        (lab / "passwd").write_text(users)
        status, output = self._machines.on(name, f"mount --bind {lab}/passwd /etc/passwd")
        assert status == 0, output
        images = np.zeros((10, 3, 32, 32), np.uint8)
        labels = np.arange(10)
        write_entry(
            DataPaths(home / ".cache/flexres_tune").entry("cifar10"),
            ImageArrays(*[images, labels] * 3, moments=np.ones((2, 3))),
        )

    def _watch(self):
        """Let the next free machine play each new instance."""
        known = set()
        while not self._has_ended.wait(0.5):
            for instance in self.instances():
                if instance["id"] not in known and instance["state"] in ("pending", "running"):
                    known.add(instance["id"])
                    self._play(self._free.pop(0), instance)

    def _play(self, name, instance):
        lab, base = self._machines.lab, f"10.77.0.{10 + int(name[1:])}"
        addresses = (instance["private"], instance["public"])
        for address in addresses:
            self._machines.on(name, f"ip addr add {address}/32 dev v{name}")
        # through a router that is none: so that the machine finds its own address as it would on a network
        self._machines.on(name, f"ip route replace default via 10.77.0.1 src {instance['private']}")
        for other in {"cli", "n1", "n2", "n3"} - {name}:
            routes = "; ".join(f"ip route replace {address} via {base}" for address in addresses)
            source = self.players.get(other)
            if source is not None:
                routes = routes.replace(f"via {base}", f"via {base} src {source['private']}")
            self._machines.on(other, routes)
        for other, player in self.players.items():  # and back
            other_base = f"10.77.0.{10 + int(other[1:])}"
            for address in (player["private"], player["public"]):
                self._machines.on(name, f"ip route replace {address} via {other_base} src {instance['private']}")
        key = lab / "cli/home/.ssh" / f"{instance['key']}.pem"
        public = subprocess.run(["ssh-keygen", "-y", "-f", key], capture_output=True, text=True, check=True).stdout
        with open(lab / "ssh/id.pub", "a") as file:
            file.write(public)
        self.players[name] = instance
