"""deploy/kubernetes: what the API server would refuse, and what it would accept and never work."""

import unittest

from . import kustomizations
from .kustomizations import COMBINATIONS, FOLDER, Kustomization, all_kustomizations, as_they_lie, put_together
from .tree import DEPLOY, Dockerfile, flag, port, version

try:
    import kubernetes_validate
except ImportError:
    kubernetes_validate = None

# Neither newer fields than the older one knows, nor ones that the newer one has dropped.
SCHEMAS = ("1.30.0", "1.37.0")

PART = "app.kubernetes.io/component"


def named(documents: list[dict], kind: str) -> dict[str, dict]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def workloads(documents: list[dict]) -> list[dict]:
    return [document for document in documents if document["kind"] in ("Deployment", "StatefulSet")]


def pod(workload: dict) -> dict:
    return workload["spec"]["template"]["spec"]


def container(workload: dict) -> dict:
    [only] = pod(workload)["containers"]
    return only


def part(documents: list[dict], name: str) -> dict:
    [found] = [one for one in workloads(documents) if one["spec"]["selector"]["matchLabels"][PART] == name]
    return found


def selects(selector: dict, labels: dict) -> bool:
    return selector.items() <= labels.items()


class Lists(unittest.TestCase):
    """Without kustomize: every name in a list is there, and every file is named in one."""

    def test_everything_that_is_listed_exists(self) -> None:
        for kustomization in all_kustomizations():
            for path in kustomization.listed():
                with self.subTest(kustomization.folder.name, listed=path.name):
                    self.assertTrue(path.is_file() or (path / "kustomization.yaml").is_file())

    def test_every_file_is_listed(self) -> None:
        listed = {path.resolve() for kustomization in all_kustomizations() for path in kustomization.listed()}
        files = {path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml"}
        self.assertEqual(files - listed, set())

    def test_images_are_ours_and_of_this_version(self) -> None:
        images: dict[str, str] = {}
        for kustomization in all_kustomizations():
            images |= kustomization.images()
        self.assertEqual(set(images), {f"lockstep-{target}" for target in Dockerfile().targets()})
        self.assertEqual(set(images.values()), {version()})

    def test_every_container_has_its_image_from_a_list(self) -> None:
        listed = Kustomization.of(FOLDER / "cluster").images()
        images = {container(workload)["image"] for workload in workloads(as_they_lie("cluster"))}
        self.assertEqual(images, set(listed))


class PutTogether(unittest.TestCase):
    """What kustomize makes of them; where there is none, the plain cluster alone, as its files lie."""

    def each(self):
        if kustomizations.kustomize() is None:
            yield "cluster, as it lies", as_they_lie("cluster")
            return
        for name in COMBINATIONS:
            yield name, put_together(name)

    @unittest.skipIf(kubernetes_validate is None, "kubernetes-validate is not installed")
    def test_the_schemas_accept_every_resource(self) -> None:
        for name, documents in self.each():
            # cert-manager's kinds are its own; Certificates checks them.
            for document in (one for one in documents if not one["apiVersion"].startswith("cert-manager.io/")):
                for schema in SCHEMAS:
                    with self.subTest(name, kind=document["kind"], of=document["metadata"]["name"], schema=schema):
                        kubernetes_validate.validate(document, schema, strict=True)

    @unittest.skipIf(kustomizations.kustomize() is None, "neither kustomize nor kubectl is here")
    def test_everything_lies_in_one_namespace_and_bears_a_tag(self) -> None:
        for name, documents in self.each():
            [namespace] = named(documents, "Namespace")
            for document in documents:
                with self.subTest(name, of=document["metadata"]["name"]):
                    if document["kind"] != "Namespace":
                        self.assertEqual(document["metadata"]["namespace"], namespace)
            for workload in workloads(documents):
                with self.subTest(name, image=container(workload)["image"]):
                    self.assertEqual(container(workload)["image"].split(":")[1], version())

    def test_selectors_find_what_they_are_for(self) -> None:
        for name, documents in self.each():
            labels = [workload["spec"]["template"]["metadata"]["labels"] for workload in workloads(documents)]
            for workload, own in zip(workloads(documents), labels):
                with self.subTest(name, of=workload["metadata"]["name"]):
                    self.assertTrue(selects(workload["spec"]["selector"]["matchLabels"], own))
            selectors = [("Service", one["spec"]["selector"]) for one in named(documents, "Service").values()]
            budgets = named(documents, "PodDisruptionBudget").values()
            selectors += [("PodDisruptionBudget", one["spec"]["selector"]["matchLabels"]) for one in budgets]
            for kind, selector in selectors + self.in_policies(documents):
                with self.subTest(name, kind=kind, selector=selector):
                    self.assertEqual(sum(selects(selector, own) for own in labels), 1)

    @staticmethod
    def in_policies(documents: list[dict]) -> list[tuple[str, dict]]:
        """The pods of this namespace that policies name; the one that names all, and other namespaces' pods, aside."""
        found = []
        for policy in named(documents, "NetworkPolicy").values():
            sides = [rule.get(side, []) for way, side in (("ingress", "from"), ("egress", "to"))
                     for rule in policy["spec"].get(way, [])]
            peers = [peer for side in sides for peer in side if "namespaceSelector" not in peer]
            selectors = [policy["spec"]["podSelector"], *(peer["podSelector"] for peer in peers)]
            found += [("NetworkPolicy", one["matchLabels"]) for one in selectors if one]
        return found

    def test_ports_are_the_same_everywhere(self) -> None:
        exposed = Dockerfile().ports()
        for name, documents in self.each():
            coordinator, worker = part(documents, "coordinator"), part(documents, "worker")
            with self.subTest(name):
                args = container(coordinator)["args"]
                own = {one["name"]: one["containerPort"] for one in container(coordinator)["ports"]}
                self.assertEqual(own, {"grpc": port(flag(args, "listen")), "http": port(flag(args, "http"))})
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    self.assertEqual(own[container(coordinator)[probe]["httpGet"]["port"]], own["http"])

                worker_args = container(worker)["args"]
                [data] = container(worker)["ports"]
                self.assertEqual(data["containerPort"], port(flag(worker_args, "listen")))
                self.assertEqual(exposed, {*own.values(), data["containerPort"]})

                services = named(documents, "Service")
                for service in services.values():
                    for one in service["spec"]["ports"]:
                        self.assertEqual(one["port"], own[one["targetPort"]])
                url = worker_args[1]
                host = url.removeprefix("https://").split(":")[0]
                self.assertIn(port(url), [one["port"] for one in services[host]["spec"]["ports"]])
                self.assertNotEqual(services[host]["spec"].get("clusterIP"), "None")
                self.assertEqual(services[coordinator["spec"]["serviceName"]]["spec"]["clusterIP"], "None")

    def test_policies_let_through_what_is_needed(self) -> None:
        for name, documents in self.each():
            policies = {one["spec"]["podSelector"].get("matchLabels", {}).get(PART): one["spec"]
                        for one in named(documents, "NetworkPolicy").values()}
            with self.subTest(name):
                self.assertEqual(policies[None]["policyTypes"], ["Ingress", "Egress"], "nothing else")
                own = port(flag(container(part(documents, "coordinator"))["args"], "listen"))
                into = [(peer["podSelector"]["matchLabels"].get(PART), [one["port"] for one in rule["ports"]])
                        for rule in policies["coordinator"]["ingress"] for peer in rule["from"] if "podSelector" in peer]
                self.assertIn(("worker", [own]), into)
                outof = [(peer["podSelector"]["matchLabels"][PART], [one["port"] for one in rule.get("ports", [])])
                         for rule in policies["worker"]["egress"] for peer in rule.get("to", [])]
                self.assertIn(("coordinator", [own]), outof)
                self.assertIn(("worker", []), outof, "NCCL draws its ports")

    def test_a_worker_has_the_time_to_leave_at_a_step_boundary(self) -> None:
        for name, documents in self.each():
            worker = part(documents, "worker")
            with self.subTest(name):
                drain = int(flag(container(worker)["args"], "drain-timeout"))
                self.assertGreaterEqual(pod(worker)["terminationGracePeriodSeconds"], drain + 15)

    def test_nothing_has_more_rights_than_it_needs(self) -> None:
        user = Dockerfile().user()
        for name, documents in self.each():
            for workload in workloads(documents):
                with self.subTest(name, of=workload["metadata"]["name"]):
                    context, own = pod(workload)["securityContext"], container(workload)["securityContext"]
                    self.assertTrue(context["runAsNonRoot"])
                    self.assertEqual({context[key] for key in ("runAsUser", "runAsGroup", "fsGroup")}, {user})
                    self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
                    self.assertIs(own["allowPrivilegeEscalation"], False)
                    self.assertIs(own["readOnlyRootFilesystem"], True)
                    self.assertEqual(own["capabilities"], {"drop": ["ALL"]})
                    self.assertIs(pod(workload)["automountServiceAccountToken"], False)
                    # Variables of the form LOCKSTEP_… are read as parts of recipes.
                    self.assertIs(pod(workload)["enableServiceLinks"], False)

    def test_all_that_is_mounted_is_there_and_all_that_is_written_to_is_mounted(self) -> None:
        home = Dockerfile().home()
        for name, documents in self.each():
            for workload in workloads(documents):
                with self.subTest(name, of=workload["metadata"]["name"]):
                    claims = workload["spec"].get("volumeClaimTemplates", [])
                    volumes = {one["name"] for one in pod(workload)["volumes"]}
                    volumes |= {one["metadata"]["name"] for one in claims}
                    mounts = {one["name"]: one["mountPath"] for one in container(workload)["volumeMounts"]}
                    self.assertEqual(set(mounts), volumes)
                    self.assertLessEqual({home, "/tmp"}, set(mounts.values()))
                    # Every volume has exactly one source.
                    for volume in pod(workload)["volumes"]:
                        self.assertEqual(len(volume), 2, volume)

    def test_credentials_are_named_as_they_are_mounted(self) -> None:
        for name, documents in self.each():
            coordinator, worker = part(documents, "coordinator"), part(documents, "worker")
            with self.subTest(name):
                for workload in (coordinator, worker):
                    [tls] = [one for one in container(workload)["volumeMounts"] if one["name"] == "tls"]
                    self.assertTrue(tls["readOnly"])
                    flags = ("tls-dir",) if workload is coordinator else ("ca", "cert", "key", "token-file")
                    given = [flag(container(workload)["args"], one) for one in flags]
                    for path in filter(None, given):
                        self.assertTrue(path.startswith(tls["mountPath"]), path)
                [tls] = [one for one in pod(worker)["volumes"] if one["name"] == "tls"]
                by_certificate = flag(container(worker)["args"], "cert") is not None
                self.assertEqual(by_certificate, "csi" in tls)
                self.assertEqual(by_certificate, flag(container(worker)["args"], "token-file") is None)
                if by_certificate:
                    said = tls["csi"]["volumeAttributes"]
                    files = {one: flag(container(worker)["args"], one).rsplit("/", 1)[1] for one in ("ca", "cert", "key")}
                    self.assertEqual(files, {
                        "ca": said["csi.cert-manager.io/ca-file"],
                        "cert": said["csi.cert-manager.io/certificate-file"],
                        "key": said["csi.cert-manager.io/privatekey-file"],
                    })
                    # A certificate is made out to the name that the worker joins with.
                    self.assertEqual(flag(container(worker)["args"], "name"), "$(POD_NAME)")
                    self.assertIn("lockstep:name:${POD_NAME}", said["csi.cert-manager.io/uri-sans"].split(","))

    def test_gpus_are_asked_for_where_they_are_used_and_only_there(self) -> None:
        for name, documents in self.each():
            worker = part(documents, "worker")
            device, resources = flag(container(worker)["args"], "device"), container(worker)["resources"]
            with self.subTest(name):
                self.assertEqual(device == "cpu", name.startswith("cpu"))
                for side in ("requests", "limits"):
                    self.assertEqual(resources[side].get("nvidia.com/gpu"), None if device == "cpu" else 1)
                kind = "cpu" if device == "cpu" else "cuda"
                self.assertEqual(container(worker)["image"].split(":")[0], f"lockstep-worker-{kind}")

    def test_health_is_asked_of_what_the_image_has(self) -> None:
        for name, documents in self.each():
            with self.subTest(name):
                [command] = container(part(documents, "worker"))["readinessProbe"]["exec"]["command"]
                self.assertTrue((DEPLOY / "containers" / command).is_file())


@unittest.skipIf(kustomizations.kustomize() is None, "neither kustomize nor kubectl is here")
class Certificates(unittest.TestCase):
    """cert-manager's resources, whose schemas are its own."""

    def setUp(self) -> None:
        self.documents = put_together("cpu and cert-manager")
        self.certificates = named(self.documents, "Certificate")

    def test_every_certificate_has_an_issuer_and_every_mounted_secret_a_certificate(self) -> None:
        issuers = named(self.documents, "Issuer")
        for name, certificate in self.certificates.items():
            with self.subTest(name):
                self.assertEqual(certificate["spec"]["issuerRef"]["kind"], "Issuer")
                self.assertIn(certificate["spec"]["issuerRef"]["name"], issuers)
        made = {one["spec"]["secretName"] for one in self.certificates.values()}
        used = {one["secret"]["secretName"] for workload in workloads(self.documents)
                for one in pod(workload)["volumes"] if "secret" in one}
        used |= {one["spec"]["ca"]["secretName"] for one in issuers.values() if "ca" in one["spec"]}
        self.assertLessEqual(used, made)

    def test_the_coordinators_certificate_names_what_workers_dial(self) -> None:
        url = container(part(self.documents, "worker"))["args"][1]
        names = self.certificates["lockstep-coordinator"]["spec"]["dnsNames"]
        self.assertIn(url.removeprefix("https://").split(":")[0], names)

    def test_no_certificate_is_for_both_sides(self) -> None:
        for name, certificate in self.certificates.items():
            spec = certificate["spec"]
            if spec.get("isCA"):
                continue
            with self.subTest(name):
                sides = {"server auth", "client auth"} & set(spec["usages"])
                self.assertEqual(sides, {"client auth"} if "uris" in spec else {"server auth"})
                self.assertLess(int(spec["renewBefore"][:-1]), int(spec["duration"][:-1]))


if __name__ == "__main__":
    unittest.main()
