"""The parts of a JobSet and of a SkyPilot task that we write, and nothing beside them.

Written by hand after the published schemas: the custom resource definition jobsets.jobset.x-k8s.io (v1alpha2) with
Kubernetes' batch/v1 JobSpec and PodSpec, and `sky.utils.schemas` of SkyPilot 0.14.1. A field that is not listed here is
a mistake, as it is for them.
"""

# ruff: noqa: N815 - the names are Kubernetes' own

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Label = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+$")]
AtLeast = Annotated[str, StringConstraints(pattern=r"^[0-9]+\+$")]
Count = Annotated[int, Field(ge=0, lt=2**31)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Rule(Strict):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    action: Literal["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]
    onJobFailureReasons: list[
        Literal[
            "BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy"
        ]
    ]


class FailurePolicy(Strict):
    maxRestarts: Count
    rules: list[Rule]


class Network(Strict):
    enableDNSHostnames: bool
    subdomain: Label


class Condition(Strict):
    type: Literal["DisruptionTarget"]
    status: Literal["True", "False", "Unknown"]


class PodFailureRule(Strict):
    action: Literal["FailJob", "FailIndex", "Ignore", "Count"]
    onPodConditions: list[Condition]


class PodFailurePolicy(Strict):
    rules: list[PodFailureRule]


class Port(Strict):
    containerPort: Annotated[int, Field(gt=0, lt=65536)]


class Mount(Strict):
    name: Label
    mountPath: str


class Resources(Strict):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity] = {}


class Container(Strict):
    name: Label
    image: str
    command: list[str]
    ports: list[Port]
    volumeMounts: list[Mount]
    resources: Resources | None = None


class Claim(Strict):
    claimName: Label


class Shared(Strict):
    medium: Literal["", "Memory"]


class Volume(Strict):
    name: Label
    persistentVolumeClaim: Claim | None = None
    emptyDir: Shared | None = None


class PodSpec(Strict):
    # a job with a podFailurePolicy may only have pods that are never restarted in place
    restartPolicy: Literal["Never"]
    terminationGracePeriodSeconds: Count
    nodeSelector: dict[str, str] = {}
    containers: list[Container]
    volumes: list[Volume]


class PodTemplate(Strict):
    spec: PodSpec


class JobSpec(Strict):
    parallelism: Count
    completions: Count
    completionMode: Literal["Indexed", "NonIndexed"]
    backoffLimit: Count
    activeDeadlineSeconds: Annotated[int, Field(gt=0)] | None = None
    podFailurePolicy: PodFailurePolicy
    template: PodTemplate


class JobTemplate(Strict):
    spec: JobSpec


class ReplicatedJob(Strict):
    name: Label
    replicas: Count
    template: JobTemplate


class JobSetSpec(Strict):
    network: Network
    failurePolicy: FailurePolicy
    replicatedJobs: list[ReplicatedJob]


class Metadata(Strict):
    name: Label
    namespace: Label | None = None
    labels: dict[Literal["kueue.x-k8s.io/queue-name"], Label] = {}


class JobSet(Strict):
    apiVersion: Literal["jobset.x-k8s.io/v1alpha2"]
    kind: Literal["JobSet"]
    metadata: Metadata
    spec: JobSetSpec


class SkyResources(Strict):
    accelerators: dict[str, int] = Field(default={}, max_length=1)
    cpus: AtLeast | None = None
    memory: AtLeast | None = None
    image_id: Annotated[str, StringConstraints(pattern="^docker:.")] | None = None


class SkyStorage(Strict):
    source: str
    mode: Literal["MOUNT", "COPY", "MOUNT_CACHED"]


class SkyTask(Strict):
    name: str
    num_nodes: int
    workdir: str
    resources: SkyResources
    file_mounts: dict[str, SkyStorage] = {}
    volumes: dict[str, str] = {}
    run: str
