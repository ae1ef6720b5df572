"""moto's server with a list of its EC2 instances in a file: `python tests/helpers/aws_server.py FILE`.

Runs on the emulated machine `cli`. The list tells the test which instances Ray has launched.
"""

import json
import os
import sys
import time
from pathlib import Path

from moto import settings
from moto.ec2.models import ec2_backends
from moto.server import ThreadedMotoServer

ACCOUNT, REGION = "123456789012", "us-west-2"


def describe(instance):
    """What the test needs to know of an instance."""
    return {
        "id": instance.id,
        "state": instance.state,
        "type": instance.instance_type,
        "image": instance.image_id,
        "spot": instance.lifecycle == "spot",
        "private": instance.private_ip,
        "public": instance.public_ip,
        "key": instance.key_name,
        "profile": instance.iam_instance_profile["Arn"] if instance.iam_instance_profile else None,
        "groups": [group.name for group in instance.security_groups],
        "user_data": instance.user_data,
        "tags": {tag["key"]: tag["value"] for tag in instance.get_tags()},
    }


if __name__ == "__main__":
    file = Path(sys.argv[1])
    settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
    ThreadedMotoServer("0.0.0.0", 5000, verbose=False).start()
    while True:
        found = [describe(instance) for instance in ec2_backends[ACCOUNT][REGION].all_instances()]
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(found))
        os.replace(temporary, file)
        time.sleep(0.5)
