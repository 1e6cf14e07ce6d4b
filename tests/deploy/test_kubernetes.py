"""The manifests hang together: selectors, ports, names, files and flags.

The fields themselves are held against the Kubernetes schemas by deploy/kubernetes/check.sh, which
needs a package that is not among ours.
"""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from export.serving_files import serving_files
from serving.model_config import SpecificVersions, model_entries, read_model_config

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
NOT_MANIFESTS = {"kustomization.yaml", "prometheus-adapter.yaml"}
API_VERSIONS = {
    "Namespace": "v1",
    "PersistentVolumeClaim": "v1",
    "Service": "v1",
    "Deployment": "apps/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}


def read(name):
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def manifests():
    files = [file for file in FOLDER.glob("*.yaml") if file.name not in NOT_MANIFESTS]
    return {document["kind"]: document for document in (read(file.name) for file in files)}


@pytest.fixture(scope="module")
def kustomization():
    return read("kustomization.yaml")


@pytest.fixture(scope="module")
def pod(manifests):
    return manifests["Deployment"]["spec"]["template"]


@pytest.fixture(scope="module")
def container(pod):
    (container,) = pod["spec"]["containers"]
    return container


@pytest.fixture(scope="module")
def flags(container):
    return dict(flag.removeprefix("--").split("=", 1) for flag in container["args"])


def test_every_manifest_has_its_kind_version_and_a_name(manifests):
    assert {kind: one["apiVersion"] for kind, one in manifests.items()} == API_VERSIONS
    assert all(re.fullmatch("[a-z0-9-]+", one["metadata"]["name"]) for one in manifests.values())


def test_the_kustomization_lists_every_manifest(kustomization):
    assert set(kustomization["resources"]) == {
        file.name for file in FOLDER.glob("*.yaml") if file.name not in NOT_MANIFESTS
    }


def test_everything_that_selects_selects_the_pods(manifests, pod):
    labels = pod["metadata"]["labels"].items()
    for kind, place in (
        ("Deployment", ["selector", "matchLabels"]),
        ("Service", ["selector"]),
        ("PodDisruptionBudget", ["selector", "matchLabels"]),
        ("NetworkPolicy", ["podSelector", "matchLabels"]),
    ):
        selected = manifests[kind]["spec"]
        for key in place:
            selected = selected[key]
        assert selected and selected.items() <= labels, kind


def test_ports_that_are_named_exist(manifests, container):
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    named = [port["targetPort"] for port in manifests["Service"]["spec"]["ports"]]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        (check,) = [
            container[probe][kind] for kind in ("httpGet", "tcpSocket") if kind in container[probe]
        ]
        named.append(check["port"])
    for rule in manifests["NetworkPolicy"]["spec"]["ingress"]:
        named += [port["port"] for port in rule["ports"]]
    assert set(named) <= set(ports)


def test_the_autoscaler_scales_the_deployment_by_a_metric_that_the_adapter_makes(manifests):
    spec = manifests["HorizontalPodAutoscaler"]["spec"]
    deployment = manifests["Deployment"]
    assert spec["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert 2 <= spec["minReplicas"] <= spec["maxReplicas"]
    asked = [one["pods"]["metric"]["name"] for one in spec["metrics"] if one["type"] == "Pods"]
    made = [rule["name"]["as"] for rule in read("prometheus-adapter.yaml")["rules"]["custom"]]
    assert asked == made


def test_the_image_is_of_the_tensorflow_that_we_export_with(container):
    assert container["image"] == f"tensorflow/serving:{version('tensorflow')}"


def test_files_of_the_bundle_and_of_the_config_map_are_where_the_flags_look(
    flags, container, pod, kustomization, manifests
):
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert mounts.keys() == volumes.keys()
    (generated,) = kustomization["configMapGenerator"]
    assert volumes["models"]["configMap"]["name"] == generated["name"]
    held = {f"{mounts['models']['mountPath']}/{name}" for name in generated["files"]}
    held |= {f"{mounts['bundle']['mountPath']}/{name}" for name in serving_files(max_batch=1)}
    looked_for = {value for name, value in flags.items() if name.endswith("_file")}
    assert len(looked_for) == 3 and looked_for <= held
    claim = volumes["bundle"]["persistentVolumeClaim"]
    assert claim["claimName"] == manifests["PersistentVolumeClaim"]["metadata"]["name"]
    assert claim["readOnly"] and mounts["bundle"]["readOnly"]


def test_what_scrapes_the_pods_is_told_the_path_of_the_bundles_monitoring_config(pod, container):
    told = pod["metadata"]["annotations"]
    assert (
        f'path: "{told["prometheus.io/path"]}"' in serving_files(max_batch=1)["monitoring.config"]
    )
    assert int(told["prometheus.io/port"]) in [port["containerPort"] for port in container["ports"]]


def test_the_pods_run_without_rights(pod, container):
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert not pod["spec"]["automountServiceAccountToken"]
    context = container["securityContext"]
    assert not context["allowPrivilegeEscalation"] and context["readOnlyRootFilesystem"]
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_labels_name_versions_that_are_served(container):
    (entry,) = model_entries(read_model_config(FOLDER / "models.config"))
    assert isinstance(entry.policy, SpecificVersions)
    assert set(entry.labels) == {"stable", "canary"}
    assert set(entry.labels.values()) <= set(entry.policy.choose(list(range(100))))
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(entry.base_path.parent) in mounted
    assert container["readinessProbe"]["httpGet"]["path"].endswith(f"/models/{entry.name}")
