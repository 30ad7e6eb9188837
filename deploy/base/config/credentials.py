"""Creates the Secret milvus-credentials with random values, unless it exists. An existing one is neither read nor changed."""

import json
import os
import secrets
import ssl
import sys
import time
import urllib.error
import urllib.request

ACCOUNT = os.environ.get("ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount")
HOST = os.environ["KUBERNETES_SERVICE_HOST"]
SERVER = f"https://{f'[{HOST}]' if ':' in HOST else HOST}:{os.environ['KUBERNETES_SERVICE_PORT']}"


def read(name):
    with open(os.path.join(ACCOUNT, name), encoding="utf-8") as file:
        return file.read().strip()


def create():
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "milvus-credentials",
            "labels": {"app.kubernetes.io/instance": "milvus", "app.kubernetes.io/part-of": "milvus"},
        },
        "stringData": {
            "access-key": "milvus-" + secrets.token_hex(6),
            "secret-key": secrets.token_urlsafe(30),
            "root-password": secrets.token_urlsafe(30),
        },
    }
    request = urllib.request.Request(
        f"{SERVER}/api/v1/namespaces/{read('namespace')}/secrets",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {read('token')}", "Content-Type": "application/json"},
        method="POST",
    )
    context = ssl.create_default_context(cafile=os.path.join(ACCOUNT, "ca.crt"))
    try:
        with urllib.request.urlopen(request, context=context, timeout=10):
            return "created"
    except urllib.error.HTTPError as error:
        if error.code == 409:
            return "exists already, left as it is"
        raise


for attempt in range(60):
    try:
        print("Secret milvus-credentials", create())
        sys.exit(0)
    except (OSError, ValueError) as error:
        print(f"attempt {attempt + 1}: {error}", file=sys.stderr)
        time.sleep(5)
sys.exit(1)
