"""The predefined roles, with Google's names and permissions, as far as there is something here that they guard.

A permission is written `service.resource.verb`. The families below say which verbs a resource has, and the roles are
put together from families, so that a permission that is new in one place is in every role that should hold it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shared.events.states import RoleState


@dataclass(frozen=True)
class Role:
    """A predefined role."""

    name: str
    title: str
    permissions: tuple[str, ...]

    def fact(self) -> RoleState:
        """The role as all services hear it."""
        return RoleState(project="", role=self.name, title=self.title, permissions=self.permissions)


_NOTHING: Final[frozenset[str]] = frozenset()


def _family(resource: str, verbs: str) -> frozenset[str]:
    return frozenset(f"{resource}.{verb}" for verb in verbs.split())


def _families(service: str, resources: str, verbs: str) -> frozenset[str]:
    return frozenset(f"{service}.{resource}.{verb}" for resource in resources.split() for verb in verbs.split())


def _only(permissions: Iterable[str], verbs: str) -> frozenset[str]:
    wanted = frozenset(verbs.split())
    return frozenset(permission for permission in permissions if permission.rpartition(".")[2] in wanted)


_CRUD: Final = "create delete get list update"
_IAM: Final = "getIamPolicy setIamPolicy"
_READ: Final = "get list"

# Projects, organisations and IAM itself.

_PROJECTS = _family("resourcemanager.projects", f"{_CRUD} {_IAM} undelete move createPolicyBinding deletePolicyBinding")
_PROJECT_GET = frozenset({"resourcemanager.projects.get"})
_ORGANIZATIONS = _family("resourcemanager.organizations", f"get {_IAM}")
_PERIMETERS = _families("accesscontextmanager", "accessLevels policies servicePerimeters", _CRUD)
_ACCOUNTS = _family("iam.serviceAccounts", f"{_CRUD} {_IAM} disable enable undelete")
_ACCOUNT_USE = _family("iam.serviceAccounts", "actAs getAccessToken getOpenIdToken signBlob signJwt implicitDelegation")
_ACCOUNT_KEYS = _family("iam.serviceAccountKeys", "create delete get list disable enable")
_ROLES = _family("iam.roles", f"{_CRUD} undelete")
_DENIALS = _family("iam.denypolicies", _CRUD)
_SIGNING = _family("iam.signingKeys", "list rotate")
_SERVICES = _family("serviceusage.services", "enable disable get list use")
_GROUPS = _family("cloudidentity.groups", _CRUD)

# Artifact Registry.

_AR_REPOSITORIES = _family("artifactregistry.repositories", f"{_CRUD} {_IAM}")
_AR_TRANSFER = _family("artifactregistry.repositories", "downloadArtifacts uploadArtifacts deleteArtifacts")
_AR_UPSTREAM = _family("artifactregistry.repositories", "readViaVirtualRepository exportArtifacts")
_AR_CREATE_ON_PUSH = frozenset({"artifactregistry.repositories.createOnPush"})
_AR_CONTENT_READ = _families(
    "artifactregistry",
    "attachments dockerimages files locations mavenartifacts npmpackages packages pythonpackages rules tags versions",
    _READ,
) | {
    "artifactregistry.files.download",
    "artifactregistry.projectsettings.get",
    "artifactregistry.vpcscconfigs.get",
}
_AR_CONTENT_WRITE = (
    _families("artifactregistry", "packages tags versions files", "update")
    | _families("artifactregistry", "tags attachments aptartifacts yumartifacts kfpartifacts", "create")
    | {"artifactregistry.files.upload"}
)
_AR_CONTENT_DELETE = _families("artifactregistry", "tags versions packages files attachments", "delete")
_AR_RULES = _family("artifactregistry.rules", "create delete update")
_AR_SETTINGS = frozenset({"artifactregistry.projectsettings.update", "artifactregistry.vpcscconfigs.update"})
_AR_READER = (
    _AR_CONTENT_READ
    | _only(_AR_REPOSITORIES, _READ)
    | _only(_AR_TRANSFER | _AR_UPSTREAM, "downloadArtifacts readViaVirtualRepository")
)
_AR_WRITER = _AR_READER | _AR_CONTENT_WRITE | _only(_AR_TRANSFER, "uploadArtifacts")
_AR_REPO_ADMIN = _AR_WRITER | _AR_CONTENT_DELETE | _AR_TRANSFER
_AR_ADMIN = _AR_REPO_ADMIN | _AR_REPOSITORIES | _AR_UPSTREAM | _AR_CREATE_ON_PUSH | _AR_RULES | _AR_SETTINGS
_VULNERABILITIES_OF = _family("ondemandscanning.scans", "analyzePackages listVulnerabilities")

# Cloud Build.

_BUILDS = _family("cloudbuild.builds", "create get list update")
_BUILD_APPROVE = frozenset({"cloudbuild.builds.approve"})
_POOLS = _family("cloudbuild.workerpools", _CRUD)
_POOL_USE = frozenset({"cloudbuild.workerpools.use"})
_CONNECTIONS = _family("cloudbuild.connections", f"{_CRUD} {_IAM} fetchLinkableRepositories")
_REPOSITORIES = _family("cloudbuild.repositories", "create delete get list accessReadToken accessReadWriteToken")
_BUILD_OPERATIONS = _family("cloudbuild.operations", _READ)
_TRIGGERS = _family("cloudbuild.triggers", f"{_CRUD} run")
_BUILD_VIEWER = _only(_BUILDS, _READ) | _only(_TRIGGERS, _READ) | _BUILD_OPERATIONS
_BUILD_EDITOR = _BUILD_VIEWER | _BUILDS | _TRIGGERS

# Artifact Analysis.

_NOTES = _family("containeranalysis.notes", f"{_CRUD} {_IAM} listOccurrences attachOccurrence")
_OCCURRENCES = _family("containeranalysis.occurrences", f"{_CRUD} {_IAM}")
_NOTE_VIEWER = _only(_NOTES, _READ)
_NOTE_EDITOR = _only(_NOTES, f"{_CRUD} attachOccurrence")
_OCCURRENCE_VIEWER = _only(_OCCURRENCES, _READ)
_OCCURRENCE_EDITOR = _only(_OCCURRENCES, _CRUD)

# Binary Authorization.

_ATTESTORS = _family("binaryauthorization.attestors", f"{_CRUD} {_IAM} verifyImageAttested")
_POLICY = _family("binaryauthorization.policy", f"get update evaluatePolicy {_IAM}")
_PLATFORM_POLICIES = _family("binaryauthorization.platformPolicies", "create delete get list replace evaluatePolicy")
_CONTINUOUS = _family("binaryauthorization.continuousValidationConfig", f"get update {_IAM}")
_ADMIT = frozenset({"binaryauthorization.policy.evaluatePolicy"})
_ATTESTOR_VIEWER = _only(_ATTESTORS, _READ)
_POLICY_VIEWER = _only(_POLICY | _PLATFORM_POLICIES | _CONTINUOUS, _READ)

# Logging.

_ENTRIES = _family("logging.logEntries", "create list download route")
_LOGS = _family("logging.logs", "list delete")
_LOG_META_READ = _families(
    "logging", "buckets exclusions links locations logMetrics logScopes operations queries sinks views", _READ
) | _families("logging", "logServices logServiceIndexes", "list")
_LOG_CONFIG = (
    _families("logging", "buckets exclusions links logMetrics logScopes notificationRules sinks views", _CRUD)
    | _families("logging", "settings cmekSettings", "get update")
    | _family("logging.buckets", "undelete write copyLogEntries")
    | _family("logging.operations", "get list cancel")
)
_LOG_VIEW_POLICIES = _family("logging.views", _IAM)
_QUERIES = _family(
    "logging.queries", "create delete get list update listShared getShared share updateShared deleteShared"
)
_PRIVATE_LOGS = frozenset({"logging.privateLogEntries.list", "logging.views.access"})
_LOG_VIEWER = _LOG_META_READ | _only(_ENTRIES | _LOGS, "list") | _only(_QUERIES, "get list listShared getShared")

# Secret Manager.

_SECRETS = _family("secretmanager.secrets", f"{_CRUD} {_IAM} createTagBinding deleteTagBinding listEffectiveTags")
_VERSIONS = _family("secretmanager.versions", "add access get list enable disable destroy")
_SECRET_PLACES = _family("secretmanager.locations", _READ)
_SECRET_VIEWER = _only(_SECRETS | _VERSIONS, _READ) | _SECRET_PLACES
_SECRET_MANAGER = _only(_VERSIONS, "add get list enable disable destroy")

# The three basic roles are the union of what is below; who views may not read secrets, nor private logs.

_VIEWER = _NOTHING.union(
    _AR_READER, _BUILD_VIEWER, _NOTE_VIEWER, _OCCURRENCE_VIEWER, _ATTESTOR_VIEWER, _POLICY_VIEWER, _LOG_VIEWER,
    _SECRET_VIEWER, _PROJECT_GET, _only(_PROJECTS, "list"), _only(_ACCOUNTS | _ACCOUNT_KEYS | _ROLES, _READ),
    _only(_POOLS | _CONNECTIONS | _REPOSITORIES, _READ), _only(_DENIALS | _GROUPS | _SERVICES, _READ),
    _only(_NOTES, "listOccurrences"), _VULNERABILITIES_OF,
    _only(_PROJECTS | _ACCOUNTS | _AR_REPOSITORIES | _NOTES | _OCCURRENCES | _ATTESTORS | _POLICY | _SECRETS,
          "getIamPolicy"),
)  # fmt: skip
_EDITOR = _NOTHING.union(
    _VIEWER, _AR_REPO_ADMIN, _only(_AR_REPOSITORIES, _CRUD), _AR_CREATE_ON_PUSH, _BUILD_EDITOR, _POOLS, _POOL_USE,
    _only(_CONNECTIONS, _CRUD), _REPOSITORIES, _NOTE_EDITOR, _OCCURRENCE_EDITOR, _ADMIT,
    _only(_ATTESTORS, f"{_CRUD} verifyImageAttested"), _only(_POLICY | _PLATFORM_POLICIES | _CONTINUOUS,
    "create delete get list update replace evaluatePolicy"), _only(_ENTRIES, "create route"), _LOG_CONFIG - _LOG_VIEWER,
    _only(_SECRETS, _CRUD), _SECRET_MANAGER, _only(_ACCOUNTS, f"{_CRUD} disable enable undelete"),
    _only(_ACCOUNT_KEYS, "create delete get list disable enable"), _family("iam.serviceAccounts", "actAs"),
    _AR_SETTINGS, _AR_RULES, _QUERIES, _SERVICES,
)  # fmt: skip
_OWNER = _NOTHING.union(
    _EDITOR, _AR_ADMIN, _PROJECTS - {"resourcemanager.projects.create"}, _ACCOUNTS, _ACCOUNT_USE, _ACCOUNT_KEYS,
    _ROLES, _DENIALS, _BUILD_APPROVE, _CONNECTIONS, _NOTES, _OCCURRENCES, _ATTESTORS, _POLICY, _CONTINUOUS,
    _PLATFORM_POLICIES, _ENTRIES, _LOGS, _LOG_CONFIG, _LOG_VIEW_POLICIES, _PRIVATE_LOGS, _SECRETS, _VERSIONS,
)  # fmt: skip

_TABLE: Final[tuple[tuple[str, str, frozenset[str]], ...]] = (
    ("owner", "Owner", _OWNER),
    ("editor", "Editor", _EDITOR),
    ("viewer", "Viewer", _VIEWER),
    (
        "browser",
        "Browser",
        _only(_PROJECTS | _ORGANIZATIONS, "get list getIamPolicy"),
    ),
    (
        "resourcemanager.organizationAdmin",
        "Organization Administrator",
        _ORGANIZATIONS | _GROUPS | _SIGNING | _DENIALS | _only(_PROJECTS, f"get list {_IAM}"),
    ),
    ("accesscontextmanager.policyAdmin", "Access Context Manager Admin", _PERIMETERS),
    ("accesscontextmanager.policyReader", "Access Context Manager Reader", _only(_PERIMETERS, _READ)),
    ("resourcemanager.organizationViewer", "Organization Viewer", _only(_ORGANIZATIONS, "get")),
    (
        "resourcemanager.projectCreator",
        "Project Creator",
        _only(_PROJECTS, "create") | _only(_ORGANIZATIONS, "get"),
    ),
    ("resourcemanager.projectDeleter", "Project Deleter", _only(_PROJECTS, "delete")),
    (
        "resourcemanager.projectIamAdmin",
        "Project IAM Admin",
        _only(_PROJECTS, f"get {_IAM} createPolicyBinding deletePolicyBinding"),
    ),
    (
        "iam.securityAdmin",
        "Security Admin",
        frozenset(
            permission
            for permission in _OWNER | _ORGANIZATIONS
            if permission.rpartition(".")[2] in {"get", "list", "getIamPolicy", "setIamPolicy"}
            and not permission.startswith("secretmanager.versions.")
        ),
    ),
    ("iam.securityReviewer", "Security Reviewer", _only(_OWNER | _ORGANIZATIONS, "list getIamPolicy")),
    ("iam.serviceAccountAdmin", "Service Account Admin", _ACCOUNTS | _PROJECT_GET),
    ("iam.serviceAccountCreator", "Create Service Accounts", _only(_ACCOUNTS, "create get list") | _PROJECT_GET),
    ("iam.serviceAccountDeleter", "Delete Service Accounts", _only(_ACCOUNTS, "delete get list") | _PROJECT_GET),
    ("iam.serviceAccountViewer", "View Service Accounts", _only(_ACCOUNTS | _ACCOUNT_KEYS, "get list getIamPolicy")),
    (
        "iam.serviceAccountKeyAdmin",
        "Service Account Key Admin",
        _ACCOUNT_KEYS | _only(_ACCOUNTS, _READ) | _PROJECT_GET,
    ),
    ("iam.serviceAccountUser", "Service Account User", _only(_ACCOUNTS, _READ) | _only(_ACCOUNT_USE, "actAs")),
    (
        "iam.serviceAccountTokenCreator",
        "Service Account Token Creator",
        _only(_ACCOUNTS, _READ)
        | _only(_ACCOUNT_USE, "getAccessToken getOpenIdToken signBlob signJwt implicitDelegation"),
    ),
    ("iam.roleAdmin", "Role Administrator", _ROLES | _only(_PROJECTS, "get getIamPolicy")),
    ("iam.roleViewer", "Role Viewer", _only(_ROLES, _READ) | _only(_PROJECTS, "get getIamPolicy")),
    (
        "iam.organizationRoleAdmin",
        "Organization Role Administrator",
        _ROLES | _only(_PROJECTS, "get list getIamPolicy") | _only(_ORGANIZATIONS, "get getIamPolicy"),
    ),
    ("iam.organizationRoleViewer", "Organization Role Viewer", _only(_ROLES, _READ)),
    ("iam.denyAdmin", "Deny Admin", _DENIALS),
    ("iam.denyReviewer", "Deny Reviewer", _only(_DENIALS, _READ)),
    ("artifactregistry.admin", "Artifact Registry Administrator", _AR_ADMIN),
    ("artifactregistry.repoAdmin", "Artifact Registry Repository Administrator", _AR_REPO_ADMIN),
    ("artifactregistry.writer", "Artifact Registry Writer", _AR_WRITER),
    ("artifactregistry.reader", "Artifact Registry Reader", _AR_READER),
    (
        "artifactregistry.createOnPushWriter",
        "Artifact Registry Create-on-Push Writer",
        _AR_WRITER | _AR_CREATE_ON_PUSH | _only(_AR_REPOSITORIES, "create"),
    ),
    (
        "artifactregistry.createOnPushRepoAdmin",
        "Artifact Registry Create-on-Push Repository Administrator",
        _AR_REPO_ADMIN | _AR_CREATE_ON_PUSH | _only(_AR_REPOSITORIES, "create"),
    ),
    ("cloudbuild.builds.viewer", "Cloud Build Viewer", _BUILD_VIEWER | _PROJECT_GET),
    ("cloudbuild.builds.editor", "Cloud Build Editor", _BUILD_EDITOR | _PROJECT_GET),
    ("cloudbuild.builds.approver", "Cloud Build Approver", _BUILD_VIEWER | _BUILD_APPROVE | _PROJECT_GET),
    (
        "cloudbuild.builds.builder",
        "Cloud Build Service Account",
        _BUILDS
        | _BUILD_OPERATIONS
        | _POOL_USE
        | _AR_WRITER
        | _AR_CREATE_ON_PUSH
        | _only(_AR_REPOSITORIES, "create")
        | _OCCURRENCE_EDITOR
        | _only(_ENTRIES | _LOGS, "create list")
        | _PROJECT_GET,
    ),
    ("cloudbuild.workerPoolOwner", "Cloud Build WorkerPool Owner", _POOLS | _POOL_USE | _PROJECT_GET),
    ("cloudbuild.workerPoolUser", "Cloud Build WorkerPool User", _POOL_USE),
    ("cloudbuild.workerPoolViewer", "Cloud Build WorkerPool Viewer", _only(_POOLS, _READ) | _PROJECT_GET),
    ("cloudbuild.connectionAdmin", "Cloud Build Connection Admin", _CONNECTIONS | _REPOSITORIES),
    (
        "cloudbuild.connectionViewer",
        "Cloud Build Connection Viewer",
        _only(_CONNECTIONS | _REPOSITORIES, f"{_READ} getIamPolicy"),
    ),
    (
        "containeranalysis.admin",
        "Container Analysis Admin",
        _NOTES | _OCCURRENCES | _PROJECT_GET | _only(_PROJECTS, "list"),
    ),
    ("containeranalysis.notes.viewer", "Container Analysis Notes Viewer", _NOTE_VIEWER | _PROJECT_GET),
    ("containeranalysis.notes.editor", "Container Analysis Notes Editor", _NOTE_EDITOR | _PROJECT_GET),
    (
        "containeranalysis.notes.attacher",
        "Container Analysis Notes Attacher",
        _only(_NOTES, "get attachOccurrence"),
    ),
    (
        "containeranalysis.notes.occurrences.viewer",
        "Container Analysis Occurrences for Notes Viewer",
        _only(_NOTES, "get listOccurrences"),
    ),
    (
        "containeranalysis.occurrences.viewer",
        "Container Analysis Occurrences Viewer",
        _OCCURRENCE_VIEWER | _PROJECT_GET,
    ),
    (
        "containeranalysis.occurrences.editor",
        "Container Analysis Occurrences Editor",
        _OCCURRENCE_EDITOR | _PROJECT_GET,
    ),
    ("ondemandscanning.admin", "On Demand Scanning Admin", _VULNERABILITIES_OF),
    (
        "binaryauthorization.policyAdmin",
        "Binary Authorization Policy Administrator",
        (_POLICY | _PLATFORM_POLICIES | _CONTINUOUS | _PROJECT_GET),
    ),
    (
        "binaryauthorization.policyEditor",
        "Binary Authorization Policy Editor",
        _only(_POLICY | _PLATFORM_POLICIES | _CONTINUOUS, "create delete get list update replace evaluatePolicy")
        | _PROJECT_GET,
    ),
    ("binaryauthorization.policyViewer", "Binary Authorization Policy Viewer", _POLICY_VIEWER | _PROJECT_GET),
    (
        "binaryauthorization.policyEvaluator",
        "Binary Authorization Policy Evaluator",
        (_only(_POLICY | _PLATFORM_POLICIES, "get evaluatePolicy") | _PROJECT_GET),
    ),
    ("binaryauthorization.attestorsAdmin", "Binary Authorization Attestor Admin", _ATTESTORS | _PROJECT_GET),
    (
        "binaryauthorization.attestorsEditor",
        "Binary Authorization Attestor Editor",
        _only(_ATTESTORS, f"{_CRUD} verifyImageAttested") | _PROJECT_GET,
    ),
    ("binaryauthorization.attestorsViewer", "Binary Authorization Attestor Viewer", _ATTESTOR_VIEWER | _PROJECT_GET),
    (
        "binaryauthorization.attestorsVerifier",
        "Binary Authorization Attestor Image Verifier",
        _only(_ATTESTORS, "get list verifyImageAttested") | _PROJECT_GET,
    ),
    (
        "logging.admin",
        "Logging Admin",
        _ENTRIES | _LOGS | _LOG_META_READ | _LOG_CONFIG | _LOG_VIEW_POLICIES | _QUERIES | _PRIVATE_LOGS | _PROJECT_GET,
    ),
    ("logging.viewer", "Logs Viewer", _LOG_VIEWER | _PROJECT_GET),
    ("logging.privateLogViewer", "Private Logs Viewer", _LOG_VIEWER | _PRIVATE_LOGS | _PROJECT_GET),
    (
        "logging.configWriter",
        "Logs Configuration Writer",
        _LOG_CONFIG | _LOG_META_READ | _only(_LOGS, "list") | _PROJECT_GET,
    ),
    ("logging.logWriter", "Logs Writer", _only(_ENTRIES, "create route")),
    ("logging.viewAccessor", "Logs View Accessor", frozenset({"logging.views.access", "logging.logEntries.download"})),
    ("secretmanager.admin", "Secret Manager Admin", _SECRETS | _VERSIONS | _SECRET_PLACES | _PROJECT_GET),
    ("secretmanager.viewer", "Secret Manager Viewer", _SECRET_VIEWER | _only(_SECRETS, "getIamPolicy") | _PROJECT_GET),
    ("secretmanager.secretAccessor", "Secret Manager Secret Accessor", _only(_VERSIONS, "access") | _PROJECT_GET),
    ("secretmanager.secretVersionAdder", "Secret Manager Secret Version Adder", _only(_VERSIONS, "add") | _PROJECT_GET),
    ("secretmanager.secretVersionManager", "Secret Manager Secret Version Manager", _SECRET_MANAGER | _PROJECT_GET),
)

PREDEFINED: Final = {
    f"roles/{name}": Role(f"roles/{name}", title, tuple(sorted(permissions))) for name, title, permissions in _TABLE
}
"""All predefined roles by their full name."""

PERMISSIONS: Final = frozenset(permission for role in PREDEFINED.values() for permission in role.permissions)
"""Every permission there is."""
