"""Checks what no schema says: rules.py FILE.yaml.

The Pod Security Standard `restricted`, that a stop has the time it takes, that probes ask for what they mean, and that
selectors find what they are meant to find.
"""

import re
import sys
from pathlib import Path

import yaml

faults = []


def expect(holds, text):
    if not holds:
        faults.append(text)


def seconds(text):
    units = {"s": 1, "m": 60}
    return int(text[:-1]) * units[text[-1]]


def restricted(pod):
    """Every field of the standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in pod.get("volumes", []):
        expect(set(volume) - {"name"} <= allowed, f"volume {volume['name']}: its type is not allowed")
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        expect(not pod.get(field), f"{field} is set")
    whole = pod.get("securityContext", {})
    for container in pod["containers"] + pod.get("initContainers", []):
        own = {**whole, **container.get("securityContext", {})}
        name = container["name"]
        expect(own.get("runAsNonRoot") is True, f"{name}: runAsNonRoot is not true")
        expect(own.get("runAsUser", 1) != 0, f"{name}: runAsUser is 0")
        expect(own.get("allowPrivilegeEscalation") is False, f"{name}: allowPrivilegeEscalation is not false")
        expect(not own.get("privileged"), f"{name}: privileged")
        capabilities = own.get("capabilities", {})
        expect("ALL" in capabilities.get("drop", []), f"{name}: not all capabilities are dropped")
        expect(set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}, f"{name}: capabilities are added")
        profile = own.get("seccompProfile", {}).get("type")
        expect(profile in ("RuntimeDefault", "Localhost"), f"{name}: seccompProfile is {profile}")
        expect(own.get("procMount", "Default") == "Default", f"{name}: procMount")
        expect(all("hostPort" not in port for port in container.get("ports", [])), f"{name}: hostPort")


def stops_in_time(pod, settings):
    relay = pod["containers"][0]
    pause = ((relay.get("lifecycle") or {}).get("preStop") or {}).get("sleep", {}).get("seconds", 0)
    needed = pause + seconds(settings["RELAY_SHUTDOWN_GRACE"])
    expect(pod["terminationGracePeriodSeconds"] > needed, f"a stop takes up to {needed} s and is cut off before")


def probes(pod):
    relay = pod["containers"][0]
    paths = {kind: relay[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    expect(
        paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"},
        f"the probes ask for {paths}",
    )


def selectors(documents, labels):
    def matches(selector):
        return selector.items() <= labels.items()

    for one in documents:
        kind, name, spec = one["kind"], one["metadata"]["name"], one.get("spec", {})
        what = f"{kind} {name}"
        if kind == "Service":
            expect(matches(spec["selector"]), f"{what} finds no relay")
        elif kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
            expect(matches(spec["selector"]["matchLabels"]), f"{what} finds no relay")
        elif kind == "NetworkPolicy" and spec["podSelector"]:
            expect(matches(spec["podSelector"]["matchLabels"]), f"{what} finds no relay")


def network(documents):
    policies = [one["spec"] for one in documents if one["kind"] == "NetworkPolicy"]
    everything = [spec for spec in policies if spec["podSelector"] == {}]
    expect(any(set(spec["policyTypes"]) == {"Ingress", "Egress"} for spec in everything), "nothing is denied by default")
    for rule in (rule for spec in policies for rule in spec.get("egress", [])):
        for block in (to["ipBlock"] for to in rule["to"] if "ipBlock" in to):
            expect(
                block["cidr"] != "0.0.0.0/0" or "169.254.0.0/16" in block.get("except", []),
                "the cloud's metadata address can be reached",
            )


def not_published(documents):
    for ingress in (one for one in documents if one["kind"] == "Ingress"):
        paths = [path["path"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
        for closed in ("/", "/admin", "/console", "/metrics"):
            expect(closed not in paths, f"the ingress publishes {closed}")


documents = list(yaml.safe_load_all(Path(sys.argv[1]).read_text()))
settings = next(one["data"] for one in documents if one["metadata"]["name"].startswith("relay-settings"))
template = next(one for one in documents if one["kind"] == "Deployment")["spec"]["template"]
pod = template["spec"]

restricted(pod)
stops_in_time(pod, settings)
probes(pod)
selectors(documents, template["metadata"]["labels"])
network(documents)
not_published(documents)
secret = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|DATABASE_URL")
for name, value in settings.items():
    is_kept = name.endswith("_FILE") or value.startswith("sqlite://")
    expect(is_kept or not secret.search(name), f"{name} is a secret and stands in a ConfigMap")

if faults:
    sys.exit("\n".join(faults))
print("restricted pods, probes, stop, selectors, network: as they should be")
