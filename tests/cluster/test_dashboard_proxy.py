"""The dashboard behind a proxy that authenticates users: nginx with passwords, in a pod."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from support.on_cluster.cluster import NAMESPACE, Namespace, Parameters, install_chart, kubectl, new_namespace
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SYSTEM = Namespace(NAMESPACE)
SERVICE = "llmendpoint-dashboard"
UPSTREAM = f"{SERVICE}.{NAMESPACE}.svc.cluster.local"
HEADER = "X-Forwarded-User"
USER, PASSWORD = "ada", "a-password"
CONFIGURATION = f"""
pid /tmp/nginx.pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path /tmp/body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;
  server {{
    listen 8080;
    auth_basic "dashboard";
    auth_basic_user_file /etc/proxy/users;
    location / {{
      proxy_pass http://{UPSTREAM}:3001;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Authorization "";
      proxy_set_header {HEADER} $remote_user;
    }}
  }}
}}
"""
#: nginx does not start before it can resolve the name of the Service.
START = (
    f"until getent hosts {UPSTREAM}; do sleep 0.2; done; exec nginx -e stderr -c /etc/proxy/nginx.conf -g 'daemon off;'"
)
#: Prints the status of a request with the header, which the pod sets itself.
FORGE = f"""
import urllib.error, urllib.request
request = urllib.request.Request("http://{UPSTREAM}:3001/api/v1/state", headers={{"{HEADER}": "{USER}"}})
try:
    print(urllib.request.urlopen(request, timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


@dataclass(frozen=True)
class Proxied:
    """The URL of the proxy, and that of the dashboard itself, through forwarded ports."""

    proxy: str
    dashboard: str


def proxy_pod(image: str) -> dict[str, Any]:
    container = {
        "name": "nginx", "image": image, "command": ["sh", "-c", START],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "configuration", "mountPath": "/etc/proxy"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    return pod("login", container, volumes=[{"name": "configuration", "configMap": {"name": "login"}}])


def pod(name: str, container: dict[str, Any], **spec: Any) -> dict[str, Any]:
    secure = {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [container], "securityContext": secure, "automountServiceAccountToken": False,
                 "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, **spec},
    }  # fmt: skip


@pytest.fixture(scope="module")
def login(chart: None, parameters: Parameters) -> Iterator[Namespace]:
    """A namespace with the proxy. The dashboard believes the header from the address of its pod alone."""
    namespace = new_namespace("login")
    files = {"nginx.conf": CONFIGURATION, "users": f"{USER}:{{PLAIN}}{PASSWORD}\n"}
    namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "login"}, "data": files})
    namespace.apply(proxy_pod(parameters.proxy_image))
    address = wait_until(lambda: namespace.get("pod", "login")["status"].get("podIP"), 120)
    network = f"{address}/{128 if ':' in address else 32}"
    install_chart(
        "llmendpoint", NAMESPACE, "--wait", "--set", "dashboard.enabled=true,dashboard.auth.mode=Header",
        "--set-json", f'dashboard.auth.header.trustedProxies=["{network}"]',
    )  # fmt: skip
    namespace.run("wait", "--for=condition=Ready", "pod/login", "--timeout=120s")
    yield namespace
    kubectl("delete", "namespace", namespace.name, "--wait=false")
    install_chart("llmendpoint", NAMESPACE, "--wait")


@pytest.fixture(scope="module")
def proxied(login: Namespace) -> Iterator[Proxied]:
    with login.forward("pod/login", 8080) as proxy, SYSTEM.forward(f"service/{SERVICE}", 3001) as dashboard:
        yield Proxied(proxy, dashboard)


def password(value: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{USER}:{value}".encode()).decode()}


def get(url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Return status and body of a response."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_user_whom_the_proxy_knows_sees_the_cluster(proxied: Proxied) -> None:
    status, page = get(f"{proxied.proxy}/", password())
    assert (status, b"<html" in page) == (200, True)
    status, body = get(f"{proxied.proxy}/api/v1/state", password())
    assert status == 200, body
    about = json.loads(body)["sections"]["about"]
    assert (about["mode"], about["cluster"]) == ("cluster", "")


@pytest.mark.parametrize("headers", [{}, password("wrong"), {HEADER: USER}], ids=["none", "wrong", "forged"])
def test_others_are_refused_by_the_proxy(proxied: Proxied, headers: dict[str, str]) -> None:
    status, body = get(f"{proxied.proxy}/api/v1/state", headers)
    assert (status, b"nginx" in body) == (401, True)


def test_updates_pass_the_proxy_as_they_come(proxied: Proxied) -> None:
    request = urllib.request.Request(f"{proxied.proxy}/api/v1/events", headers=password())
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        # The stream does not end, so a proxy that collects it would send nothing.
        event = [line for _ in range(2) for line in iter(response.readline, b"\n")]
    assert any(line.startswith(b"data:") for line in event)


@pytest.mark.parametrize("headers", [{}, {HEADER: USER}], ids=["none", "forged"])
@pytest.mark.parametrize("path", ["/", "/api/v1/state", "/api/v1/events"])
def test_a_request_past_the_proxy_is_refused(proxied: Proxied, path: str, headers: dict[str, str]) -> None:
    status, body = get(f"{proxied.dashboard}{path}", headers)
    assert status == 401
    assert f"through its proxy, which sets the header {HEADER}" in body.decode()


def test_another_pod_that_sets_the_header_itself_is_refused(proxied: Proxied, login: Namespace) -> None:
    (found,) = json.loads(SYSTEM.run("get", "pods", "-l", "llmendpoint.dev/dashboard=true", "-o", "json"))["items"]
    container = {
        "name": "stranger", "image": found["spec"]["containers"][0]["image"], "command": ["python3", "-c", FORGE],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    login.apply(pod("stranger", container))
    login.run("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/stranger", "--timeout=120s")
    assert login.run("logs", "stranger").strip() == "401"
