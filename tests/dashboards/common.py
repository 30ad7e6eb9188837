"""What `check` and `real` share: the dashboards' queries, the rules, the metrics of the fixtures, the tools."""

import gzip
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RULES = ROOT / "deploy/prometheus/rules/rules.yaml"
CACHE = pathlib.Path(os.environ.get("MILVUS_AUTOSCALER_CACHE") or pathlib.Path.home() / ".cache/milvus-autoscaler")
PYYAML = "pyyaml==6.0.3"
# Series that Prometheus makes itself, and their labels beside those of the scrape.
OF_PROMETHEUS = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}


def with_yaml():
    """PyYAML from where we are, or from an environment of our own in the cache."""
    try:
        import yaml
    except ImportError:
        folder = CACHE / "dashboards-venv"
        python = folder / "bin/python"
        if sys.prefix == str(folder):
            sys.exit("PyYAML cannot be imported from " + str(folder))
        if subprocess.run([python, "-c", "import yaml"], capture_output=True).returncode if python.exists() else True:
            venv.create(folder, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", PYYAML], check=True)
        os.execv(python, [str(python), *sys.argv])
    return yaml


def tool(name):
    """prometheus or promtool: named by the environment, on the PATH, or where tests/real/setup puts them."""
    given = os.environ.get(f"{name.upper()}_BIN") or shutil.which(name)
    cached = CACHE / "prometheus/usr/bin" / name
    setup = ROOT / "tests/real/setup"
    if not given and not cached.exists() and setup.exists():
        subprocess.run([setup, "prometheus"], check=True, stdout=subprocess.DEVNULL)
    if given or cached.exists():
        return str(given or cached)
    sys.exit(f"no {name}: install Debian's package prometheus, or set {name.upper()}_BIN")


def dashboards():
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "dashboards").glob("*.json"))}


def queries(dashboard):
    """(where, expression, legend, is a table) of every query of a dashboard."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} | {target['legendFormat']}", target["expr"], target["legendFormat"], target.get("format") == "table"
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation.get("target", ()):
            yield f"annotation | {annotation['name']}", annotation["target"]["expr"], annotation["textFormat"], False


def variable_queries(dashboard):
    """What the variables ask: PromQL of query_result(), or a selector and a label of label_values()."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        text = variable["query"]["query"]
        if found := re.fullmatch(r"query_result\((.*)\)", text):
            yield variable, found[1], None
        elif found := re.fullmatch(r"label_values\((.*), (\w+)\)", text):
            yield variable, found[1], found[2]
        else:
            raise ValueError(f"variable {variable['name']}: neither label_values() nor query_result(): {text}")


def fill_in(expr, **variables):
    """Grafana's variables replaced, as Grafana would."""
    for name, value in sorted(variables.items(), key=lambda item: -len(item[0])):
        expr = expr.replace("${" + name + "}", value).replace("$" + name, value)
    return expr


SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def read_exposition(path):
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def samples(text):
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, labels, value = SAMPLE.match(line).groups()
            yield name, dict(LABEL.findall(labels or "")), value


def fixture_metrics():
    """Every metric of the fixtures, with the names of its labels."""
    metrics = {}
    for path in sorted((HERE / "fixtures").glob("*.prom*")):
        for name, labels, _ in samples(read_exposition(path)):
            metrics.setdefault(name, set()).update(labels)
    return metrics


# Just enough of PromQL's grammar to find the metrics in an expression and the labels it matches them by.
TOKEN = re.compile(r"""
    (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<duration>\[[^\]]*\])
  | (?P<name>[a-zA-Z_:][\w:]*)
  | (?P<number>[0-9][0-9a-z.]*)
  | (?P<other>=~|!~|!=|==|>=|<=|.)
""", re.X | re.S)
WITH_LABELS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "offset", "bool", "inf", "nan", "start", "end"} | WITH_LABELS


def selectors(expr):
    """(metric or None, [(label, operator, value)]) for each selector in an expression."""
    tokens = [(m.lastgroup, m[0]) for m in TOKEN.finditer(expr) if not m[0].isspace()]
    found, at = [], 0
    while at < len(tokens):
        kind, text = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        if kind == "name" and text in WITH_LABELS and following == "(":
            while tokens[at][1] != ")":
                at += 1
        elif text == "{" or (kind == "name" and text not in WORDS and following not in ("(", "by", "without")):
            metric = None if text == "{" else text
            matchers = []
            if metric and following == "{":
                at += 1
            if tokens[at][1] == "{":
                at += 1
                while tokens[at][1] != "}":
                    if tokens[at][0] == "name":
                        matchers.append((tokens[at][1], tokens[at + 1][1], tokens[at + 2][1][1:-1]))
                        at += 2
                    at += 1
            found.append((metric, matchers))
        at += 1
    return found
