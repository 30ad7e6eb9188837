"""The Python packages that the checks here need, in an environment of their own, made at the first run."""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.abspath(os.environ.get("MILVUS_AUTOSCALER_CACHE") or os.path.expanduser("~/.cache/milvus-autoscaler"))


def enter():
    """Runs the calling script again in the environment with the packages of requirements.txt, unless it is there."""
    folder = f"{CACHE}/deploy-checks"
    if sys.prefix == folder:
        return
    with open(f"{HERE}/requirements.txt", encoding="utf-8") as file:
        wanted = file.read()
    stamp = f"{folder}/installed.txt"
    if not os.path.exists(stamp) or open(stamp, encoding="utf-8").read() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([f"{folder}/bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", f"{HERE}/requirements.txt"], check=True)
        with open(stamp, "w", encoding="utf-8") as file:
            file.write(wanted)
    os.execv(f"{folder}/bin/python", [f"{folder}/bin/python", "-W", "ignore", *sys.argv])
